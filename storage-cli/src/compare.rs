//! `storage compare`: two stores, record by record. Both are dumped at once, and the dumps, which have one order, are
//! walked side by side: memory does not grow with them.

use std::cmp::Ordering;
use std::io;

use serde::Serialize;
use serde_json::Value;
use storage_core::{DumpRecord, DumpSummary, Error, ErrorKind, Result as StoreResult, Storage};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::args::{CompareArgs, Lookup};
use crate::context::Context;
use crate::dump::kind_word;
use crate::endpoint::Place;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Table, facts};
use crate::progress::Progress;

/// How many differences are named; all are counted.
const NAMED: usize = 100;

/// One record that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) record: &'static str,
    pub(crate) user: storage_core::UserId,
    pub(crate) key: String,
    pub(crate) what: String,
}

/// What a comparison found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Compared {
    /// Records that both sides have, equal to the byte.
    pub(crate) equal_records: u64,
    pub(crate) different_records: u64,
    /// The first of them.
    pub(crate) differences: Vec<Difference>,
}

/// One side, line by line.
struct Side<R> {
    from: R,
    line: Vec<u8>,
    /// Whether the line is a record: neither header nor footer nor the end.
    is_record: bool,
}

impl<R: AsyncBufRead + Unpin> Side<R> {
    fn new(from: R) -> Self {
        Self { from, line: Vec::new(), is_record: false }
    }
    async fn advance(&mut self) -> io::Result<()> {
        loop {
            self.line.clear();
            self.from.read_until(b'\n', &mut self.line).await?;
            self.is_record = self.line.starts_with(b"{\"record\"");
            if self.is_record || self.line.is_empty() {
                return Ok(());
            }
        }
    }
    fn parsed(&self) -> StoreResult<DumpRecord> {
        serde_json::from_slice(&self.line)
            .map_err(|error| Error::internal("a line of a dump that was just written cannot be read").caused_by(error))
    }
}

/// Walks two dumps side by side. `names` are what the sides are called.
pub(crate) async fn compare(
    one: impl AsyncBufRead + Unpin,
    other: impl AsyncBufRead + Unpin,
    names: [&str; 2],
    progress: Option<(&Progress, u64)>,
) -> Result<Compared, Failure> {
    let failed = |error| Failure::io("a dump could not be read", error);
    let (mut one, mut other) = (Side::new(one), Side::new(other));
    let mut found = Compared::default();
    let mut done = 0_u64;
    one.advance().await.map_err(failed)?;
    other.advance().await.map_err(failed)?;
    while one.is_record || other.is_record {
        done += 1;
        if let Some((progress, total)) = progress.filter(|_| done.is_multiple_of(4096)) {
            progress.set(done.min(total), total);
        }
        if one.is_record && one.line == other.line {
            found.equal_records += 1;
            one.advance().await.map_err(failed)?;
            other.advance().await.map_err(failed)?;
            continue;
        }
        let left = if one.is_record { Some(one.parsed()?) } else { None };
        let right = if other.is_record { Some(other.parsed()?) } else { None };
        let order = match (&left, &right) {
            (Some(left), Some(right)) => left.place().cmp(&right.place()),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let (record, what) = match order {
            Ordering::Less => (&left, format!("only in {}", names[0])),
            Ordering::Greater => (&right, format!("only in {}", names[1])),
            Ordering::Equal => (&left, fields_that_differ(&one.line, &other.line)),
        };
        found.different_records += 1;
        if let Some(record) = record.as_ref().filter(|_| found.differences.len() < NAMED) {
            let (kind, user, key) = record.place();
            let key = key.trim_start_matches(|c| kind == "ledger" && c == '0').to_owned();
            found.differences.push(Difference { record: kind, user, key, what });
        }
        if order != Ordering::Greater {
            one.advance().await.map_err(failed)?;
        }
        if order != Ordering::Less {
            other.advance().await.map_err(failed)?;
        }
    }
    Ok(found)
}

/// Which fields two records of one place have differently.
fn fields_that_differ(one: &[u8], other: &[u8]) -> String {
    let fields = |line| serde_json::from_slice::<serde_json::Map<String, Value>>(line).unwrap_or_default();
    let (one, other) = (fields(one), fields(other));
    let mut names: Vec<&String> =
        one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).collect();
    names.sort_unstable();
    names.dedup();
    let shown = |of: &serde_json::Map<String, Value>, name: &str| {
        let text = of.get(name).map_or_else(|| "absent".to_owned(), ToString::to_string);
        crate::output::short(&text, 60)
    };
    let each = names.iter().map(|name| format!("{name}: {} / {}", shown(&one, name), shown(&other, name)));
    each.collect::<Vec<_>>().join(", ")
}

/// Dumps a store while `take` reads what it writes.
pub(crate) async fn piped<T>(
    storage: &dyn Storage,
    take: impl AsyncFnOnce(BufReader<tokio::io::DuplexStream>) -> Result<T, Failure>,
) -> Result<(DumpSummary, T), Failure> {
    let (mut write, read) = tokio::io::duplex(1 << 20);
    let dumped = async {
        let dumped = storage.dump(&mut write).await;
        // Whoever reads sees the end.
        let _ = write.shutdown().await;
        drop(write);
        dumped
    };
    let (dumped, taken) = tokio::join!(dumped, take(BufReader::with_capacity(1 << 18, read)));
    match (dumped, taken) {
        (Ok(summary), Ok(taken)) => Ok((summary, taken)),
        (Ok(_), Err(failure)) => Err(failure),
        // The store knows best why its dump ended early, unless nobody listened any more.
        (Err(error), Err(failure)) if *error.kind() == ErrorKind::Unavailable => Err(failure),
        (Err(error), _) => Err(error.into()),
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    from: String,
    to: String,
    equal: bool,
    #[serde(flatten)]
    compared: &'a Compared,
    counts: [&'a std::collections::BTreeMap<String, u64>; 2],
    balances: [String; 2],
    held: [String; 2],
    sha256: [&'a str; 2],
}

pub(crate) async fn run(context: &Context, arguments: CompareArgs, environment: Lookup<'_>) -> Outcome {
    let CompareArgs { from, to } = arguments;
    let places = [Place::of(context, &from, environment)?, Place::of(context, &to, environment)?];
    for place in &places {
        if !place.exists {
            return Err(Failure::from(Error::not_found("store", &place.name)));
        }
    }
    let [one, other] = &places;
    let (left, right) = (one.open(context).await?, other.open(context).await?);
    let progress = Progress::open_end("comparing");
    let outcome = piped(&*left, async |ours| {
        piped(&*right, async |theirs| compare(ours, theirs, [one.name.as_str(), other.name.as_str()], None).await).await
    })
    .await;
    drop(progress);
    let _ = left.close().await;
    let _ = right.close().await;
    let (ours, (theirs, compared)) = outcome?;
    let equal = ours == theirs && compared.different_records == 0;
    let answer = Answer {
        from: one.name.to_string(),
        to: other.name.to_string(),
        equal,
        compared: &compared,
        counts: [&ours.counts, &theirs.counts],
        balances: [ours.balances.to_string(), theirs.balances.to_string()],
        held: [ours.held.to_string(), theirs.held.to_string()],
        sha256: [&ours.sha256, &theirs.sha256],
    };
    context.out.answer(&answer, || {
        let word = if equal { context.out.good("equal") } else { context.out.bad("different") };
        let mut text = format!("{word}\n{}", facts("  ", &[("from", answer.from.clone()), ("to", answer.to.clone())]));
        let mut table = Table::new(&["", "from>", "to>"]);
        for kind in ours.counts.keys().chain(theirs.counts.keys().filter(|kind| !ours.counts.contains_key(*kind))) {
            table.row([kind_word(kind).to_owned(), ours.count(kind).to_string(), theirs.count(kind).to_string()]);
        }
        table.row(["balances".to_owned(), ours.balances.to_string(), theirs.balances.to_string()]);
        table.row(["held".to_owned(), ours.held.to_string(), theirs.held.to_string()]);
        text = format!("{text}\n{}\n  {} records are equal to the byte", table.to_text("  "), compared.equal_records);
        if let Some(listed) = listed(&compared) {
            text = format!("{text}\n\n{listed}");
        }
        text
    })?;
    Ok(if equal { Exit::Done } else { Exit::Differences })
}

/// The differences as a table.
pub(crate) fn listed(compared: &Compared) -> Option<String> {
    let mut table = Table::new(&["record", "user", "key", "difference"]);
    for Difference { record, user, key, what } in &compared.differences {
        table.row([(*record).to_owned(), user.to_string(), key.clone(), what.clone()]);
    }
    let named = compared.differences.len() as u64;
    let more = match compared.different_records.saturating_sub(named) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    (named > 0).then(|| format!("{} differences\n{}{more}", compared.different_records, table.to_text("  ")))
}
