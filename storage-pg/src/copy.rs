//! Rows by COPY: what an INSERT of the program would write, many at a time, without the statement's work for each.

use futures_util::pin_mut;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::statement::Statement;
use crate::tx::Param;
use crate::wire::Value;

/// Where rows go: the table of an INSERT and its columns, each with the parameter that fills it.
#[derive(Debug)]
pub(crate) struct Target {
    text: String,
    types: Vec<Type>,
    parameters: Vec<usize>,
}

impl Target {
    /// Reads it from a statement that inserts one row of its parameters; `None` when that is no such statement.
    pub(crate) fn of(insert: &Statement) -> Option<Self> {
        let (_, rest) = insert.text.split_once("INSERT INTO ")?;
        let (table, rest) = rest.split_once(char::is_whitespace)?;
        let (_, rest) = rest.split_once('(')?;
        let (columns, rest) = rest.split_once(')')?;
        let (_, rest) = rest.split_once("VALUES (")?;
        let (values, _) = rest.split_once(')')?;
        let parameter = |value: &str| -> Option<usize> {
            let number: String = value.trim().strip_prefix('$')?.chars().take_while(char::is_ascii_digit).collect();
            number.parse::<usize>().ok()?.checked_sub(1)
        };
        let parameters = values.split(',').map(parameter).collect::<Option<Vec<_>>>()?;
        let types = parameters.iter().map(|at| insert.types.get(*at).cloned()).collect::<Option<Vec<_>>>()?;
        if columns.split(',').count() != parameters.len() {
            return None;
        }
        let columns = columns.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(Self { text: format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)"), types, parameters })
    }

    /// Writes the rows. Inside a transaction of a connection that no pooler shares: COPY needs a named statement.
    pub(crate) async fn put(&self, client: &Client, rows: &[Vec<Param>]) -> Result<(), Error> {
        let sink = client.copy_in(self.text.as_str()).await?;
        let writer = BinaryCopyInWriter::new(sink, &self.types);
        pin_mut!(writer);
        for row in rows {
            let values: Vec<Value<'_>> = self.parameters.iter().map(|at| -> Value<'_> { &*row[*at] }).collect();
            writer.as_mut().write_raw(values).await?;
        }
        writer.finish().await.map(|_| ())
    }
}
