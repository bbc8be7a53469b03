//! Reads the catalog, wherever the session would look names up by itself.

use futures_util::future::join3;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

/// What begins each transaction of the store that cannot rely on its session: unqualified names mean the server's own, whatever role
/// and database say and whatever somebody made in a schema that comes first (`pg_temp` is named because it would come before all
/// others), and a table of which row security hides something is an error.
pub const PIN: &str = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off";

/// Who reads.
#[derive(Clone, Copy)]
pub(crate) enum Reader<'c> {
    /// Outside of a transaction: each question gets one of its own, in the same round trip.
    Alone(&'c Client),
    /// Inside of one that is pinned already.
    Within(&'c Client),
}

impl Reader<'_> {
    /// Asks.
    pub(crate) async fn rows(self, sql: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Error> {
        match self {
            Self::Within(client) => client.query_typed(sql, values).await,
            Self::Alone(client) => {
                // All of it is sent at the first poll, so that a dropped future leaves no open transaction behind.
                let begin = format!("BEGIN READ ONLY; {PIN}");
                let (begin, end) = (client.batch_execute(&begin), client.batch_execute("ROLLBACK"));
                let (begun, rows, ended) = join3(begin, client.query_typed(sql, values), end).await;
                begun?;
                let rows = rows?;
                ended.map(|()| rows)
            }
        }
    }
}
