//! The ledger and the audit.

use async_trait::async_trait;
use storage_core::{
    AuditReport, AuditScope, AuditTrail, AuditedState, Error, LedgerRow, ListOperations, Operations, Page, Result,
    Total, UserId,
};
use tokio_postgres::Row;

use crate::fields::Fields;
use crate::snapshot::Snapshot;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::users::surplus;
use crate::wire::Value;

macro_rules! ledger_columns {
    () => {
        "user_id, seq, operation_id, kind, balance_change, held_change, balance_after, held_after, key, reference, \
         reason, actor, created_at"
    };
}
pub(crate) use ledger_columns;

/// Users whom an audit adds up in one round trip.
const AUDITED_AT_ONCE: i64 = 500;
/// Ledger rows that an audit holds in memory at once.
const AUDITED_ROWS: i64 = 10_000;

statements! {
    /// Statements of the ledger.
    OperationStatements {
        list(INT8, INT8, INT8) = concat!(
            "SELECT ", ledger_columns!(), " FROM {s}.operations WHERE user_id = $1 AND seq < $2
             ORDER BY seq DESC LIMIT $3"
        );
        audited_users(INT8, INT8) = "SELECT id, balance, held FROM {s}.users WHERE id >= $1 ORDER BY id ASC LIMIT $2";
        audited_user(INT8) = "SELECT id, balance, held FROM {s}.users WHERE id = $1";
        audited_rows(INT8, INT8, INT8, INT8) = concat!(
            "SELECT ", ledger_columns!(), " FROM {s}.operations WHERE (user_id, seq) > ($1, $2) AND user_id <= $3
             ORDER BY user_id ASC, seq ASC LIMIT $4"
        );
        audited_holds(INT8, INT8) =
            "SELECT user_id, sum(amount)::numeric(38, 6) AS amount FROM {s}.balance_reserves
             WHERE user_id BETWEEN $1 AND $2 AND status = 'open' GROUP BY user_id ORDER BY user_id ASC";
        audited_payments(INT8, INT8) =
            "SELECT user_id, payment_id FROM {s}.payments
             WHERE user_id BETWEEN $1 AND $2 AND origin = 'here' AND status IN ('approved', 'refunded')
             ORDER BY user_id ASC, payment_id ASC";
    }
}

/// Reads the columns of `ledger_columns!`.
pub(crate) fn ledger_row(row: &Row) -> Result<LedgerRow> {
    let mut fields = Fields::of(row, "operations");
    Ok(LedgerRow {
        user: fields.user()?,
        seq: fields.count()?,
        operation: fields.operation()?,
        kind: fields.text()?,
        balance_change: fields.signed()?,
        held_change: fields.signed()?,
        balance_after: fields.money()?,
        held_after: fields.money()?,
        key: fields.text()?,
        reference: fields.opt_text()?,
        reason: fields.opt_text()?,
        actor: fields.opt_text()?,
        at: fields.at()?,
    })
}

impl PgStorage {
    async fn page_of_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        let filter = list.filter();
        let ListOperations { user, page } = list;
        let before = page.position::<u64>(filter)?.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let (id, limit) = (user.get(), surplus(page.size));
        let rows = self.read("list_operations", &self.sql().operations.list, &[&id, &before, &limit]).await?;
        let rows = rows.iter().map(|row| Ok(std::sync::Arc::new(ledger_row(row)?))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(rows, page.size, filter, |row| row.seq.to_string()))
    }

    async fn audit_in(&self, scope: AuditScope) -> Result<AuditReport> {
        let pool = self.enter().await?;
        let mut snapshot = Snapshot::begin(self, &pool).await?;
        let view = snapshot.open().await?;
        let sql = &self.sql().operations;
        let mut report = AuditReport::default();
        let mut lowest = match scope {
            AuditScope::Everyone => Some(i64::MIN),
            AuditScope::User(user) => Some(user.get()),
        };
        while let Some(first) = lowest {
            let users = match scope {
                AuditScope::Everyone => view.rows(&sql.audited_users, &[&first, &AUDITED_AT_ONCE]).await?,
                AuditScope::User(_) => view.rows(&sql.audited_user, &[&first]).await?,
            };
            let users = users.iter().map(audited_state).collect::<Result<Vec<_>>>()?;
            let Some((last, ..)) = users.last() else {
                if let AuditScope::User(user) = scope {
                    // Nobody has no rows and no money.
                    AuditTrail::new(user).finish(&AuditedState::default(), &mut report);
                }
                break;
            };
            let last = last.get();
            let mut audited = Audited::new(users);
            // The books of these users; the ledger of one may be longer than memory is to hold.
            let mut read = (first, 0);
            let rows: (_, Vec<Value<'_>>) = (&sql.audited_rows, vec![&read.0, &read.1, &last, &AUDITED_ROWS]);
            let mut books = view
                .pipeline(&[
                    rows,
                    (&sql.audited_holds, vec![&first, &last]),
                    (&sql.audited_payments, vec![&first, &last]),
                ])
                .await?
                .into_iter();
            let mut next = || books.next().ok_or_else(|| Error::internal("an audit's statements did not all answer"));
            let (mut rows, holds, payments) = (next()?, next()?, next()?);
            loop {
                let has_more = i64::try_from(rows.len()).is_ok_and(|count| count >= AUDITED_ROWS);
                match audited.push_rows(&rows)? {
                    Some(at) if has_more => read = at,
                    _ => break,
                }
                rows = view.rows(&sql.audited_rows, &[&read.0, &read.1, &last, &AUDITED_ROWS]).await?;
            }
            audited.finish(&holds, &payments, &mut report)?;
            lowest = match scope {
                AuditScope::Everyone => last.checked_add(1),
                AuditScope::User(_) => None,
            };
        }
        view.end().await?;
        snapshot.finished();
        Ok(report)
    }
}

fn audited_state(row: &Row) -> Result<(UserId, AuditedState)> {
    let mut fields = Fields::of(row, "users");
    let (user, balance, held) = (fields.user()?, fields.money()?, fields.money()?);
    Ok((user, AuditedState { balance, held, ..AuditedState::default() }))
}

/// Users whose books are being added up, by ascending id. What is added comes in the same order.
struct Audited {
    users: Vec<(UserId, AuditedState, AuditTrail)>,
    /// The one whose rows come next.
    at: usize,
}

impl Audited {
    fn new(users: Vec<(UserId, AuditedState)>) -> Self {
        let trailed = |(user, state)| (user, state, AuditTrail::new(user));
        Self { users: users.into_iter().map(trailed).collect(), at: 0 }
    }

    /// Adds some rows of the ledger; answers the last one's user and place.
    fn push_rows(&mut self, rows: &[Row]) -> Result<Option<(i64, i64)>> {
        let mut last = None;
        for row in rows {
            let row = ledger_row(row)?;
            while self.users.get(self.at).is_some_and(|(user, ..)| *user < row.user) {
                self.at += 1;
            }
            if let Some((_, _, trail)) = self.users.get_mut(self.at).filter(|(user, ..)| *user == row.user) {
                trail.push(&row);
            }
            last = Some((row.user.get(), i64::try_from(row.seq).unwrap_or(i64::MAX)));
        }
        Ok(last)
    }

    /// Adds what else belongs to each user, and judges.
    fn finish(self, holds: &[Row], payments: &[Row], report: &mut AuditReport) -> Result<()> {
        let (mut holds, mut payments) = (holds.iter().peekable(), payments.iter().peekable());
        let is_of = |user: UserId| move |row: &&Row| Fields::of(row, "audit").user().is_ok_and(|of| of == user);
        for (user, mut state, trail) in self.users {
            while let Some(row) = holds.next_if(is_of(user)) {
                let mut fields = Fields::of(row, "balance_reserves");
                let (_, open) = (fields.user()?, fields.total()?);
                state.open_holds = Total::from_micros(state.open_holds.micros() + open.micros());
            }
            while let Some(row) = payments.next_if(is_of(user)) {
                let mut fields = Fields::of(row, "payments");
                let (_, payment) = (fields.user()?, fields.word()?);
                state.credited_payments.push(payment.to_owned());
            }
            trail.finish(&state, report);
        }
        Ok(())
    }
}

#[async_trait]
impl Operations for PgStorage {
    async fn list_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        self.opened("list_operations")?;
        self.page_of_operations(list).await.map_err(|error| error.in_operation("list_operations"))
    }

    async fn audit(&self, scope: AuditScope) -> Result<AuditReport> {
        self.audit_in(scope).await.map_err(|error| error.in_operation("audit"))
    }
}
