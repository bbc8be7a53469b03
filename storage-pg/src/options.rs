//! How a database is opened.

use std::time::Duration;

use storage_core::Environment;

/// How statements reach the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Statements {
    /// Prepared on a connection that is proved to be direct, unnamed on any other.
    #[default]
    Auto,
    /// Unnamed, parsed at each use: right behind every pooler.
    Unnamed,
    /// Prepared once for each connection: faster, and only for direct connections. A pooler that shares connections
    /// among clients would mix them up, so a store does not open behind one.
    Prepared,
}

/// When operations of many callers are put into one statement: balances that are asked for, credits and debits. Each
/// caller has an answer of its own all the same. Never where the store is sharded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gather {
    /// Changes while every connection is in use, reads while half of them are.
    #[default]
    WhenBusy,
    /// Never.
    Never,
    /// Even when a connection is free, which is slower; for tests.
    Always,
}

/// Whether a call whose case is plain goes by one statement that also decides. The answers are the same. Never where the store is
/// sharded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastForms {
    /// The operations that have such a statement.
    #[default]
    WherePlain,
    /// None: each call is decided here, which is slower; to measure by.
    Never,
}

/// What to do when the store was founded with another time zone or retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyMismatch {
    /// Refuse with `SchemaMismatch`.
    #[default]
    Refuse,
    /// Store the given policy from now on. Programs that have the store open keep the old one until they open it anew.
    Adopt,
}

/// The limits of every wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long connecting to one host may take. Default 5 s; `connect_timeout` of the URL wins.
    pub connect: Duration,
    /// How long an operation waits for a connection of the pool. Default 5 s.
    pub pool: Duration,
    /// How long one statement may run on the server, and how long its answer is waited for. Default 10 s.
    pub statement: Duration,
    /// How long a statement waits for a row lock. Default 5 s.
    pub lock: Duration,
    /// How long an operation may take, all its attempts together. Default 15 s.
    pub operation: Duration,
}

impl Limits {
    /// How much of what an operation has left it may wait for its turn at a row. After that the server is to give up on the row's lock
    /// before this program gives up on the server, so that nobody is left in doubt about a change that only waited.
    pub(crate) fn for_turn(&self, left: Duration) -> Duration {
        // The server begins to count a little later than we do.
        let for_row = self.lock + self.lock / 10;
        if self.operation > for_row { left.saturating_sub(for_row) } else { left / 2 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            pool: Duration::from_secs(5),
            statement: Duration::from_secs(10),
            lock: Duration::from_secs(5),
            operation: Duration::from_secs(15),
        }
    }
}

/// How a database is opened.
#[derive(Clone)]
pub struct PgOptions {
    /// `postgresql://user:password@host:port/database?words`. See the crate's documentation for the words.
    pub url: String,
    /// The schema that holds the store's tables. Default `public`.
    pub schema: String,
    /// Clock, ids and policy.
    pub environment: Environment,
    /// Connections kept open. Default 1.
    pub min_connections: u32,
    /// The most connections. Default 10.
    pub max_connections: u32,
    /// How statements reach the server. Default: prepared where that is proved to be right.
    pub statements: Statements,
    /// When operations of many callers are put into one statement. Default: while connections are scarce.
    pub gather: Gather,
    /// Whether a plain case goes by one statement. Default: where there is one.
    pub fast_forms: FastForms,
    /// The limits of every wait.
    pub limits: Limits,
    /// What to do when the store was founded with another time zone or retention. Default: refuse.
    pub on_policy_mismatch: PolicyMismatch,
    /// Why this backend was chosen, for [`storage_core::BackendInfo`].
    pub reason: String,
    /// What the chooser of this backend found amiss, put before the warnings of its own in
    /// [`storage_core::BackendInfo`].
    pub warnings: Vec<String>,
}

impl PgOptions {
    /// The defaults, for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "public".to_owned(),
            environment: Environment::default(),
            min_connections: 1,
            max_connections: 10,
            statements: Statements::default(),
            gather: Gather::default(),
            fast_forms: FastForms::default(),
            limits: Limits::default(),
            on_policy_mismatch: PolicyMismatch::default(),
            reason: "opened directly".to_owned(),
            warnings: Vec::new(),
        }
    }
}

impl std::fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("PgOptions")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .field("statements", &self.statements)
            .field("gather", &self.gather)
            .field("fast_forms", &self.fast_forms)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
