//! Imports over lines that are slow, or lost at the worst moment.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pg_test_server::{Database, Server};
use storage_core::{
    AddGenerationJob, AddPayment, Generation, ImportOutcome, ImportRecord, Job, Params, Payment, ResultUrls, Storage,
    Store as _, Timestamp, UserId,
};
use storage_pg::{Limits, PgOptions, PgStorage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a line does to those who speak over it.
#[derive(Debug, Default)]
struct Line {
    /// How long whatever the client says is under way.
    delay: Duration,
    /// So many commits reach the server, and their answers nobody.
    lost_commits: AtomicU32,
}

impl Line {
    fn loses(&self, said: &[u8]) -> bool {
        let is_commit = said.windows(7).any(|bytes| bytes == b"COMMIT\0");
        let one_less = |left: u32| left.checked_sub(1);
        is_commit && self.lost_commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}

/// A proxy in front of the server; answers its port.
async fn through(server_port: u16, line: Arc<Line>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let (line, lost) = (Arc::clone(&line), Arc::new(AtomicBool::new(false)));
            let losing = Arc::clone(&lost);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    tokio::time::sleep(line.delay).await;
                    if line.loses(&buffer[..count]) {
                        losing.store(true, Ordering::SeqCst);
                    }
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    // The server has done it; from here on the line is dead.
                    if lost.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

async fn open(database: &Database, line: Arc<Line>, limits: Limits) -> PgStorage {
    let url = database.url();
    let port = Server::shared().unwrap().port();
    let url = url.replace(&format!(":{port}/"), &format!(":{}/", through(port, line).await));
    assert_ne!(url, database.url());
    PgStorage::open(PgOptions { max_connections: 1, limits, ..PgOptions::new(url) }).await.unwrap()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn balances(count: i64) -> Vec<ImportRecord> {
    let opening = |id| ImportRecord::Balance { user: user(id), balance: "1".parse().unwrap(), created_at: None };
    (1..=count).map(opening).collect()
}

/// One record of each kind, of one user.
fn one_of_each(id: i64) -> Vec<ImportRecord> {
    let (user, friend, at) = (user(id), user(id + 1000), Timestamp::MIN);
    let (model_id, model_name) = ("m".parse().unwrap(), "M".parse().unwrap());
    let add = AddGenerationJob {
        user,
        job: None,
        external_task_id: Some(format!("task {id}").parse().unwrap()),
        model_id,
        model_name,
        params: Params::from_json("{}").unwrap(),
        price: "1".parse().unwrap(),
        key: None,
    };
    let generation = Generation {
        id: "g".parse().unwrap(),
        model_id: add.model_id.clone(),
        model_name: add.model_name.clone(),
        params: add.params.clone(),
        result_urls: ResultUrls::default(),
        price: add.price,
        at,
    };
    let paid = AddPayment::new(user, "1".parse().unwrap(), "card".parse().unwrap());
    vec![
        ImportRecord::Language { user, language: "uk".parse().unwrap() },
        ImportRecord::Gift { user },
        ImportRecord::Quota { user, date: None, used: 0, bank: 7 },
        ImportRecord::AdminLimit { user, limit: "50".parse().unwrap() },
        ImportRecord::Spent { user, spent: "20".parse().unwrap() },
        ImportRecord::Balance { user, balance: "5".parse().unwrap(), created_at: None },
        ImportRecord::Generation { user, generation },
        ImportRecord::Job(Job::create(add, format!("job {id}").parse().unwrap(), at)),
        ImportRecord::Payment(Payment::create(paid, format!("p {id}").parse().unwrap(), at)),
        ImportRecord::Referral { user, referrer: friend, since: Some(at) },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_over_a_slow_line_comes_to_its_end() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let line = Arc::new(Line { delay: Duration::from_millis(25), ..Line::default() });
    // All of them in one transaction would be under way for nearly twice the limit.
    let limits =
        Limits { statement: Duration::from_millis(1200), operation: Duration::from_secs(3), ..Limits::default() };
    let storage = open(&database, line, limits).await;
    let outcomes = storage.import_records(balances(40)).await.unwrap();
    assert_eq!(outcomes, vec![ImportOutcome::Added; 40]);
    let again = storage.import_records(balances(3)).await.unwrap();
    assert_eq!(again, vec![ImportOutcome::Same; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_import_added_is_added_although_the_commits_answer_was_lost() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    for lost in 1..=3 {
        let line = Arc::new(Line { lost_commits: AtomicU32::new(lost), ..Line::default() });
        let storage = open(&database, Arc::clone(&line), Limits::default()).await;
        let first = i64::from(lost) * 10;
        let mut records = one_of_each(first);
        // Known before, and answered so although the attempt that saw it was lost.
        records.extend([ImportRecord::Gift { user: user(first) }, ImportRecord::Gift { user: user(first + 1) }]);
        let outcomes = storage.import_records(records).await.unwrap();
        let mut expected = vec![ImportOutcome::Added; 12];
        expected[10] = ImportOutcome::Same;
        assert_eq!(outcomes, expected, "{lost} commits lost");
        line.lost_commits.store(0, Ordering::SeqCst);
        let storage: &dyn Storage = &storage;
        assert!(storage.audit(storage_core::AuditScope::Everyone).await.unwrap().is_clean());
    }
}
