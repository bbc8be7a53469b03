//! One consistent look at the whole store, while others go on writing.

use std::time::Duration;

use storage_core::Result;
use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use crate::fault::Fault;
use crate::pool::{Link, Parts, Pool};
use crate::statement::Statement;
use crate::store::{PgStorage, Sql};
use crate::wire::Value;

/// The longest that one step of a look may take; a step reads some thousand rows by an index.
const STEP: Duration = Duration::from_mins(1);

/// A connection that looks.
pub(crate) struct Snapshot<'s> {
    storage: &'s PgStorage,
    link: Link<'s>,
}

/// The look itself: a transaction that reads what was committed when it began.
pub(crate) struct View<'v> {
    transaction: Transaction<'v>,
    link: &'v Parts,
    storage: &'v PgStorage,
}

impl<'s> Snapshot<'s> {
    /// Takes a connection for it.
    pub(crate) async fn begin(storage: &'s PgStorage, pool: &'s Pool) -> Result<Self> {
        let mut link = pool.checkout(Duration::MAX).await?;
        link.reads();
        Ok(Self { storage, link })
    }

    /// Begins.
    pub(crate) async fn open(&mut self) -> Result<View<'_>> {
        let storage = self.storage;
        let (client, link) = self.link.split();
        let begun = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
        let transaction = in_time(begun).await?;
        let view = View { transaction, link, storage };
        // Whoever takes the rows may be slow: a pipe, a disk. The limit is on each step, not on the whole.
        view.rows(&storage.sql().store.by_step, &[]).await?;
        Ok(view)
    }

    /// Hands the connection back as good.
    pub(crate) fn finished(mut self) {
        self.link.finished();
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    let answer = timeout(STEP, step).await.map_err(|_| Fault::Silent(STEP).into_error())?;
    answer.map_err(|error| Fault::from(error).into_error())
}

impl View<'_> {
    pub(crate) fn sql(&self) -> &Sql {
        self.storage.sql()
    }
    pub(crate) async fn rows(&self, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<Row>> {
        in_time(self.link.wire(self.transaction.client()).rows(statement, values)).await
    }
    pub(crate) async fn pipeline(&self, batch: &[(&Statement, Vec<Value<'_>>)]) -> Result<Vec<Vec<Row>>> {
        in_time(self.link.wire(self.transaction.client()).pipeline(batch)).await
    }
    pub(crate) async fn end(self) -> Result<()> {
        in_time(self.transaction.commit()).await
    }
}
