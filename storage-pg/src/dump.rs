//! Dumping from one consistent snapshot, a piece at a time: memory does not grow with the store.

use futures_util::future::join;
use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::{DumpRecord, DumpSummary, DumpWriter, Error, ErrorKind, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::account::{self, account_columns, account_tables};
use crate::history::{self, generation_columns_read};
use crate::jobs::{self, job_columns_read};
use crate::keys::{self, key_columns};
use crate::operations::{self, ledger_columns};
use crate::payments::{self, payment_columns};
use crate::reserves::{self, hold_columns};
use crate::snapshot::{Snapshot, View};
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Param, borrowed, param};

/// Rows that are read at once. Whole jobs may be large: 100 KiB and more.
const PIECE: i64 = 1000;

/// Pages through a table in the order of its primary key: by user, then bytewise by key.
macro_rules! walk {
    ($columns:expr, $table:literal, $key:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM {s}.",
            $table,
            " WHERE (user_id, ",
            $key,
            ") > ($1, $2)
             ORDER BY user_id ASC, ",
            $key,
            " ASC LIMIT $3"
        )
    };
}

statements! {
    /// Statements of the dump.
    DumpStatements {
        accounts(INT8, INT8) = concat!(
            "SELECT ", account_columns!(), " FROM ", account_tables!(), " WHERE u.id >= $1 ORDER BY u.id ASC LIMIT $2"
        );
        generations(INT8, TEXT, INT8) = walk!(generation_columns_read!(), "generation_history", "generation_id");
        holds(INT8, TEXT, INT8) = walk!(hold_columns!(), "balance_reserves", "name");
        jobs(INT8, TEXT, INT8) = walk!(job_columns_read!(), "generation_jobs", "job_id");
        keys(INT8, TEXT, TEXT, INT8) = concat!(
            "SELECT ", key_columns!(), " FROM {s}.operation_keys WHERE (user_id, space, key) > ($1, $2, $3)
             ORDER BY user_id ASC, space ASC, key ASC LIMIT $4"
        );
        ledger(INT8, INT8, INT8) = walk!(ledger_columns!(), "operations", "seq");
        payments(INT8, TEXT, INT8) = walk!(payment_columns!(), "payments", "payment_id");
    }
}

/// What a look at the store is written into.
struct Sink<'o> {
    writer: DumpWriter,
    out: &'o mut (dyn AsyncWrite + Send + Unpin),
}

impl Sink<'_> {
    async fn put(&mut self, record: &DumpRecord) -> Result<()> {
        self.writer.record(record)?;
        if self.writer.waiting() > 256 * 1024 {
            self.out.write_all(&self.writer.take()).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    Error::new(if full { ErrorKind::StorageFull } else { ErrorKind::Unavailable })
        .message("the dump cannot be written")
        .caused_by(error)
}

/// Where a piece begins: at this user's account, or behind the row of this primary key.
type Start = Vec<Param>;

/// Where the piece after a record begins; `None` when nothing can follow.
fn after(record: &DumpRecord) -> Option<Start> {
    let text = |text: &str| param(text.to_owned());
    Some(match record {
        DumpRecord::Account(account) => vec![param(account.user.get().checked_add(1)?)],
        DumpRecord::Generation(entry) => vec![param(entry.user.get()), text(entry.id.as_str())],
        DumpRecord::Hold(hold) => vec![param(hold.user.get()), text(hold.name.as_str())],
        DumpRecord::Job(job) => vec![param(job.user.get()), text(job.id.as_str())],
        DumpRecord::Key(used) => vec![param(used.user.get()), text(used.space.as_str()), text(used.key.as_str())],
        DumpRecord::Ledger(row) => vec![param(row.user.get()), param(i64::try_from(row.seq).unwrap_or(i64::MAX))],
        DumpRecord::Payment(payment) => vec![param(payment.user.get()), text(payment.id.as_str())],
    })
}

/// Before every row, also those of the lowest user: no key is empty, and no ledger has a row 0.
fn first(statement: &Statement) -> Start {
    let keys = &statement.types[1..statement.types.len() - 1];
    let lowest = keys.iter().map(|key| if *key == Type::INT8 { param(0_i64) } else { param("") });
    std::iter::once(param(i64::MIN)).chain(lowest).collect()
}

/// Writes one kind of records, from the first to the last. The server reads the next piece while this one is written.
async fn walk(
    view: &View<'_>,
    sink: &mut Sink<'_>,
    statement: &Statement,
    read: impl Fn(&Row) -> Result<DumpRecord>,
) -> Result<()> {
    let mut rows = piece(view, statement, Some(first(statement))).await?;
    while let Some(row) = rows.last() {
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == PIECE);
        let start = if is_full { after(&read(row)?) } else { None };
        let write = async {
            for row in &rows {
                sink.put(&read(row)?).await?;
            }
            Ok(())
        };
        // In this order: the question is on its way before the writing begins.
        let (next, written): (_, Result<()>) = join(piece(view, statement, start), write).await;
        written?;
        rows = next?;
    }
    Ok(())
}

/// The rows from a place on; none from nowhere.
async fn piece(view: &View<'_>, statement: &Statement, start: Option<Start>) -> Result<Vec<Row>> {
    let Some(start) = start else { return Ok(Vec::new()) };
    let mut values = borrowed(&start);
    values.push(&PIECE);
    view.rows(statement, &values).await
}

impl PgStorage {
    pub(crate) async fn dump_into(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        let pool = self.enter().await?;
        self.knows_all_of_it(&pool).await?;
        let mut snapshot = Snapshot::begin(self, &pool).await?;
        let view = snapshot.open().await?;
        let sql = &view.sql().dump;
        let mut sink = Sink { writer: DumpWriter::new(&self.environment().policy)?, out };
        walk(&view, &mut sink, &sql.accounts, |row| Ok(DumpRecord::Account(account::record(row)?.0))).await?;
        walk(&view, &mut sink, &sql.generations, |row| {
            let (user, generation) = history::generation(row)?;
            Ok(DumpRecord::Generation(GenerationRecord::new(user, &generation)))
        })
        .await?;
        walk(&view, &mut sink, &sql.holds, |row| Ok(DumpRecord::Hold(reserves::hold(row)?))).await?;
        walk(&view, &mut sink, &sql.jobs, |row| Ok(DumpRecord::Job(JobRecord::from(jobs::job(row)?)))).await?;
        walk(&view, &mut sink, &sql.keys, |row| {
            let (user, space, key, used) = keys::used_key(row)?;
            Ok(DumpRecord::Key(KeyRecord { user, space, key, used }))
        })
        .await?;
        walk(&view, &mut sink, &sql.ledger, |row| Ok(DumpRecord::Ledger(operations::ledger_row(row)?))).await?;
        walk(&view, &mut sink, &sql.payments, |row| {
            Ok(DumpRecord::Payment(PaymentRecord::from(payments::payment(row)?)))
        })
        .await?;
        view.end().await?;
        snapshot.finished();
        let Sink { writer, out } = sink;
        let (bytes, summary) = writer.finish()?;
        out.write_all(&bytes).await.map_err(failed)?;
        out.flush().await.map_err(failed)?;
        Ok(summary)
    }
}
