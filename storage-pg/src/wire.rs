//! Sends statements: the one place that knows unnamed statements from prepared ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{join, join_all, join3, try_join_all};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::statement::Statement;

/// A parameter.
pub(crate) type Value<'v> = &'v (dyn ToSql + Sync);

/// What a connection has prepared, by the statements' names.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Mutex<HashMap<&'static str, tokio_postgres::Statement>>);

impl Prepared {
    fn get(&self, name: &'static str) -> Option<tokio_postgres::Statement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
    /// Forgets them: the tables changed under them.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    fn put(&self, name: &'static str, statement: tokio_postgres::Statement) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, statement);
    }
}

/// A connection as statements see it.
#[derive(Clone, Copy)]
pub(crate) struct Wire<'c> {
    client: &'c Client,
    /// `None`: every statement is unnamed.
    prepared: Option<&'c Prepared>,
    /// What begins a transaction behind a pooler.
    begin: Option<&'c str>,
}

impl<'c> Wire<'c> {
    pub(crate) fn new(client: &'c Client, prepared: Option<&'c Prepared>, begin: Option<&'c str>) -> Self {
        Self { client, prepared, begin }
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of prepared statements, chosen by configuration")]
    async fn prepare(&self, prepared: &Prepared, statement: &Statement) -> Result<tokio_postgres::Statement, Error> {
        if let Some(known) = prepared.get(statement.name) {
            return Ok(known);
        }
        let fresh = self.client.prepare_typed(&statement.text, &statement.types).await?;
        prepared.put(statement.name, fresh.clone());
        Ok(fresh)
    }

    /// Runs one statement.
    #[expect(clippy::disallowed_methods, reason = "the one home of prepared statements, chosen by configuration")]
    pub(crate) async fn rows(&self, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        match self.prepared {
            None => self.client.query_typed(&statement.text, &typed(statement, values)).await,
            Some(prepared) => {
                let handle = self.prepare(prepared, statement).await?;
                self.client.query(&handle, values).await
            }
        }
    }

    /// Runs one statement that is a transaction by itself. Behind a pooler it is put into one, which has the limits;
    /// still one round trip. Everything is sent at the first poll: whoever drops the future leaves a whole transaction
    /// behind, or none.
    pub(crate) async fn alone(&self, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        let Some(begin) = self.begin else { return self.rows(statement, values).await };
        let (begin, end) = (self.client.batch_execute(begin), self.client.batch_execute("COMMIT"));
        let (begun, rows, ended) = join3(begin, self.rows(statement, values), end).await;
        // The first error is the cause of those behind it.
        begun?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }

    /// Runs statements one behind the other without waiting in between: one round trip. Answers the first error, which
    /// is the cause of those behind it.
    pub(crate) async fn pipeline(&self, batch: &[(&Statement, Vec<Value<'_>>)]) -> Result<Vec<Vec<Row>>, Error> {
        self.prepare_all(batch).await?;
        self.all(batch).await.into_iter().collect()
    }

    /// [`Wire::pipeline`] behind the beginning of a transaction, in the same round trip. Where that fails the statements run
    /// all the same, each by itself: they must be looks.
    pub(crate) async fn pipeline_behind(
        &self,
        begin: &str,
        batch: &[(&Statement, Vec<Value<'_>>)],
    ) -> Result<Vec<Vec<Row>>, Error> {
        self.prepare_all(batch).await?;
        let (begun, rows) = join(self.client.batch_execute(begin), self.all(batch)).await;
        begun?;
        rows.into_iter().collect()
    }

    /// Prepares what is new of a batch, all in one round trip.
    async fn prepare_all(&self, batch: &[(&Statement, Vec<Value<'_>>)]) -> Result<(), Error> {
        let Some(prepared) = self.prepared else { return Ok(()) };
        let mut new: Vec<&Statement> = batch.iter().map(|(statement, _)| *statement).collect();
        new.sort_unstable_by_key(|statement| statement.name);
        new.dedup_by_key(|statement| statement.name);
        new.retain(|statement| prepared.get(statement.name).is_none());
        try_join_all(new.iter().map(|statement| self.prepare(prepared, statement))).await.map(drop)
    }

    /// The answers of statements that are polled, and so sent, in this order.
    async fn all(&self, batch: &[(&Statement, Vec<Value<'_>>)]) -> Vec<Result<Vec<Row>, Error>> {
        join_all(batch.iter().map(|(statement, values)| self.rows(statement, values))).await
    }
}

fn typed<'v>(statement: &Statement, values: &[Value<'v>]) -> Vec<(Value<'v>, Type)> {
    debug_assert_eq!(values.len(), statement.types.len(), "{}", statement.name);
    values.iter().copied().zip(statement.types.iter().cloned()).collect()
}
