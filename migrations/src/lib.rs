//! The schema of the PostgreSQL backend: the migrations, compiled in, and how they are applied.
//!
//! [`inspect`] tells the [`State`] of a schema without a lock. [`migrate`] applies all that is pending in one
//! transaction: whatever is killed and whenever, all of it is there or nothing. What no transaction can hold, an index that is built beside
//! writers or rows that are filled in pieces, comes after it, and the same call goes on where one was killed. [`adopt`] does the same in
//! a schema that holds the earlier system's tables, and keeps those as `legacy_...`.
//!
//! Everything needs one connection and leaves no trace on it: no named statement, no setting, no lock that outlives the
//! transaction. So it works through a pooler in transaction mode, with any number of programs that start together.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use migrations::{Schema, State, inspect, migrate};
//!
//! # async fn example(mut client: tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let schema = Schema::new("public")?;
//! if let State::Current { version } = inspect(&client, &schema).await? {
//!     println!("version {version}, nothing to do");
//! } else {
//!     let outcome = migrate(&mut client, &schema, Duration::from_secs(60)).await?;
//!     println!("version {}, before it {}", outcome.to, outcome.from);
//! }
//! # Ok(()) }
//! ```
//!
//! A program has `storage_pg::migrate`, which brings the connection, and a person `storage migrate`.
//!
//! To add a migration: a file `sql/V<n>__<what>.sql`, what it adds to the list in `shape.rs`, a line in the changelog. When programs of
//! an earlier version go on working with the result (a column that has a default, an index, a table of its own), a line of the file says
//! since which: `-- works since: 4`. Without it they are locked out. What is to be done beside working programs stands behind the line
//! `-- outside of the transaction`: `CREATE INDEX CONCURRENTLY`, `ALTER TABLE ... VALIDATE CONSTRAINT`, and, each after a line
//! `-- until nothing is left`, updates of some rows at a time. Each such statement ends with `;` at the end of a line.
//! Rows that a migration fills count as changed by hand: their `updated_at` moves (V3).
//! A file that was ever released stays as it is, to the byte: the history keeps its checksum.

mod adopt;
mod error;
mod moved;
mod outside;
mod plan;
mod reader;
mod rights;
mod run;
mod schema;
mod shape;
mod shard;
mod state;

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::reader::Reader;

pub use adopt::{Adopted, LEGACY_PREFIX};
pub use error::Error;
pub use moved::{MOVED_SQLSTATE, Remark};
pub use plan::{HISTORY_TABLE, Plan, Step};
pub use reader::PIN;
pub use rights::Surroundings;
pub use run::Outcome;
pub use schema::{InvalidSchema, Schema};
pub use shape::Addition;
pub use shard::{Placed, Placement, Sharding};
pub use state::State;

/// How long the server may take for a look at its catalog, or for a lock that is not waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Waits for such an answer, and not for ever.
pub(crate) async fn answered<T, E>(asking: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    timeout(ANSWER, asking).await.map_or(Err(Error::Silent(ANSWER)), |answer| Ok(answer?))
}

/// The migrations of this program, in order.
pub fn steps() -> Vec<Step> {
    Plan::embedded().steps()
}

/// The tables that these versions make, and those of earlier versions that they add something to, each in order.
pub fn tables_of(versions: &[i32]) -> (Vec<&'static str>, Vec<&'static str>) {
    let plan = Plan::embedded();
    let first = versions.iter().min().copied().unwrap_or(i32::MAX);
    let (old, mut made, mut changed) = (plan.tables(first - 1), Vec::new(), Vec::new());
    for addition in plan.additions().iter().filter(|addition| versions.contains(&addition.version)) {
        let list = if old.contains(addition.table) { &mut changed } else { &mut made };
        if !list.contains(&addition.table) {
            list.push(addition.table);
        }
    }
    (made, changed)
}

/// Since which version programs work with a schema that this program migrated: those before it are locked out.
pub fn works_since() -> i32 {
    Plan::embedded().works_since()
}

/// The version that this program needs.
pub fn latest() -> i32 {
    Plan::embedded().latest()
}

/// Tells what stands in the schema: no lock, no write, two round trips at most, with the right to read alone. The client is in no
/// transaction.
pub async fn inspect(client: &Client, schema: &Schema) -> Result<State, Error> {
    Plan::embedded().inspect(client, schema).await
}

/// Applies what is pending, in one transaction up to the first version that has steps outside of it, and creates the schema when it is
/// missing.
///
/// A schema that is current is answered at once, whoever works in it. Of several runners one does the work, the others
/// wait for at most about `wait` and find it done. A dropped future leaves nothing behind but what the state tells.
pub async fn migrate(client: &mut Client, schema: &Schema, wait: Duration) -> Result<Outcome, Error> {
    Plan::embedded().migrate(client, schema, wait).await
}

/// Renames the earlier system's tables, with their indexes, constraints and sequences, to `legacy_...`, and migrates,
/// in one transaction. Rows, triggers and functions stay as they are, and nothing is dropped.
///
/// Repeating it is harmless and says so in [`Adopted::already`].
pub async fn adopt(client: &mut Client, schema: &Schema, wait: Duration) -> Result<Adopted, Error> {
    Plan::embedded().adopt(client, schema, wait).await
}

/// Which adopted tables exist in the schema, by the names that they have now.
pub async fn adopted_tables(client: &Client, schema: &Schema) -> Result<Vec<String>, Error> {
    answered(adopt::adopted_tables(Reader::Alone(client), schema)).await
}

/// Looks around the store's tables: what stands in their place, hides their rows, or runs in every change. Changes nothing; the client
/// is in no transaction.
pub async fn surroundings(client: &Client, schema: &Schema) -> Result<Surroundings, Error> {
    answered(rights::surroundings(client, schema)).await
}

/// The SQL that gives a role the least rights to run a store. The owner of the tables runs it.
pub fn grants(schema: &Schema, role: &str) -> String {
    rights::grants(schema, role)
}

/// Tells how the schema's tables are spread over the nodes of a sharding engine. Changes nothing.
pub async fn sharding(client: &Client, schema: &Schema) -> Result<Sharding, Error> {
    answered(shard::look(client, schema)).await
}

/// Spreads the tables of a migrated schema over the nodes, all in one transaction; answers which tables were spread. Without
/// an engine, and where everything is in its place, it does nothing. Waits at most about `wait` for others.
pub async fn shard(client: &mut Client, schema: &Schema, wait: Duration) -> Result<Vec<&'static str>, Error> {
    shard::apply(client, schema, wait).await
}

/// Changes the mark of a store whose contents were moved; answers the other place that a present mark names, and then
/// nothing was changed. Waits at most about `wait` for whoever changes something.
pub async fn remark(
    client: &mut Client,
    schema: &Schema,
    remark: Remark<'_>,
    wait: Duration,
) -> Result<Option<String>, Error> {
    moved::apply(client, schema, remark, wait).await
}

/// The functions of the crate, for these migrations.
impl Plan {
    /// See [`inspect`](crate::inspect).
    pub async fn inspect(&self, client: &Client, schema: &Schema) -> Result<State, Error> {
        answered(state::inspect(Reader::Alone(client), schema, self)).await
    }

    /// See [`migrate`](crate::migrate).
    pub async fn migrate(&self, client: &mut Client, schema: &Schema, wait: Duration) -> Result<Outcome, Error> {
        run::migrate(client, schema, self, wait).await
    }

    /// See [`adopt`](crate::adopt).
    pub async fn adopt(&self, client: &mut Client, schema: &Schema, wait: Duration) -> Result<Adopted, Error> {
        adopt::adopt(client, schema, self, wait).await
    }
}
