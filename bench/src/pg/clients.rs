//! The contestants that are libraries.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rust_decimal::Decimal;
use sqlx::postgres::{PgPool, PgPoolOptions};
use storage_core::{Amount, Clock as _, SystemClock};
use storage_pg::{Gather, PgOptions, PgStorage};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};

use super::Contestant;
use super::ground;
use super::scripts::Statements;
use super::work::{AMOUNT, Call, Operation, job};

/// A pool of connections that does the job.
#[derive(Debug)]
pub(super) enum Client {
    Storage { storage: Box<PgStorage>, amount: Amount },
    Sqlx { pool: PgPool, sent: Sent },
    Deadpool { pool: deadpool_postgres::Pool, sent: Sent },
    Queue { queue: Queue, sent: Sent },
}

/// What the peers send: storage-pg's statements, as if they stood in the program.
#[derive(Debug)]
pub(super) struct Sent {
    texts: BTreeMap<Operation, &'static str>,
    amount: Decimal,
    price: Decimal,
}

impl Sent {
    fn new(statements: &Statements) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|error: rust_decimal::Error| error.to_string());
        Ok(Self {
            texts: Operation::ALL.into_iter().map(|of| (of, &*statements.text(of).to_owned().leak())).collect(),
            amount: number(AMOUNT)?,
            price: number(job::PRICE)?,
        })
    }
    fn text(&self, operation: Operation) -> &'static str {
        self.texts.get(&operation).copied().unwrap_or_default()
    }
}

/// Parameters.
type Values = Vec<Box<dyn ToSql + Sync + Send>>;

/// The types of an operation's parameters: where the server would have to guess.
fn types(operation: Operation) -> &'static [Type] {
    match operation {
        Operation::GetBalance | Operation::GetUser => &[Type::INT8],
        Operation::AddBalance | Operation::SubtractBalance => &[
            Type::INT8,
            Type::NUMERIC,
            Type::TEXT,
            Type::UUID,
            Type::TIMESTAMPTZ,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::UUID,
        ],
        Operation::AddJob => &[
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::NUMERIC,
            Type::TEXT,
            Type::TIMESTAMPTZ,
            Type::UUID,
            Type::UUID,
            Type::TEXT,
            Type::UUID,
        ],
        Operation::RunJob => &[
            Type::TEXT,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT,
            Type::TIMESTAMPTZ,
            Type::UUID,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::UUID,
        ],
        Operation::Approve => &[
            Type::TEXT,
            Type::INT8,
            Type::TEXT,
            Type::TIMESTAMPTZ,
            Type::UUID,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::UUID,
        ],
        Operation::ListJobs => &[Type::TIMESTAMPTZ, Type::TEXT, Type::INT8, Type::INT8, Type::TEXT_ARRAY],
    }
}

/// The parameters of a call.
fn values(call: Call, sent: &Sent) -> Values {
    let Call { operation, user, id, key, unique } = call;
    let (at, nothing) = (UNIX_EPOCH + now(), None::<&'static str>);
    match operation {
        Operation::GetBalance | Operation::GetUser => vec![Box::new(user)],
        Operation::AddBalance | Operation::SubtractBalance => vec![
            Box::new(user),
            Box::new(sent.amount),
            Box::new(key),
            Box::new(unique),
            Box::new(at),
            Box::new(nothing),
            Box::new(nothing),
            Box::new(nothing),
            Box::new(unique),
        ],
        Operation::AddJob => vec![
            Box::new(user),
            Box::new(id),
            Box::new(job::MODEL_ID),
            Box::new(job::MODEL_NAME),
            Box::new(job::PARAMS),
            Box::new(sent.price),
            Box::new(nothing),
            Box::new(at),
            Box::new(unique),
            Box::new(unique),
            Box::new(key),
            Box::new(unique),
        ],
        Operation::RunJob => vec![
            Box::new(id),
            Box::new("running"),
            Box::new(None::<Vec<&'static str>>),
            Box::new(nothing),
            Box::new(at),
            Box::new(unique),
            Box::new(key),
            Box::new(vec!["pending"]),
            Box::new(unique),
        ],
        Operation::Approve => vec![
            Box::new(id),
            Box::new(None::<i64>),
            Box::new(nothing),
            Box::new(at),
            Box::new(unique),
            Box::new(key),
            Box::new(vec!["pending"]),
            Box::new(unique),
        ],
        Operation::ListJobs => vec![
            Box::new(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
            Box::new(""),
            Box::new(21_i64),
            Box::new(user),
            Box::new(Vec::<&'static str>::new()),
        ],
    }
}

fn borrowed(values: &Values) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect()
}

/// Looks at what a program would look at.
fn seen(operation: Operation, rows: &[Row]) -> Result<(), String> {
    let money = matches!(operation, Operation::GetBalance | Operation::AddBalance | Operation::SubtractBalance);
    for row in rows.iter().filter(|_| money) {
        std::hint::black_box(row.try_get::<_, Decimal>(0).map_err(|error| error.to_string())?);
    }
    if operation != Operation::GetBalance && rows.is_empty() {
        return Err(format!("{} did nothing", operation.name()));
    }
    Ok(())
}

/// tokio-postgres and no more: so many connections, first come, first served, each with its prepared statements.
#[derive(Debug)]
pub(super) struct Queue {
    turns: Semaphore,
    idle: Mutex<Vec<Prepared>>,
}

#[derive(Debug)]
struct Prepared {
    client: tokio_postgres::Client,
    statements: BTreeMap<Operation, tokio_postgres::Statement>,
}

impl Queue {
    #[expect(clippy::disallowed_methods, reason = "a peer, which uses named statements")]
    async fn new(url: &str, connections: u32, sent: &Sent) -> Result<Self, String> {
        let mut idle = Vec::new();
        for _ in 0..connections {
            let client = ground::client(url).await?;
            let mut statements = BTreeMap::new();
            for operation in Operation::ALL {
                let prepared = client.prepare_typed(sent.text(operation), types(operation)).await;
                statements.insert(operation, prepared.map_err(|error| format!("{}: {error:?}", operation.name()))?);
            }
            idle.push(Prepared { client, statements });
        }
        Ok(Self { turns: Semaphore::new(idle.len()), idle: Mutex::new(idle) })
    }

    #[expect(clippy::disallowed_methods, reason = "a peer, which uses named statements")]
    async fn rows(&self, operation: Operation, values: &Values) -> Result<Vec<Row>, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().pop().ok_or("a turn without a connection")?;
        let statement = connection.statements.get(&operation).ok_or("a statement that was not prepared")?;
        let rows = connection.client.query(statement, &borrowed(values)).await;
        idle().push(connection);
        rows.map_err(|error| format!("{error:?}"))
    }
}

impl Client {
    /// Connects; `None` for pgbench, which is a program of its own.
    pub(super) async fn connect(
        contestant: Contestant,
        url: &str,
        connections: u32,
        statements: &Statements,
    ) -> Result<Option<Self>, String> {
        let sent = Sent::new(statements)?;
        Ok(Some(match contestant {
            Contestant::Pgbench => return Ok(None),
            Contestant::Unnamed => {
                Self::storage(url, connections, storage_pg::Statements::Unnamed, Gather::WhenBusy).await?
            }
            Contestant::Prepared => {
                Self::storage(url, connections, storage_pg::Statements::Auto, Gather::WhenBusy).await?
            }
            Contestant::Alone => {
                Self::storage(url, connections, storage_pg::Statements::Prepared, Gather::Never).await?
            }
            Contestant::Sqlx => {
                let pool = PgPoolOptions::new()
                    .min_connections(connections)
                    .max_connections(connections)
                    .test_before_acquire(false)
                    .connect(url)
                    .await
                    .map_err(|error| format!("sqlx: {error}"))?;
                Self::Sqlx { pool, sent }
            }
            Contestant::Deadpool => {
                let config = url.parse().map_err(|error| format!("the URL: {error}"))?;
                let manager = deadpool_postgres::Manager::new(config, NoTls);
                let pool = deadpool_postgres::Pool::builder(manager)
                    .max_size(usize::try_from(connections).unwrap_or(1))
                    .build()
                    .map_err(|error| format!("deadpool: {error}"))?;
                Self::Deadpool { pool, sent }
            }
            Contestant::Queue => Self::Queue { queue: Queue::new(url, connections, &sent).await?, sent },
        }))
    }

    async fn storage(
        url: &str,
        connections: u32,
        statements: storage_pg::Statements,
        gather: Gather,
    ) -> Result<Self, String> {
        let of_store = |error: storage_core::Error| error.report().to_string();
        let mut options = PgOptions::new(url);
        (options.min_connections, options.max_connections) = (connections, connections);
        (options.statements, options.gather) = (statements, gather);
        let storage = PgStorage::open(options).await.map_err(|error| of_store(error.into()))?;
        Ok(Self::Storage { storage: Box::new(storage), amount: AMOUNT.parse().map_err(of_store)? })
    }

    /// Makes a call.
    #[expect(clippy::disallowed_methods, reason = "peers, which use named statements")]
    pub(super) async fn call(&self, call: Call) -> Result<(), String> {
        let operation = call.operation;
        match self {
            Self::Storage { storage, amount } => {
                call.on(storage, *amount).await.map_err(|error| error.report().to_string())
            }
            Self::Queue { queue, sent } => seen(operation, &queue.rows(operation, &values(call, sent)).await?),
            Self::Deadpool { pool, sent } => {
                let client = pool.get().await.map_err(|error| error.to_string())?;
                let values = values(call, sent);
                let rows = async {
                    let statement = client.prepare_typed_cached(sent.text(operation), types(operation)).await?;
                    client.query(&statement, &borrowed(&values)).await
                };
                seen(operation, &rows.await.map_err(|error| format!("{error:?}"))?)
            }
            Self::Sqlx { pool, sent } => sqlx_call(pool, sent, call).await,
        }
    }
}

async fn sqlx_call(pool: &PgPool, sent: &Sent, call: Call) -> Result<(), String> {
    let Call { operation, user, key, unique, .. } = call;
    let text = sent.text(operation);
    let balance: Result<Option<Decimal>, _> = match operation {
        Operation::GetBalance => sqlx::query_scalar(text).bind(user).fetch_optional(pool).await,
        Operation::AddBalance | Operation::SubtractBalance => {
            sqlx::query_scalar(text)
                .bind(user)
                .bind(sent.amount)
                .bind(key)
                .bind(unique)
                .bind(OffsetDateTime::UNIX_EPOCH + now())
                .bind(None::<&str>)
                .bind(None::<&str>)
                .bind(None::<&str>)
                .bind(unique)
                .fetch_optional(pool)
                .await
        }
        other => return Err(format!("sqlx was not taught {}", other.name())),
    };
    balance.map(drop).map_err(|error| error.to_string())
}

/// The time since 1970.
fn now() -> Duration {
    Duration::from_micros(u64::try_from(SystemClock.now().micros()).unwrap_or(0))
}
