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

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error as _;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use migrations::Schema;
use storage_core::legacy::{self, rounded_money};
use storage_core::{
    AddGenerationJob, Amount, CivilDate, ErrorKind, ErrorMessage, FileId, Generation, GenerationId, ImportRecord, Job,
    JobId, JobStatus, Language, MAX_BANK, ModelId, ModelName, Money, Note, Params, Payment, PaymentId, PaymentMethod,
    PaymentOrigin, PaymentStatus, ResultUrls, TaskId, TimeZone, Timestamp, Total, UserId,
};
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel, Row};

use crate::fault::Fault;
use crate::open::{OpenError, dial, schema};
use crate::options::PgOptions;
use crate::statement::{Statement, statements};
use crate::wire::Wire;

/// The longest that one step may take, here and on the server.
const STEP: Duration = Duration::from_mins(1);
/// How many notes of the same words name their row before the rest is only counted.
const SPOKEN_NOTES: u64 = 20;
/// How many different models are kept to be shared.
const SHARED_MODELS: usize = 10_000;

statements! {
    /// Statements that read adopted tables.
    AdoptedStatements {
        forms() =
            "SELECT set_config('statement_timeout', '60000', true), set_config('lock_timeout', '5000', true),
                 set_config('idle_in_transaction_session_timeout', '0', true), set_config('TimeZone', 'UTC', true),
                 set_config('DateStyle', 'ISO', true), set_config('extra_float_digits', '1', true)";
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

/// What the adopted tables of the earlier system hold.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The good records: balances, languages, gifts, limits, quotas, spent, referrals, payments, jobs, history.
    pub records: Vec<AdoptedRecord>,
    /// Everything else that there is to say.
    pub report: AdoptedReport,
}

/// A good record, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRecord {
    /// The table, by the name that it has now.
    pub table: &'static str,
    /// The row's primary key, its columns joined by slashes; of what several rows say together, `user` and the id.
    pub key: Arc<str>,
    /// The record.
    pub record: ImportRecord,
}

/// A row that breaks a rule and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRefusal {
    /// The table.
    pub table: &'static str,
    /// The row's key, as in [`AdoptedRecord::key`].
    pub key: String,
    /// The column and the rule it breaks.
    pub reason: String,
}

/// Money that had more than six decimals, as a fork's column may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRounding {
    /// The table.
    pub table: &'static str,
    /// The row's key, as in [`AdoptedRecord::key`].
    pub key: String,
    /// What stands in the table.
    pub from: String,
    /// What it was rounded to, half-even.
    pub to: Money,
}

/// Something that an operator should know, though nothing was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedNote {
    /// The table.
    pub table: &'static str,
    /// The row's key; none when the note is about the table.
    pub key: Option<String>,
    /// What there is to know.
    pub note: String,
}

/// An approved payment that was credited once, several times, or never. It is imported as approved and never credits;
/// what its user got is for the operator to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncertainAdoptedPayment {
    /// The table.
    pub table: &'static str,
    /// The payment's id.
    pub key: String,
    /// Who paid.
    pub user: UserId,
    /// How much.
    pub amount: Money,
}

/// A table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedTable {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// How many good records it gave.
    pub records: u64,
    /// How many refusals. A row of settings may give two.
    pub refused: u64,
}

/// Rows that were not read, or a whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedLeftAlone {
    /// The table.
    pub table: &'static str,
    /// Which rows, and why.
    pub reason: String,
}

/// What there is to say about adopted tables besides their good records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdoptedReport {
    /// How many users the good records create.
    pub users: u64,
    /// The sum of the good balances.
    pub balance_sum: Total,
    /// How many payments are good.
    pub payments: u64,
    /// How many jobs are good.
    pub jobs: u64,
    /// How many history entries are good.
    pub history_records: u64,
    /// How many amounts were rounded to six decimals.
    pub rounded: u64,
    /// What was refused.
    pub refused: Vec<AdoptedRefusal>,
    /// What else an operator should know. Of notes with the same words the first 20 of a table name their row, and one
    /// more counts the rest.
    pub notes: Vec<AdoptedNote>,
    /// Each rounded amount.
    pub roundings: Vec<AdoptedRounding>,
    /// Approved payments of which nobody knows how often they were credited.
    pub uncertain_payments: Vec<UncertainAdoptedPayment>,
    /// Their sum.
    pub uncertain_sum: Total,
    /// The tables that were read. None: nothing was ever adopted here.
    pub tables: Vec<AdoptedTable>,
    /// What was not read, and why.
    pub left_alone: Vec<AdoptedLeftAlone>,
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
    let wire = Wire::new(transaction.client(), None);
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

/// Turns a row into a record, nothing, or a refusal.
type ReadRecord = fn(&mut Gather<'_>, &mut Entry<'_>) -> Read<Option<ImportRecord>>;

/// A table, and how its rows are read.
struct Table {
    name: &'static str,
    /// The columns of its key.
    key: &'static [&'static str],
    /// Without these, too, it is not the earlier system's.
    needed: &'static [&'static str],
    /// These may be missing.
    others: &'static [&'static str],
    /// These have no counterpart here, and nobody misses them.
    unused: &'static [&'static str],
    /// What a row may hold, each judged for itself.
    reads: &'static [ReadRecord],
}

impl Table {
    fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.key.iter().chain(self.needed).chain(self.others).copied()
    }
}

/// The tables in the order in which they are read.
const TABLES: &[Table] = &[
    Table {
        name: "legacy_users",
        key: &["id"],
        needed: &["balance"],
        others: &["created_at"],
        unused: &["updated_at"],
        reads: &[read_balance],
    },
    Table {
        name: "legacy_user_settings",
        key: &["user_id"],
        needed: &[],
        others: &["language", "gift_claimed"],
        unused: &["created_at", "updated_at"],
        reads: &[read_language, read_gift],
    },
    Table {
        name: "legacy_daily_free_generations",
        key: &["user_id", "date"],
        needed: &[],
        others: &["count", "bonus"],
        unused: &["created_at", "updated_at"],
        reads: &[read_quota],
    },
    Table {
        name: "legacy_admin_limits",
        key: &["user_id"],
        needed: &["limit_amount"],
        others: &["spent"],
        unused: &["created_at", "updated_at"],
        reads: &[read_spent, read_admin_limit],
    },
    Table {
        name: "legacy_operations",
        key: &["id"],
        needed: &["user_id", "type", "amount"],
        others: &["model", "result_url", "prompt", "created_at"],
        unused: &["updated_at"],
        reads: &[read_operation],
    },
    Table {
        name: "legacy_referrals",
        key: &["user_id"],
        needed: &["referrer_id"],
        others: &["created_at"],
        unused: &["updated_at"],
        reads: &[read_referral],
    },
    Table {
        name: "legacy_payments",
        key: &["payment_id"],
        needed: &["user_id", "amount", "status"],
        others: &[
            "payment_method",
            "screenshot_file_id",
            "admin_id",
            "notes",
            "balance_charged",
            "created_at",
            "updated_at",
        ],
        unused: &[],
        reads: &[read_payment],
    },
    Table {
        name: "legacy_generation_jobs",
        key: &["job_id"],
        needed: &["user_id", "status"],
        others: &[
            "model_id",
            "model_name",
            "params",
            "price",
            "external_task_id",
            "result_urls",
            "error_message",
            "created_at",
            "updated_at",
        ],
        unused: &[],
        reads: &[read_job],
    },
];

/// Why a row is refused.
struct Reason(String);

/// A column or a record, or why it is refused.
type Read<T> = Result<T, Reason>;

/// A rule of a column that is broken.
fn broken<T>(column: &str, rule: impl Display) -> Read<T> {
    Err(Reason(format!("{column}: {rule}")))
}

/// Names the column that breaks a rule of `storage-core`.
fn ruled<T>(column: &str, value: storage_core::Result<T>) -> Read<T> {
    value.map_err(|error| {
        let cause = error.source().map_or_else(String::new, |cause| format!(" ({cause})"));
        match error.kind() {
            ErrorKind::InvalidInput { rule, .. } => Reason(format!("{column}: {rule}{cause}")),
            _ => Reason(format!("{column}: {error}{cause}")),
        }
    })
}

/// Long values are shown by their beginning.
fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// A row that is being read, and what reading it brought up.
struct Entry<'r> {
    table: &'static Table,
    row: &'r Row,
    key: Arc<str>,
    zone: &'r TimeZone,
    now: Timestamp,
    roundings: Vec<AdoptedRounding>,
    notes: Vec<Cow<'static, str>>,
}

impl<'r> Entry<'r> {
    fn new(table: &'static Table, row: &'r Row, zone: &'r TimeZone, now: Timestamp) -> Self {
        let part = |at| row.try_get::<_, Option<&str>>(at).map(|part| part.unwrap_or("NULL"));
        let parts: Vec<&str> = (0..table.key.len()).map(|at| part(at).unwrap_or("?")).collect();
        Self { table, row, key: parts.join("/").into(), zone, now, roundings: Vec::new(), notes: Vec::new() }
    }
    /// Something that an operator should know if the record is good.
    fn note(&mut self, note: impl Into<Cow<'static, str>>) {
        self.notes.push(note.into());
    }

    /// A column; NULL and the empty text stand for nothing.
    fn text(&self, column: &str) -> Read<Option<&'r str>> {
        let at = self.table.columns().position(|known| known == column).unwrap_or(usize::MAX);
        match self.row.try_get::<_, Option<&str>>(at) {
            Ok(text) => Ok(text.filter(|text| !text.is_empty())),
            Err(_) => broken(column, "cannot be read as text"),
        }
    }
    fn needed(&self, column: &str) -> Read<&'r str> {
        self.text(column)?.map_or_else(|| broken(column, "is missing"), Ok)
    }
    fn user(&self, column: &str) -> Read<UserId> {
        let text = self.needed(column)?;
        let user: UserId = ruled(column, text.parse())?;
        // A fork's column may be text, in which one user could stand twice.
        if user.to_string() == text { Ok(user) } else { broken(column, "must have no sign and no zeros in front") }
    }
    fn flag(&self, column: &str) -> Read<Option<bool>> {
        match self.text(column)? {
            None => Ok(None),
            Some("true" | "t" | "1") => Ok(Some(true)),
            Some("false" | "f" | "0") => Ok(Some(false)),
            Some(other) => broken(column, format_args!("must be true or false, not {:?}", shown(other))),
        }
    }
    /// A count; one that is missing is 0.
    fn whole(&self, column: &str) -> Read<u64> {
        match self.text(column)?.map_or(Ok(0), str::parse::<i64>) {
            Ok(number) => u64::try_from(number).or_else(|_| broken(column, "must not be negative")),
            Err(_) => broken(column, "must be a whole number"),
        }
    }
    /// Money as it stands, rounded to six decimals where there are more.
    fn money_of(&mut self, column: &str, text: &str) -> Read<Money> {
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return broken(column, format_args!("must be a finite number, not {text}"));
        }
        let (money, rounded) = ruled(column, rounded_money(text))?;
        if rounded {
            let (table, key, from) = (self.table.name, self.key.to_string(), shown(text).into_owned());
            self.roundings.push(AdoptedRounding { table, key, from, to: money });
        }
        Ok(money)
    }
    fn money(&mut self, column: &str) -> Read<Option<Money>> {
        self.text(column)?.map(|text| self.money_of(column, text)).transpose()
    }
    /// A price; a row without one was free.
    fn price(&mut self, price: Option<Money>) -> Money {
        if price.is_none() {
            self.note("no price: 0 was put in");
        }
        price.unwrap_or_default()
    }
    /// A time that may be missing.
    fn time(&self, column: &str) -> Read<Option<Timestamp>> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let naive = |text: &str| text.replacen(' ', "T", 1);
        let time = match text.strip_suffix("+00") {
            Some(utc) => Timestamp::from_naive_iso(&naive(utc)),
            // A sign or a Z behind the date is a zone.
            None if text.get(10..).is_some_and(|time| time.contains(['Z', '+', '-'])) => text.parse(),
            None => self.zone.moment_of(&naive(text)),
        };
        match time {
            Ok(time) => Ok(Some(time)),
            Err(_) => broken(column, format_args!("must be a time in the years 1970 to 9999, not {:?}", shown(text))),
        }
    }
    /// The moment of a row: when it was made, else when it changed, else the present.
    fn created(&mut self, changed: Option<Timestamp>) -> Read<Timestamp> {
        if let Some(created) = self.time("created_at")? {
            return Ok(created);
        }
        self.note(match changed {
            Some(_) => "no created_at: updated_at was taken",
            None => "no created_at: the time of this reading was taken",
        });
        Ok(changed.unwrap_or(self.now))
    }
    /// The results of a row: a list as JSON, or a single plain URL.
    fn urls(&self, column: &str) -> Read<ResultUrls> {
        let Some(text) = self.text(column)? else { return Ok(ResultUrls::default()) };
        // A list that was put into JSON twice is a text that holds it.
        let inner = if text.starts_with('"') { json_text(text) } else { None };
        let text = inner.as_deref().unwrap_or(text);
        let urls = if text.starts_with('[') {
            json_texts(text)
        } else if text.is_empty() || text == "null" {
            Some(Vec::new())
        } else {
            // No URL is JSON; a number or an object is neither a list nor a URL.
            Params::from_json(text).is_err().then(|| vec![text.to_owned()])
        };
        match urls {
            Some(urls) => ruled(column, ResultUrls::new(urls)),
            None => broken(column, "must be a list of texts"),
        }
    }
}

/// A text in JSON.
fn json_text(json: &str) -> Option<String> {
    Params::from_json(json).ok()?.to_value().ok()?.as_str().map(str::to_owned)
}

/// A list of texts in JSON. Text by text: a whole list may be longer than parameters may.
fn json_texts(json: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let mut rest = json.trim().strip_prefix('[')?.trim_start();
    if rest == "]" {
        return Some(texts);
    }
    loop {
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let (text, behind) = rest.split_at_checked(end + 2)?;
        texts.push(json_text(text)?);
        let behind = behind.trim_start();
        if behind == "]" {
            return Some(texts);
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

/// The parameters that a text holds: an object, whole and within the limits.
fn json_object(text: &str) -> Option<Params> {
    text.trim_start().starts_with('{').then(|| Params::from_json(text).ok()).flatten()
}

/// What was spent, and where it says so.
enum Spent {
    Stored(Total, Arc<str>),
    Summed(Total),
}

/// What a user's days say together.
#[derive(Default)]
struct Quota {
    date: Option<CivilDate>,
    used: u32,
    bank: u64,
}

/// Who brought a user, and the row that says so.
struct Edge {
    referrer: UserId,
    since: Option<Timestamp>,
    key: Arc<str>,
}

/// Collects good records, refusals and notes while the tables are read.
struct Gather<'o> {
    zone: &'o TimeZone,
    now: Timestamp,
    report: AdoptedReport,
    /// What needs no other table, in the order of reading; then payments and jobs; then the history.
    records: [Vec<AdoptedRecord>; 3],
    quotas: BTreeMap<UserId, Quota>,
    spent: BTreeMap<UserId, Spent>,
    edges: BTreeMap<UserId, Edge>,
    tasks: HashMap<TaskId, JobId>,
    models: HashMap<String, (ModelId, ModelName)>,
    no_ledger: BTreeMap<&'static str, u64>,
    repeated_notes: BTreeMap<(&'static str, Cow<'static, str>), u64>,
}

impl<'o> Gather<'o> {
    fn new(zone: &'o TimeZone, now: Timestamp) -> Self {
        Self {
            zone,
            now,
            report: AdoptedReport::default(),
            records: [Vec::new(), Vec::new(), Vec::new()],
            quotas: BTreeMap::new(),
            spent: BTreeMap::new(),
            edges: BTreeMap::new(),
            tasks: HashMap::new(),
            models: HashMap::new(),
            no_ledger: BTreeMap::new(),
            repeated_notes: BTreeMap::new(),
        }
    }

    /// A table's turn has come: how its rows are asked for, unless it is somebody else's.
    fn begin(&mut self, table: &'static Table, present: &[String], schema: &Schema) -> Option<Statement> {
        let Table { name, key, needed, unused, .. } = *table;
        let has = |column: &str| present.iter().any(|there| there == column);
        let missing: Vec<&str> = key.iter().chain(needed).copied().filter(|column| !has(column)).collect();
        if !missing.is_empty() {
            let reason = format!("not the earlier system's: no {}", missing.join(", "));
            self.report.left_alone.push(AdoptedLeftAlone { table: name, reason });
            return None;
        }
        self.report.tables.push(AdoptedTable { table: name, rows: 0, records: 0, refused: 0 });
        let known = |column: &str| table.columns().any(|known| known == column) || unused.contains(&column);
        let unknown: Vec<&str> = present.iter().map(String::as_str).filter(|column| !known(column)).collect();
        if !unknown.is_empty() {
            self.table_note(name, format!("nobody knows these columns, they were left alone: {}", unknown.join(", ")));
        }
        let column = |column| if has(column) { format!("t.{column}::text") } else { "NULL::text".to_owned() };
        let columns: Vec<String> = table.columns().map(column).collect();
        let order: Vec<String> = key.iter().map(|column| format!("t.{column} ASC")).collect();
        let (columns, order) = (columns.join(", "), order.join(", "));
        let text =
            format!("DECLARE adopted NO SCROLL CURSOR FOR SELECT {columns} FROM {{s}}.{name} t ORDER BY {order}");
        Some(Statement::new(name, &text, &[], schema))
    }

    /// Reads one row and settles what becomes of it.
    fn row(&mut self, table: &'static Table, row: &Row) {
        if let Some(seen) = self.seen(table.name) {
            seen.rows += 1;
        }
        for read in table.reads {
            let mut entry = Entry::new(table, row, self.zone, self.now);
            let read = read(self, &mut entry);
            let Entry { key, roundings, notes, .. } = entry;
            match read {
                Ok(record) => {
                    self.report.roundings.extend(roundings);
                    for note in notes {
                        self.note(table.name, &key, note);
                    }
                    if let Some(record) = record {
                        self.accept(table.name, key, record);
                    }
                }
                Err(reason) => self.refuse(table.name, &key, reason),
            }
        }
    }

    /// Takes a good record in.
    fn accept(&mut self, table: &'static str, key: Arc<str>, record: ImportRecord) {
        if let Some(seen) = self.seen(table) {
            seen.records += 1;
        }
        let report = &mut self.report;
        let [first, then, last] = &mut self.records;
        let place = match &record {
            ImportRecord::Payment(_) => {
                report.payments += 1;
                then
            }
            ImportRecord::Job(_) => {
                report.jobs += 1;
                then
            }
            ImportRecord::Generation { .. } => {
                report.history_records += 1;
                last
            }
            ImportRecord::Balance { balance, .. } => {
                report.balance_sum = report.balance_sum.plus(*balance);
                first
            }
            _ => first,
        };
        place.push(AdoptedRecord { table, key, record });
    }
    /// Leaves a record out, by name.
    fn refuse(&mut self, table: &'static str, key: &str, Reason(reason): Reason) {
        if let Some(seen) = self.seen(table) {
            seen.refused += 1;
        }
        self.report.refused.push(AdoptedRefusal { table, key: key.to_owned(), reason });
    }
    fn seen(&mut self, table: &str) -> Option<&mut AdoptedTable> {
        self.report.tables.iter_mut().find(|seen| seen.table == table)
    }
    /// Says something about a row.
    fn note(&mut self, table: &'static str, key: &str, note: Cow<'static, str>) {
        let spoken = self.repeated_notes.entry((table, note.clone())).or_default();
        *spoken += 1;
        if *spoken <= SPOKEN_NOTES {
            self.report.notes.push(AdoptedNote { table, key: Some(key.to_owned()), note: note.into_owned() });
        }
    }
    /// Says something about a table.
    fn table_note(&mut self, table: &'static str, note: String) {
        self.report.notes.push(AdoptedNote { table, key: None, note });
    }

    /// A row's model and its name; what is missing is put in, and the caller notes it.
    fn model(&mut self, id: Option<&str>, name: Option<&str>) -> Read<(ModelId, ModelName)> {
        let id = id.unwrap_or("unknown");
        let name = name.unwrap_or(id);
        if let Some(known) = self.models.get(id).filter(|(_, known)| known.as_str() == name) {
            return Ok(known.clone());
        }
        let model = (ruled("model_id", ModelId::new(id))?, ruled("model_name", ModelName::new(name))?);
        if self.models.len() < SHARED_MODELS {
            self.models.insert(id.to_owned(), model.clone());
        }
        Ok(model)
    }

    /// Turns free generations into records.
    fn settle_quotas(&mut self) {
        for (user, Quota { date, used, bank }) in std::mem::take(&mut self.quotas) {
            let key = format!("user {user}").into();
            self.accept("legacy_daily_free_generations", key, ImportRecord::Quota { user, date, used, bank });
        }
    }
    /// Turns what was spent into records. Having spent nothing needs none.
    fn settle_spent(&mut self) {
        for (user, spent) in std::mem::take(&mut self.spent) {
            let (table, key, spent) = match spent {
                Spent::Stored(spent, key) => ("legacy_admin_limits", key, spent),
                Spent::Summed(spent) => ("legacy_operations", format!("user {user}").into(), spent),
            };
            if spent != Total::ZERO {
                self.accept(table, key, ImportRecord::Spent { user, spent });
            }
        }
    }
    /// Turns referrers into records, but for every edge of a circle.
    fn settle_referrals(&mut self) {
        let edges = std::mem::take(&mut self.edges);
        let circles = circles(&edges);
        for (user, Edge { referrer, since, key }) in edges {
            match circles.get(&user) {
                Some(circle) => {
                    self.refuse("legacy_referrals", &key, Reason(format!("referrer_id: closes a circle ({circle})")));
                }
                None => self.accept("legacy_referrals", key, ImportRecord::Referral { user, referrer, since }),
            }
        }
    }

    /// Puts everything together.
    fn finish(mut self) -> Adopted {
        self.settle_quotas();
        self.settle_spent();
        self.settle_referrals();
        for ((table, note), times) in std::mem::take(&mut self.repeated_notes) {
            if times > SPOKEN_NOTES {
                self.table_note(table, format!("{note} (and for {} more rows)", times - SPOKEN_NOTES));
            }
        }
        let (count, sum) = (self.report.uncertain_payments.len(), self.report.uncertain_sum);
        if count > 0 {
            let note = format!(
                "{count} approved payments, {sum} together, may have been credited several times or never: compare \
                 them with the balances"
            );
            self.table_note("legacy_payments", note);
        }
        let Self { mut report, records, no_ledger, .. } = self;
        for (word, rows) in no_ledger {
            let reason = format!("rows of the type {word}: {rows}. They are no ledger and add up to no balance");
            report.left_alone.push(AdoptedLeftAlone { table: "legacy_operations", reason });
        }
        let records: Vec<AdoptedRecord> = records.into_iter().flatten().collect();
        report.rounded = u64::try_from(report.roundings.len()).unwrap_or(u64::MAX);
        let mut users = HashSet::with_capacity(records.len() / 2);
        for AdoptedRecord { table, key, record } in &records {
            let referrer = match record {
                ImportRecord::Referral { referrer, .. } => Some(*referrer),
                _ => None,
            };
            for user in std::iter::once(record.user()).chain(referrer) {
                if users.insert(user) && user.get() == legacy::TEST_USER {
                    let note = "the earlier system's test user; imported like any other".to_owned();
                    report.notes.push(AdoptedNote { table, key: Some(key.to_string()), note });
                }
            }
        }
        report.users = u64::try_from(users.len()).unwrap_or(u64::MAX);
        Adopted { records, report }
    }
}

/// Everybody on a circle of referrers, with the circle as it is shown.
fn circles(edges: &BTreeMap<UserId, Edge>) -> HashMap<UserId, String> {
    let next = |of: UserId| edges.get(&of).map(|edge| edge.referrer);
    // The walk on which a user was met first; meeting one of the same walk again closes a circle.
    let mut met: HashMap<UserId, UserId> = HashMap::with_capacity(edges.len());
    let mut found = HashMap::new();
    for start in edges.keys() {
        let mut at = Some(*start);
        while let Some(user) = at.filter(|user| !met.contains_key(user)) {
            met.insert(user, *start);
            at = next(user);
        }
        let Some(at) = at.filter(|at| met.get(at) == Some(start)) else { continue };
        let behind = std::iter::successors(next(at), |user| next(*user)).take_while(|user| *user != at);
        let circle: Vec<UserId> = std::iter::once(at).chain(behind).collect();
        for (position, user) in circle.iter().enumerate() {
            let round = circle.iter().cycle().skip(position).take(circle.len().min(8) + 1);
            let mut shown = round.map(UserId::to_string).collect::<Vec<_>>().join(" -> ");
            if circle.len() > 8 {
                shown.push_str(" -> ...");
            }
            found.insert(*user, shown);
        }
    }
    found
}

fn read_balance(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("id")?;
    let Some(balance) = entry.money("balance")? else { return broken("balance", "is missing") };
    Ok(Some(ImportRecord::Balance { user, balance, created_at: entry.time("created_at")? }))
}

fn read_language(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let Some(tag) = entry.text("language")? else { return Ok(None) };
    let user = entry.user("user_id")?;
    Ok(Some(ImportRecord::Language { user, language: ruled("language", Language::new(tag))? }))
}

fn read_gift(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    match entry.flag("gift_claimed")? {
        Some(true) => Ok(Some(ImportRecord::Gift { user: entry.user("user_id")? })),
        _ => Ok(None),
    }
}

/// One day of a user's free generations: the newest counts, the bonuses add up.
fn read_quota(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    let date: Option<CivilDate> = entry.text("date")?.map(|date| ruled("date", date.parse())).transpose()?;
    let Ok(used) = u32::try_from(entry.whole("count")?) else {
        return broken("count", "must be at most 4294967295");
    };
    let bonus = entry.whole("bonus")?;
    let bank = gather.quotas.get(&user).map_or(0, |known| known.bank).saturating_add(bonus);
    if bank > MAX_BANK {
        return broken("bonus", format_args!("the bank must hold at most {MAX_BANK}"));
    }
    let quota = gather.quotas.entry(user).or_default();
    quota.bank = bank;
    // Without a day there is nothing that the count could count against.
    if let Some(date) = date.filter(|date| quota.date.is_none_or(|known| known <= *date)) {
        quota.used = if quota.date == Some(date) { quota.used.max(used) } else { used };
        quota.date = Some(date);
    }
    Ok(None)
}

/// What a fork stored as spent.
fn read_spent(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    if let Some(spent) = entry.money("spent")? {
        gather.spent.insert(entry.user("user_id")?, Spent::Stored(spent.into(), entry.key.clone()));
    }
    Ok(None)
}

fn read_admin_limit(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    Ok(entry.money("limit_amount")?.map(|limit| ImportRecord::AdminLimit { user, limit }))
}

fn read_operation(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    match entry.needed("type")? {
        "generation" => {}
        "payment" => {
            *gather.no_ledger.entry("payment").or_default() += 1;
            return Ok(None);
        }
        "refund" => {
            *gather.no_ledger.entry("refund").or_default() += 1;
            return Ok(None);
        }
        word => return broken("type", format_args!("the word {:?} is unknown", shown(word))),
    }
    let id = ruled("id", GenerationId::new(format!("operations:{}", entry.needed("id")?)))?;
    let user = entry.user("user_id")?;
    let model = entry.text("model")?;
    if model.is_none() {
        entry.note("no model: \"unknown\" was put in");
    }
    let (model_id, model_name) = gather.model(model, None)?;
    let params = prompt(entry)?;
    let result_urls = entry.urls("result_url")?;
    // The older variant books generations as what they take away.
    let amount =
        entry.text("amount")?.map(|text| if text == "-Infinity" { text } else { text.trim_start_matches('-') });
    let price = amount.map(|text| entry.money_of("amount", text)).transpose()?;
    let price = entry.price(price);
    let at = entry.created(None)?;
    if let Spent::Summed(sum) = gather.spent.entry(user).or_insert(Spent::Summed(Total::ZERO)) {
        *sum = sum.plus(price);
    }
    let generation = Generation { id, model_id, model_name, params, result_urls, price, at };
    Ok(Some(ImportRecord::Generation { user, generation }))
}

/// The parameters of a generation: the prompt when it is a whole JSON object, else its text under a name.
fn prompt(entry: &mut Entry<'_>) -> Read<Params> {
    let Some(text) = entry.text("prompt")? else {
        entry.note("no prompt: {} was put in as params");
        return ruled("prompt", Params::from_json("{}"));
    };
    if let Some(params) = json_object(text) {
        return Ok(params);
    }
    entry.note("the prompt is no whole JSON object: its text was put in as prompt_text");
    let mut value = ruled("prompt", Params::from_json("{}").and_then(|params| params.to_value()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("prompt_text".to_owned(), text.into());
    }
    ruled("prompt", Params::new(&value))
}

fn read_referral(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    if entry.text("referrer_id")?.is_none() {
        entry.note("no referrer_id: nobody brought this user");
        return Ok(None);
    }
    let referrer = entry.user("referrer_id")?;
    if referrer == user {
        return broken("referrer_id", "must not be the user itself");
    }
    let since = entry.time("created_at")?;
    if gather.edges.contains_key(&user) {
        return broken("user_id", "another row names a referrer already");
    }
    gather.edges.insert(user, Edge { referrer, since, key: entry.key.clone() });
    Ok(None)
}

fn read_payment(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let id = ruled("payment_id", PaymentId::new(entry.needed("payment_id")?))?;
    let user = entry.user("user_id")?;
    let Some(amount) = entry.money("amount")? else { return broken("amount", "is missing") };
    let amount = ruled("amount", Amount::new(amount))?;
    let word = entry.needed("status")?;
    let Some(status) = legacy::payment_status(word) else {
        return broken("status", format_args!("the word {:?} is unknown", shown(word)));
    };
    let charged = entry.flag("balance_charged")?;
    if charged == Some(true) && status == PaymentStatus::Pending {
        // Whoever approved it here would credit it a second time.
        return broken("status", "is pending, but balance_charged says that it was credited: decide which is true");
    }
    if charged == Some(true) && status != PaymentStatus::Approved {
        entry.note(format!("{status}, but balance_charged says that it was credited: compare it with the balance"));
    }
    let method = entry.text("payment_method")?;
    if method.is_none() {
        entry.note("no payment_method: \"unknown\" was put in");
    }
    let method = ruled("payment_method", PaymentMethod::new(method.unwrap_or("unknown")))?;
    let screenshot_file_id = entry.text("screenshot_file_id")?;
    let screenshot_file_id = screenshot_file_id.map(|id| ruled("screenshot_file_id", FileId::new(id))).transpose()?;
    let notes = entry.text("notes")?.map(|notes| ruled("notes", Note::new(notes))).transpose()?;
    let admin = match entry.text("admin_id")? {
        Some("0") | None => None,
        Some(_) => Some(entry.user("admin_id")?),
    };
    let changed = entry.time("updated_at")?;
    let created_at = entry.created(changed)?;
    let origin = match status {
        PaymentStatus::Pending => PaymentOrigin::Here,
        _ => PaymentOrigin::Imported,
    };
    // `completed` was written when the money was credited, `approved` however often it was.
    if status == PaymentStatus::Approved && !charged.unwrap_or(word == "completed") {
        let (table, key, amount) = (entry.table.name, entry.key.to_string(), amount.money());
        gather.report.uncertain_sum = gather.report.uncertain_sum.plus(amount);
        gather.report.uncertain_payments.push(UncertainAdoptedPayment { table, key, user, amount });
    }
    Ok(Some(ImportRecord::Payment(Payment {
        id,
        user,
        amount,
        method,
        screenshot_file_id,
        provider_key: None,
        status,
        admin,
        notes,
        origin,
        created_at,
        updated_at: changed.unwrap_or(created_at),
    })))
}

fn read_job(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let id = ruled("job_id", JobId::new(entry.needed("job_id")?))?;
    let user = entry.user("user_id")?;
    let (status, error_message) = job_status(entry)?;
    let task = entry.text("external_task_id")?;
    let task = task.map(|task| ruled("external_task_id", TaskId::new(task))).transpose()?;
    if let Some(other) = task.as_ref().and_then(|task| gather.tasks.get(task)) {
        return broken("external_task_id", format_args!("belongs to the job {other:?} already"));
    }
    let (model, name) = (entry.text("model_id")?, entry.text("model_name")?);
    if model.is_none() {
        entry.note("no model_id: \"unknown\" was put in");
    }
    if name.is_none() {
        entry.note("no model_name: the model_id was put in");
    }
    let (model_id, model_name) = gather.model(model, name)?;
    let params = params(entry)?;
    let price = entry.money("price")?;
    let price = entry.price(price);
    let result_urls = entry.urls("result_urls")?;
    let changed = entry.time("updated_at")?;
    let created_at = entry.created(changed)?;
    let order =
        AddGenerationJob { user, job: None, external_task_id: task, model_id, model_name, params, price, key: None };
    let created_with = order.creation();
    let AddGenerationJob { external_task_id, model_id, model_name, params, .. } = order;
    if let Some(task) = &external_task_id {
        gather.tasks.insert(task.clone(), id.clone());
    }
    Ok(Some(ImportRecord::Job(Job {
        id,
        user,
        model_id,
        model_name,
        params,
        price,
        status,
        external_task_id,
        result_urls,
        error_message,
        created_at,
        updated_at: changed.unwrap_or(created_at),
        created_with,
    })))
}

/// The parameters of a job. What was put into JSON twice is a text that holds an object, and is taken out.
fn params(entry: &mut Entry<'_>) -> Read<Params> {
    let Some(json) = entry.text("params")?.filter(|json| *json != "null") else {
        entry.note("no params: {} was put in");
        return ruled("params", Params::from_json("{}"));
    };
    let params = ruled("params", Params::from_json(json))?;
    let held = if json.starts_with('"') { json_text(json).and_then(|text| json_object(&text)) } else { None };
    if held.is_some() {
        entry.note("the params are a text that holds JSON: what it holds was put in");
    }
    Ok(held.unwrap_or(params))
}

/// The job's state, and the error message that goes with it.
fn job_status(entry: &mut Entry<'_>) -> Read<(JobStatus, Option<ErrorMessage>)> {
    let word = entry.text("status")?;
    if word.is_none() {
        entry.note("no status: pending was put in");
    }
    let word = word.unwrap_or("pending");
    let Some(status) = legacy::job_status(word) else {
        return broken("status", format_args!("the word {:?} is unknown", shown(word)));
    };
    let message = match (status, entry.text("error_message")?) {
        (JobStatus::Completed, Some(_)) => {
            entry.note("a completed job with an error message, which was left out");
            None
        }
        (_, Some(message)) if word == "timeout" => Some(format!("timeout: {message}")),
        (_, None) if word == "timeout" => Some(word.to_owned()),
        (_, message) => message.map(str::to_owned),
    };
    let message = message.map(|message| ruled("error_message", ErrorMessage::new(message))).transpose()?;
    Ok((status, message))
}

#[cfg(test)]
mod tests {
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
