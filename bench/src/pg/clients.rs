//! The contestants that are libraries.

use std::time::{Duration, UNIX_EPOCH};

use rust_decimal::Decimal;
use sqlx::postgres::{PgPool, PgPoolOptions};
use storage_core::{AddBalance, Amount, Balances as _, Clock as _, SystemClock, UserId};
use storage_pg::{PgOptions, PgStorage};
use time::OffsetDateTime;
use tokio_postgres::NoTls;

use super::scripts::Statements;
use super::{AMOUNT, Contestant};
use crate::draw::Draw;

/// A pool of connections that does the job.
#[derive(Debug)]
pub(super) enum Client {
    Storage { storage: Box<PgStorage>, amount: Amount },
    Sqlx { pool: PgPool, sent: Sent },
    Deadpool { pool: deadpool_postgres::Pool, sent: Sent },
}

/// What the peers send: storage-pg's statements, as if they stood in the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    get_balance: &'static str,
    add_balance: &'static str,
    amount: Decimal,
}

impl Client {
    /// Connects; `None` for pgbench, which is a program of its own.
    pub(super) async fn connect(
        contestant: Contestant,
        url: &str,
        connections: u32,
        statements: &Statements,
    ) -> Result<Option<Self>, String> {
        let sent = || {
            Ok::<_, String>(Sent {
                get_balance: statements.get_balance.clone().leak(),
                add_balance: statements.add_balance.clone().leak(),
                amount: AMOUNT.parse().map_err(|error: rust_decimal::Error| error.to_string())?,
            })
        };
        Ok(Some(match contestant {
            Contestant::Pgbench => return Ok(None),
            Contestant::Unnamed => Self::storage(url, connections, storage_pg::Statements::Unnamed).await?,
            Contestant::Prepared => Self::storage(url, connections, storage_pg::Statements::Prepared).await?,
            Contestant::Sqlx | Contestant::SqlxTested => {
                let pool = PgPoolOptions::new()
                    .min_connections(connections)
                    .max_connections(connections)
                    .test_before_acquire(contestant == Contestant::SqlxTested)
                    .connect(url)
                    .await
                    .map_err(|error| format!("sqlx: {error}"))?;
                Self::Sqlx { pool, sent: sent()? }
            }
            Contestant::Deadpool => {
                let config = url.parse().map_err(|error| format!("the URL: {error}"))?;
                let manager = deadpool_postgres::Manager::new(config, NoTls);
                let pool = deadpool_postgres::Pool::builder(manager)
                    .max_size(usize::try_from(connections).unwrap_or(1))
                    .build()
                    .map_err(|error| format!("deadpool: {error}"))?;
                Self::Deadpool { pool, sent: sent()? }
            }
        }))
    }

    async fn storage(url: &str, connections: u32, statements: storage_pg::Statements) -> Result<Self, String> {
        let of_store = |error: storage_core::Error| error.report().to_string();
        let mut options = PgOptions::new(url);
        (options.min_connections, options.max_connections) = (connections, connections);
        options.statements = statements;
        let storage = PgStorage::open(options).await.map_err(|error| of_store(error.into()))?;
        Ok(Self::Storage { storage: Box::new(storage), amount: AMOUNT.parse().map_err(of_store)? })
    }

    /// Reads a user's balance.
    #[expect(clippy::disallowed_methods, reason = "a peer, which uses named statements")]
    pub(super) async fn get_balance(&self, user: i64) -> Result<(), String> {
        match self {
            Self::Storage { storage, .. } => {
                let balance = async { storage.get_balance(UserId::new(user)?).await }.await;
                balance.map(drop).map_err(|error| error.report().to_string())
            }
            Self::Sqlx { pool, sent } => {
                let balance: Result<Option<Decimal>, _> =
                    sqlx::query_scalar(sent.get_balance).bind(user).fetch_optional(pool).await;
                balance.map(drop).map_err(|error| error.to_string())
            }
            Self::Deadpool { pool, sent } => {
                let client = pool.get().await.map_err(|error| error.to_string())?;
                let row = async {
                    let statement = client.prepare_cached(sent.get_balance).await?;
                    let row = client.query_opt(&statement, &[&user]).await?;
                    row.map(|row| row.try_get::<_, Decimal>(0)).transpose()
                };
                row.await.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// Credits a user, under a fresh key.
    #[expect(clippy::disallowed_methods, reason = "a peer, which uses named statements")]
    pub(super) async fn add_balance(&self, user: i64, draw: &mut Draw) -> Result<(), String> {
        let key = format!("{:016x}", draw.number());
        match self {
            Self::Storage { storage, amount } => {
                let receipt = async {
                    storage.add_balance(AddBalance::new(UserId::new(user)?, *amount).with_key(key.parse()?)).await
                };
                receipt.await.map(drop).map_err(|error| error.report().to_string())
            }
            Self::Sqlx { pool, sent } => {
                let now = OffsetDateTime::UNIX_EPOCH + now();
                let balance: Result<Decimal, _> = sqlx::query_scalar(sent.add_balance)
                    .bind(user)
                    .bind(sent.amount)
                    .bind(&key)
                    .bind(draw.uuid())
                    .bind(now)
                    .bind(None::<&str>)
                    .bind(None::<&str>)
                    .bind(None::<&str>)
                    .bind(draw.uuid())
                    .fetch_one(pool)
                    .await;
                balance.map(drop).map_err(|error| error.to_string())
            }
            Self::Deadpool { pool, sent } => {
                let (operation, arguments, now, nothing) = (draw.uuid(), draw.uuid(), UNIX_EPOCH + now(), None::<&str>);
                let client = pool.get().await.map_err(|error| error.to_string())?;
                let row = async {
                    let statement = client.prepare_cached(sent.add_balance).await?;
                    client
                        .query_one(
                            &statement,
                            &[&user, &sent.amount, &key, &operation, &now, &nothing, &nothing, &nothing, &arguments],
                        )
                        .await?
                        .try_get::<_, Decimal>(0)
                };
                row.await.map(drop).map_err(|error| error.to_string())
            }
        }
    }
}

/// The time since 1970.
fn now() -> Duration {
    Duration::from_micros(u64::try_from(SystemClock.now().micros()).unwrap_or(0))
}
