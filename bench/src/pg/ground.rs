//! Where the contest takes place: a server of our own or a given database, migrated and filled.

use std::time::Duration;

use clap::ValueEnum;
use pg_test_server::{Database, Options, PgBouncer, Server};
use storage_pg::PgOptions;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::work::Stock;

/// What a server must have besides its defaults: whole statements, so that they can be compared.
pub(super) const SETTINGS: [(&str, &str); 1] = [("track_activity_query_size", "16kB")];

/// Users as the store itself would have made them: with the ledger row and the key that opened the balance.
const FILL: &str = "
    INSERT INTO public.users (id, balance, ledger_rows, last_operation)
        SELECT n, 1000, 1, gen_random_uuid() FROM generate_series(1, USERS) n;
    INSERT INTO public.operations (user_id, seq, operation_id, kind, balance_change, held_change, balance_after,
            held_after, key, created_at)
        SELECT id, 1, last_operation, 'opening', balance, 0, balance, 0, last_operation::text, created_at
        FROM public.users;
    INSERT INTO public.operation_keys (user_id, space, key, arguments, operation_id, answer, answer_operation,
            answer_balance)
        SELECT id, 'operation', last_operation::text, gen_random_uuid(), last_operation, 'money', last_operation,
            balance
        FROM public.users;
    INSERT INTO public.generation_jobs (user_id, job_id, model_id, model_name, params, price, status, created_at,
            updated_at, created_with, last_operation)
        SELECT n % USERS + 1, 'job-' || n, 'model-7', 'Model Seven',
            '{\"prompt\": \"a cat on a roof at night\", \"steps\": 30}', 0.5, 'pending', t, t, gen_random_uuid(),
            gen_random_uuid()
        FROM generate_series(1, JOBS) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO public.payments (user_id, payment_id, amount, payment_method, status, created_at, updated_at,
            last_operation)
        SELECT n % USERS + 1, 'payment-' || n, 0.01, 'card', 'pending', t, t, gen_random_uuid()
        FROM generate_series(1, PAYMENTS) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO public.id_routes SELECT 'job', job_id, user_id FROM public.generation_jobs;
    INSERT INTO public.id_routes SELECT 'payment', payment_id, user_id FROM public.payments";

/// What the fill writes, children before their users.
const TABLES: [&str; 6] = ["operation_keys", "operations", "generation_jobs", "payments", "id_routes", "users"];

/// How long the migration waits for locks.
const WAIT: Duration = Duration::from_secs(10);

/// How clients come to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// TCP on this machine
    Tcp,
    /// A Unix socket
    Socket,
    /// Through `PgBouncer` in transaction mode, every statement unnamed
    Pooled,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Socket => "Unix socket",
            Self::Pooled => "PgBouncer",
        }
    }
}

/// A database, and its server when that is ours.
#[derive(Debug)]
pub(super) struct Ground {
    url: String,
    own: Option<Own>,
}

/// In this order: the pooler goes before the database, and that before its server.
#[derive(Debug)]
struct Own {
    pooler: Option<PgBouncer>,
    database: Database,
    server: Server,
}

impl Ground {
    /// The database of that URL, or one on a server of our own that writes through to the disk, with a pooler if one is
    /// wanted.
    pub(super) fn new(url: Option<String>, connections: u32, pooled: bool) -> Result<Self, String> {
        if let Some(url) = url {
            return Ok(Self { url, own: None });
        }
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Every contestant keeps its connections while the others have their turns.
        let max_connections = u16::try_from(connections.saturating_mul(12).saturating_add(40)).unwrap_or(u16::MAX);
        let server = Server::start(Options {
            fsync: true,
            settings,
            max_connections: max_connections.max(100),
            ..Options::default()
        })?;
        let database = server.create_empty_database()?;
        let pooler = if pooled { Some(PgBouncer::start(&server)?) } else { None };
        Ok(Self { url: database.url(), own: Some(Own { pooler, database, server }) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The database by another way, which only a server of our own has.
    pub(super) fn by(&self, way: Way) -> Result<String, String> {
        let known = self.own.as_ref().and_then(|own| match way {
            Way::Tcp => Some(own.database.url()),
            Way::Socket => Some(own.database.socket_url()),
            Way::Pooled => Some(own.pooler.as_ref()?.url(own.database.name())),
        });
        match known {
            None if way == Way::Tcp => Ok(self.url.clone()),
            known => known.ok_or_else(|| format!("--url says the way: there is no {} beside it", way.name())),
        }
    }

    /// The main process of the server, when it is ours.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(|own| own.server.pid().ok())
    }

    /// Makes the tables.
    pub(super) async fn migrate(&self) -> Result<(), String> {
        let migrated = storage_pg::migrate(&PgOptions::new(self.url.clone()), WAIT).await;
        migrated.map(drop).map_err(|error| storage_core::Error::from(error).report().to_string())
    }

    /// Puts users, jobs and payments in, into a store without any, and lets the server tidy up.
    pub(super) async fn fill(&self, stock: &Stock) -> Result<(), String> {
        let client = client(&self.url).await?;
        let told = |error: tokio_postgres::Error| format!("the store could not be filled: {error:?}");
        let found = client.simple_query("SELECT id FROM public.users WHERE id <> 1 LIMIT 1").await.map_err(told)?;
        if found.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))) {
            return Err("the database holds users already: give an empty one".to_owned());
        }
        // The one user that the capture made.
        for table in TABLES {
            let column = if table == "users" { "id" } else { "user_id" };
            client.batch_execute(&format!("DELETE FROM public.{table} WHERE {column} = 1")).await.map_err(told)?;
        }
        let text = FILL
            .replace("USERS", &stock.users.to_string())
            .replace("JOBS", &stock.jobs.to_string())
            .replace("PAYMENTS", &stock.payments.to_string());
        client.batch_execute(&text).await.map_err(told)?;
        for table in TABLES {
            client.batch_execute(&format!("VACUUM ANALYZE public.{table}")).await.map_err(told)?;
        }
        match &self.own {
            Some(own) => own.server.execute("postgres", "CHECKPOINT"),
            None => Ok(()),
        }
    }
}

/// A connection for a moment.
pub(super) async fn client(url: &str) -> Result<tokio_postgres::Client, String> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.map_err(|error| format!("no connection: {error:?}"))?;
    tokio::spawn(connection);
    Ok(client)
}
