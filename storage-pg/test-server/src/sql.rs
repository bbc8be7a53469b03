//! A blocking session: a thread with a runtime of its own, so that it can be used inside another runtime too.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The rows of an answer, each column as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) socket_directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Why a statement failed.
#[derive(Debug)]
pub(crate) struct SqlError {
    /// The SQLSTATE, when the server answered.
    pub(crate) code: Option<String>,
    text: String,
}

impl SqlError {
    fn local(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into() }
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            let code = answer.code().code();
            return Self { code: Some(code.to_owned()), text: format!("{} (SQLSTATE {code})", answer.message()) };
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::local(text)
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<SqlError> for String {
    fn from(error: SqlError) -> Self {
        error.text
    }
}

type Request = (String, mpsc::Sender<Result<Rows, SqlError>>);

/// One connection. Closed, and waited for, when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// `limit` bounds each statement; connecting is always bounded.
    pub(crate) fn open(login: &Login, database: &str, limit: Option<Duration>) -> Result<Self, SqlError> {
        let mut config = Config::new();
        config
            .host_path(&login.socket_directory)
            .port(login.port)
            .user(&login.user)
            .password(&login.password)
            .dbname(database)
            .application_name("pg-test-server");
        let (requests, inbox) = mpsc::channel::<Request>();
        let (opened, wait_for_open) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("pg-test-server".to_owned())
            .spawn(move || serve(&config, limit, &inbox, &opened))
            .map_err(|e| SqlError::local(format!("cannot start a thread: {e}")))?;
        let session = Self { requests: Some(requests), thread: Some(thread) };
        wait_for_open.recv().map_err(|_| SqlError::local("the session ended early"))??;
        Ok(session)
    }

    /// Runs statements through the simple query protocol.
    pub(crate) fn query(&self, sql: &str) -> Result<Rows, SqlError> {
        let gone = || SqlError::local("the session has ended");
        let (reply, answer) = mpsc::channel();
        self.requests.as_ref().ok_or_else(gone)?.send((sql.to_owned(), reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    config: &Config,
    limit: Option<Duration>,
    inbox: &mpsc::Receiver<Request>,
    opened: &mpsc::Sender<Result<(), SqlError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = opened.send(Err(SqlError::local(format!("cannot start a runtime: {e}"))));
            return;
        }
    };
    let connected =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), config.connect(NoTls)).await });
    let (client, connection) = match connected {
        Ok(Ok(pair)) => pair,
        failed => {
            let error = failed.map_or_else(
                |_| SqlError::local("no connection within 30 s"),
                |refused| refused.err().map_or_else(|| SqlError::local("no connection"), SqlError::from),
            );
            let _ = opened.send(Err(error));
            return;
        }
    };
    let connection = runtime.spawn(connection);
    let _ = opened.send(Ok(()));
    for (sql, reply) in inbox {
        let answer = runtime.block_on(async {
            match limit {
                Some(limit) => tokio::time::timeout(limit, query(&client, &sql))
                    .await
                    .unwrap_or_else(|_| Err(SqlError::local(format!("no answer within {} s", limit.as_secs())))),
                None => query(&client, &sql).await,
            }
        });
        let _ = reply.send(answer);
    }
    drop(client);
    // The connection ends by itself once it has said goodbye; a stopped server must not keep us.
    let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), connection).await });
}

async fn query(client: &Client, sql: &str) -> Result<Rows, SqlError> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        })
        .collect())
}
