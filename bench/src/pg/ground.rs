//! Where the contest takes place: a server of our own or a given database, migrated and filled.

use std::time::Duration;

use pg_test_server::{Database, Options, Server};
use storage_pg::PgOptions;
use tokio_postgres::{NoTls, SimpleQueryMessage};

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
        FROM public.users";

/// How long the migration waits for locks.
const WAIT: Duration = Duration::from_secs(10);

/// A database, and its server when that is ours.
#[derive(Debug)]
pub(super) struct Ground {
    url: String,
    /// In this order: the database goes before its server.
    own: Option<(Database, Server)>,
}

impl Ground {
    /// The database of that URL, or one on a server of our own that writes through to the disk.
    pub(super) fn new(url: Option<String>, connections: u32) -> Result<Self, String> {
        if let Some(url) = url {
            return Ok(Self { url, own: None });
        }
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Every contestant keeps its connections while the others have their turns.
        let max_connections = u16::try_from(connections.saturating_mul(6).saturating_add(20)).unwrap_or(u16::MAX);
        let server = Server::start(Options {
            fsync: true,
            settings,
            max_connections: max_connections.max(100),
            ..Options::default()
        })?;
        let database = server.create_empty_database()?;
        Ok(Self { url: database.url(), own: Some((database, server)) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The main process of the server, when it is ours.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(|(_, server)| server.pid().ok())
    }

    /// Makes the tables.
    pub(super) async fn migrate(&self) -> Result<(), String> {
        let migrated = storage_pg::migrate(&PgOptions::new(self.url.clone()), WAIT).await;
        migrated.map(drop).map_err(|error| storage_core::Error::from(error).report().to_string())
    }

    /// Puts the users in, into a store without any, and lets the server tidy up.
    pub(super) async fn fill(&self, users: u32) -> Result<(), String> {
        let client = client(&self.url).await?;
        let told = |error: tokio_postgres::Error| format!("the store could not be filled: {error:?}");
        let found = client.simple_query("SELECT id FROM public.users WHERE id <> 1 LIMIT 1").await.map_err(told)?;
        if found.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))) {
            return Err("the database holds users already: give an empty one".to_owned());
        }
        // The one user that the capture made.
        client
            .batch_execute(
                "DELETE FROM public.operation_keys WHERE user_id = 1; DELETE FROM public.operations WHERE user_id = 1;
                 DELETE FROM public.users WHERE id = 1",
            )
            .await
            .map_err(told)?;
        client.batch_execute(&FILL.replace("USERS", &users.to_string())).await.map_err(told)?;
        for table in ["users", "operations", "operation_keys"] {
            client.batch_execute(&format!("VACUUM ANALYZE public.{table}")).await.map_err(told)?;
        }
        match &self.own {
            Some((_, server)) => server.execute("postgres", "CHECKPOINT"),
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
