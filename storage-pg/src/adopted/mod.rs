//! Reading the earlier system's tables, which adopting renamed to `legacy_...`, as records to be imported.
//!
//! [`read_adopted`] changes nothing. A row that breaks a rule is left out and named in the report; it never stops the
//! others. Only what is there is read: the even older variant has two of the tables, and forks lack columns or have
//! more. Every value crosses as text in one fixed form, so that a fork's `integer`, `json` or `timestamp` column reads
//! like the original's, and a cursor hands out some thousand rows at a time, whatever identifies them.
//!
//! What the tables leave open:
//!
//! * `operations` is a history, not a ledger: its generations become history entries named `operations:<id>`, and their
//!   prices add up to what a user spent, unless a fork stored that in `admin_limits.spent`.
//! * A prompt is the parameters as JSON, cut at 1000 characters. What is no JSON object is kept whole under
//!   `prompt_text`.
//! * An approved payment may have been credited on every approval: it is listed under
//!   [`AdoptedReport::uncertain_payments`], unless its word is `completed` or a fork's `balance_charged` is true.
//! * The newest day of a user's free generations counts, and all bonuses go to the bank.
//! * Every edge of a circle of referrers is refused.

mod entry;
mod gather;
mod records;
mod report;
mod tables;

use std::collections::HashMap;
use std::time::Duration;

use migrations::Schema;
use storage_core::TimeZone;
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel};

use crate::fault::Fault;
use crate::open::{OpenError, dial, schema};
use crate::options::PgOptions;
use crate::statement::{pinned, statements};
use crate::wire::Wire;

use gather::Gather;
use tables::TABLES;

pub use report::{
    Adopted, AdoptedLeftAlone, AdoptedNote, AdoptedRecord, AdoptedRefusal, AdoptedReport, AdoptedRounding,
    AdoptedTable, UncertainAdoptedPayment,
};

/// The longest that one step may take, here and on the server.
const STEP: Duration = Duration::from_mins(1);

statements! {
    /// Statements that read adopted tables.
    AdoptedStatements {
        forms() =
            pinned!("pg_catalog.set_config('statement_timeout', '60000', true),
                 pg_catalog.set_config('lock_timeout', '5000', true),
                 pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true),
                 pg_catalog.set_config('TimeZone', 'UTC', true), pg_catalog.set_config('DateStyle', 'ISO', true),
                 pg_catalog.set_config('extra_float_digits', '1', true)");
        columns(NAME, NAME_ARRAY) =
            "SELECT c.relname::text, a.attname::text
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')
             ORDER BY c.relname ASC, a.attnum ASC";
        fetch() = "FETCH 1000 FROM adopted";
        close() = "CLOSE adopted";
    }
}

/// Reads the tables that [`adopt_tables`](crate::adopt_tables) renamed, as of one moment. `time_zone` is the zone of
/// times that a fork stored without one.
///
/// Without adopted tables the answer is empty, and [`AdoptedReport::tables`] too.
///
/// # Errors
/// The true cause when there is no connection; `ReadOnly` when the role has no right to read a table.
///
/// ```no_run
/// use storage_pg::{PgOptions, read_adopted};
/// use storage_core::TimeZone;
///
/// # async fn example() -> storage_core::Result<()> {
/// let adopted = read_adopted(&PgOptions::new("postgresql://bot@db.example.org/bot"), &TimeZone::UTC).await?;
/// println!("{} users, {} together", adopted.report.users, adopted.report.balance_sum);
/// # Ok(()) }
/// ```
pub async fn read_adopted(options: &PgOptions, time_zone: &TimeZone) -> Result<Adopted, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, mut connection) = dial(&options.url, options).await?;
    let mut gather = Gather::new(time_zone, options.environment.clock.now());
    let read = read(&mut connection.client, &schema, &mut gather).await;
    read.map_err(|error| error.in_operation("read_adopted"))?;
    Ok(gather.finish())
}

/// Reads every table in one look, and leaves no trace on the connection.
async fn read(client: &mut Client, schema: &Schema, gather: &mut Gather<'_>) -> storage_core::Result<()> {
    let sql = AdoptedStatements::new(schema);
    let begun = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let transaction = in_time(begun).await?;
    let wire = Wire::new(transaction.client(), None, None);
    in_time(wire.rows(&sql.forms, &[])).await?;
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let mut present: HashMap<String, Vec<String>> = HashMap::new();
    for row in in_time(wire.rows(&sql.columns, &[&schema.name(), &names])).await? {
        let name = |at| row.try_get::<_, String>(at).map_err(|error| Fault::from(error).into_error());
        present.entry(name(0)?).or_default().push(name(1)?);
    }
    for table in TABLES {
        let Some(columns) = present.get(table.name) else { continue };
        let Some(select) = gather.begin(table, columns, schema) else { continue };
        in_time(wire.rows(&select, &[])).await?;
        loop {
            let rows = in_time(wire.rows(&sql.fetch, &[])).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                gather.row(table, row);
            }
        }
        in_time(wire.rows(&sql.close, &[])).await?;
    }
    in_time(transaction.commit()).await
}

async fn in_time<T>(step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> storage_core::Result<T> {
    let answer = timeout(STEP, step).await.map_err(|_| Fault::Silent(STEP).into_error())?;
    answer.map_err(|error| Fault::from(error).into_error())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storage_core::{Timestamp, UserId};

    use super::entry::json_texts;
    use super::gather::{Edge, circles};
    use super::*;

    #[test]
    fn statements_name_their_schema_and_only_adopted_tables() {
        let schema = Schema::new("shop_7").unwrap();
        for statement in AdoptedStatements::new(&schema).all() {
            assert!(statement.text.starts_with("-- ") && !statement.text.contains("{s}"), "{}", statement.text);
        }
        let zone = TimeZone::UTC;
        let mut gather = Gather::new(&zone, Timestamp::MIN);
        for table in TABLES {
            let columns: Vec<String> = table.columns().map(str::to_owned).collect();
            let text = gather.begin(table, &columns, &schema).unwrap().text;
            assert!(text.contains(&format!(" FROM {}.legacy_", schema.quoted())), "{text}");
            assert!(!text.contains("NULL::text"), "{text}");
            let bare = gather.begin(table, &columns[..table.key.len() + table.needed.len()], &schema).unwrap().text;
            assert_eq!(bare.matches("NULL::text").count(), table.others.len(), "{bare}");
            assert!(gather.begin(table, &[], &schema).is_none());
        }
        assert_eq!(gather.report.left_alone.len(), TABLES.len());
        assert_eq!(gather.report.notes, []);
    }

    #[test]
    fn lists_of_texts() {
        let read = |json: &str| json_texts(json).map(|texts| texts.join("|"));
        for (json, texts) in [
            ("[]", ""),
            (" [ ] ", ""),
            (r#"["a"]"#, "a"),
            (r#"[ "a" , "b,]\"\\" ]"#, "a|b,]\"\\"),
            (r#"["\u0436", "ж"]"#, "ж|ж"),
        ] {
            assert_eq!(read(json).as_deref(), Some(texts), "{json}");
        }
        for bad in [
            "",
            "[",
            "[1]",
            r#"["a""#,
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"["a"] x"#,
            "['a']",
            r#"[["a"]]"#,
            "[,]",
            r#"["\q"]"#,
            "[жж]",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_edge_of_a_circle_and_no_other() {
        let user = |id| UserId::new(id).unwrap();
        let edge = |(from, to)| (user(from), Edge { referrer: user(to), since: None, key: "".into() });
        // 1 -> 2 -> 3 -> 1 with 4 leading into it, 5 -> 6, and a circle of two that is met from its tail.
        let edges = [(1, 2), (2, 3), (3, 1), (4, 1), (5, 6), (7, 9), (8, 9), (9, 8)].map(edge).into_iter().collect();
        let found: BTreeMap<_, _> = circles(&edges).into_iter().collect();
        let shown = [
            (1, "1 -> 2 -> 3 -> 1"),
            (2, "2 -> 3 -> 1 -> 2"),
            (3, "3 -> 1 -> 2 -> 3"),
            (8, "8 -> 9 -> 8"),
            (9, "9 -> 8 -> 9"),
        ];
        assert_eq!(found, shown.map(|(id, shown)| (user(id), shown.to_owned())).into_iter().collect());
    }
}
