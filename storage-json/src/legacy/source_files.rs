//! Which files of a data directory are read, which are left alone, and reading one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{Error, Place, Result, Timestamp};

use super::report::{LeftAlone, ReadOptions, Report};
use crate::json_text::{Dialect, Node, NodeValue, Source};

/// Texts within texts that are unwrapped before giving up.
const MAX_WRAPPINGS: usize = 4;

/// What a file holds, in the order in which the files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Balances,
    Languages,
    Gifts,
    Quotas,
    FreeBank,
    AdminLimits,
    History,
    HistoryEvents,
    Referrals,
    ReferralEvents,
    Payments,
    Jobs,
    JobStates,
    Holds,
    Bonuses,
    Codes,
    Blocked,
}

/// The files that are read, without their ending.
const READ: [(&str, Subject); 17] = [
    ("user_balances", Subject::Balances),
    ("user_languages", Subject::Languages),
    ("gift_claimed", Subject::Gifts),
    ("daily_free_generations", Subject::Quotas),
    ("referral_free_bank", Subject::FreeBank),
    ("admin_limits", Subject::AdminLimits),
    ("generations_history", Subject::History),
    ("history_events", Subject::HistoryEvents),
    ("referrals", Subject::Referrals),
    ("referral_events", Subject::ReferralEvents),
    ("payments", Subject::Payments),
    ("generation_jobs", Subject::Jobs),
    ("jobs", Subject::JobStates),
    ("balance_reserves", Subject::Holds),
    ("user_bonuses", Subject::Bonuses),
    ("promocodes", Subject::Codes),
    ("blocked_users", Subject::Blocked),
];

/// What a file can be: the usual names of those that are read, without `.json`.
pub fn roles() -> impl Iterator<Item = &'static str> {
    READ.iter().map(|(role, _)| *role)
}

/// What a name says.
enum Known {
    Read(Subject),
    LeftAlone(&'static str),
    Ignored,
}

/// Why the files without a counterpart are left alone.
const NO_COUNTERPART: &[(&str, &str)] = &[
    ("balance_deductions.json", "charges that the balances already contain"),
    ("broadcasts.json", "broadcasts have no counterpart here"),
    ("currency_rate.json", "currency rates have no counterpart here"),
    ("delivery_records.json", "deliveries that jobs and history already contain"),
    ("free_deductions.json", "free generations that the quotas already contain"),
    ("hourly_free_usage.json", "hourly windows have no counterpart here"),
    ("kie_watchdog.json", "telemetry"),
    ("observability_correlations.json", "telemetry"),
    ("pending_git_pushes", "notices about balances, which the balances already contain"),
    ("processed_transactions.json", "transactions that the balances already contain"),
    ("telegram_idempotency.json", "message keys of the bot have no counterpart here"),
    ("ui_actions.json", "telemetry"),
    ("user_profiles.json", "profiles have no counterpart here"),
    ("user_registry.json", "people's names have no counterpart here"),
];

fn known(name: &str) -> Option<Known> {
    let has_end = |end| name.rsplit_once('.').is_some_and(|(_, found)| found == end);
    let read = READ.iter().find(|(known, _)| name.strip_suffix(".json") == Some(*known));
    let subject = match read {
        Some((_, subject)) => *subject,
        None if name.starts_with("user_balances_bot_") && has_end("json") => Subject::Balances,
        None => {
            let corrupted = name.rsplit_once(".corrupted.").is_some_and(|(_, number)| number.parse::<u64>().is_ok());
            let locked = name.starts_with('.') && has_end("lock");
            if has_end("tmp") || name.ends_with(".json.backup") || corrupted || locked {
                return Some(Known::Ignored);
            }
            return NO_COUNTERPART.iter().find(|(known, _)| *known == name).map(|(_, why)| Known::LeftAlone(why));
        }
    };
    Some(Known::Read(subject))
}

/// A file that is to be read.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) subject: Subject,
    name: String,
    path: PathBuf,
    pub(super) bytes: u64,
    modified: Timestamp,
}

fn unreadable(name: &str, error: io::Error) -> Error {
    Error::invalid(name.to_owned(), "cannot be read; nothing was imported").caused_by(error)
}

/// Lists what is to be read, in that order; the rest goes into the report.
pub(super) fn list(dir: &Path, options: &ReadOptions, report: &mut Report) -> Result<Vec<Listed>> {
    let no_directory =
        |error| Error::invalid("data directory", "must be a directory that can be read").caused_by(error);
    let mut found = mapped(dir, options)?;
    let taken: Vec<PathBuf> = found.iter().filter_map(|listed: &Listed| listed.path.canonicalize().ok()).collect();
    for entry in fs::read_dir(dir).map_err(no_directory)? {
        let entry = entry.map_err(no_directory)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().canonicalize().is_ok_and(|path| taken.contains(&path)) {
            continue;
        }
        match known(&name) {
            Some(Known::Read(subject)) => found.push(look(subject, name, entry.path(), options)?),
            Some(Known::Ignored) => report.ignored.push(name),
            Some(Known::LeftAlone(why)) => report.left_alone.push(LeftAlone { file: name, reason: why.to_owned() }),
            None => {
                let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let reason = if directory { "a directory: import it by itself" } else { "nobody knows this file" };
                report.left_alone.push(LeftAlone { file: name, reason: reason.to_owned() });
            }
        }
    }
    found.sort_by(|a, b| (a.subject, &a.name).cmp(&(b.subject, &b.name)));
    // The plain name before those of single bots.
    found.sort_by_key(|listed| (listed.subject, listed.name != "user_balances.json"));
    report.left_alone.sort_by(|a, b| a.file.cmp(&b.file));
    report.ignored.sort();
    Ok(found)
}

/// The files of other names. Each stands for a file that must not be there too: nobody could tell which one counts.
fn mapped(dir: &Path, options: &ReadOptions) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for (role, file) in &options.map {
        let Some((_, subject)) = READ.iter().find(|(known, _)| known == role) else {
            let known = roles().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(
                "map",
                format!("{role:?} is no file of the earlier system; there are: {known}"),
            ));
        };
        let (usual, path) = (dir.join(format!("{role}.json")), dir.join(file));
        if usual.exists() && usual.canonicalize().ok() != path.canonicalize().ok() {
            let usual = usual.display();
            return Err(Error::invalid(
                "map",
                format!("{usual} is there too: take one of the two out of the directory"),
            ));
        }
        found.push(look(*subject, file.display().to_string(), path, options)?);
    }
    Ok(found)
}

fn look(subject: Subject, name: String, path: PathBuf, options: &ReadOptions) -> Result<Listed> {
    let metadata = fs::metadata(&path).map_err(|error| unreadable(&name, error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory stands in its place" } else { "it is not a regular file" };
        return Err(Error::corrupt(Place::new(name), what));
    }
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .unwrap_or(options.now);
    Ok(Listed { subject, name, path, bytes: metadata.len(), modified })
}

/// A file of the earlier system, in memory.
pub(super) struct LegacyFile {
    pub(super) name: Arc<str>,
    pub(super) modified: Timestamp,
    pub(super) size: u64,
    /// What the text goes by in errors.
    label: String,
    text: Vec<u8>,
}

impl LegacyFile {
    /// Reads a file and unwraps text that was encoded twice.
    pub(super) fn load(listed: &Listed) -> Result<Self> {
        let name = &listed.name;
        let text = fs::read(&listed.path).map_err(|error| unreadable(name, error))?;
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut file = Self { name: name.as_str().into(), modified: listed.modified, size, label: name.clone(), text };
        for _ in 0..MAX_WRAPPINGS {
            let Some(inner) = file.wrapped()? else { return Ok(file) };
            file.text = inner.into_bytes();
            file.label = format!("{name} (the text within)");
        }
        Err(Error::corrupt(Place::new(name.clone()), "text within text within text"))
    }
    /// The text within, when the file holds nothing but a text.
    fn wrapped(&self) -> Result<Option<String>> {
        let source = self.source()?;
        if !source.text().trim_start().starts_with('"') {
            return Ok(None);
        }
        match source.document(Dialect::Legacy)?.value {
            NodeValue::String(inner) => Ok(Some(inner.into_owned())),
            _ => Ok(None),
        }
    }
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(self.source()?.text().trim_matches([' ', '\t', '\r', '\n']).is_empty())
    }
    fn source(&self) -> Result<Source<'_>> {
        Source::new(&self.label, &self.text)
    }
    /// The whole file is refused for what stands at an offset.
    pub(super) fn corrupt(&self, offset: usize, key: &str, problem: String) -> Error {
        match self.source() {
            Ok(source) => Error::corrupt(source.place(offset, Some(key)), problem),
            Err(error) => error,
        }
    }
    /// Hands out the entries of the file's object: key, the key's offset, value. An empty file has none.
    pub(super) fn entries(&self, each: &mut dyn FnMut(&str, usize, &Node<'_>)) -> Result<()> {
        if self.is_empty()? {
            return Ok(());
        }
        self.source()?.entries(Dialect::Legacy, &mut |key, offset, node| {
            each(&key, offset, &node);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_told_from_files() {
        for name in ["x.tmp", "payments.json.tmp", ".payments.json.lock", "payments.json.corrupted.3", "a.json.backup"]
        {
            assert!(matches!(known(name), Some(Known::Ignored)), "{name}");
        }
        for name in ["x.json", "payments.json.corrupted.x", "payments.lock", "x.backup", "data"] {
            assert!(known(name).is_none(), "{name}");
        }
        assert!(matches!(known("user_balances_bot_77.json"), Some(Known::Read(Subject::Balances))));
    }
}
