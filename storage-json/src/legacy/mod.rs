//! Reading a data directory that the earlier system left.
//!
//! [`read`] turns its files into [`ImportRecord`](storage_core::ImportRecord)s and a [`Report`]. It changes
//! nothing. A record that breaks a rule is left out and named in the report; it never stops the others. A file
//! that cannot be parsed (cut off, two documents, not UTF-8, a list where an object is expected, a key that
//! stands twice, nested too deep, unreadable) refuses everything, with file, line, column and key, because
//! nobody can tell what is missing from it.
//!
//! Which files there are, in which shapes, and what their words mean is in `docs/legacy.md`. What it leaves open:
//!
//! * A user whose balance stands in several files gets the first; another amount elsewhere is refused by name.
//! * A history entry's id is kept when it is a text that stands once in the user's list; else it is
//!   `<user>-generations_history-<position>`, positions counted from 1.
//! * `history_events.json` counts only for users without an entry in `generations_history.json`, because it may
//!   repeat it, and prices would be summed twice.
//! * Who brought a user: the user's own record, else the fork's document, else an event, else a referrer's list.
//!   A list that contradicts any of them is stale and noted, also when what it contradicts was refused.
//! * A job in both job files is taken from `generation_jobs.json`.
//! * `approved` without `balance_charged`, and anything approved that says it was not charged, is listed under
//!   [`Report::uncertain_payments`].
//! * What people had and what has no counterpart here (open holds, bonus balances, promotion codes, blocks) is listed under
//!   [`Report::unsettled`].

mod admin_limits;
mod balances;
mod fields;
mod free_generations;
mod gather;
mod history;
mod jobs;
mod payments;
mod referrals;
mod report;
mod source_files;
#[cfg(test)]
mod tests;
mod unsettled;
mod users;

use std::path::Path;

use storage_core::Result;

use self::gather::Gather;
pub use self::report::{
    FileNote, FileSeen, LeftAlone, Legacy, LegacyRecord, Progress, ReadOptions, Refusal, Report, RoundedMoney,
    UncertainPayment, Unsettled,
};
pub use self::source_files::roles;
use self::source_files::{LegacyFile, Subject, list};

/// Reads a data directory of the earlier system, and tells `progress` how far it is.
///
/// # Errors
/// `Corrupt` with file, line, column and key for a file that cannot be parsed; `InvalidInput` with the cause for
/// a directory or file that cannot be read.
///
/// ```
/// use storage_json::legacy::{ReadOptions, read};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("user_balances.json"), r#"{"1001": 12.5, "1002": -1}"#)?;
/// let options = ReadOptions::new("2026-01-15T10:00:00Z".parse()?);
/// let legacy = read(dir.path(), &options, &mut |_| {})?;
/// assert_eq!(legacy.report.balance_sum.to_string(), "12.50");
/// assert_eq!(legacy.report.refused[0].reason, "balance: must not be negative");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(dir: &Path, options: &ReadOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Legacy> {
    let mut gather = Gather::new(options, progress);
    let listed = list(dir, options, &mut gather.report)?;
    gather.expect(listed.iter().map(|listed| listed.bytes).sum());
    for listed in &listed {
        // What several files say together is settled when the last of them is through.
        if listed.subject >= Subject::AdminLimits {
            gather.settle_quotas();
        }
        if listed.subject >= Subject::Payments {
            gather.settle_spent();
            gather.settle_referrals();
        }
        let file = LegacyFile::load(listed)?;
        gather.begin(&file);
        if file.is_empty()? {
            gather.file_note(&file.name, "the file is empty");
        }
        match listed.subject {
            Subject::Balances => balances::read(&mut gather, &file),
            Subject::Languages => users::read_languages(&mut gather, &file),
            Subject::Gifts => users::read_gifts(&mut gather, &file),
            Subject::Quotas => free_generations::read_daily(&mut gather, &file),
            Subject::FreeBank => free_generations::read_bank(&mut gather, &file),
            Subject::AdminLimits => admin_limits::read(&mut gather, &file),
            Subject::History => history::read(&mut gather, &file),
            Subject::HistoryEvents => history::read_events(&mut gather, &file),
            Subject::Referrals => referrals::read(&mut gather, &file),
            Subject::ReferralEvents => referrals::read_events(&mut gather, &file),
            Subject::Payments => payments::read(&mut gather, &file),
            Subject::Jobs | Subject::JobStates => jobs::read(&mut gather, &file),
            Subject::Holds => unsettled::read_holds(&mut gather, &file),
            Subject::Bonuses => unsettled::read_bonuses(&mut gather, &file),
            Subject::Codes => unsettled::read_codes(&mut gather, &file),
            Subject::Blocked => unsettled::read_blocked(&mut gather, &file),
        }?;
        gather.end(&file);
    }
    gather.settle_quotas();
    gather.settle_spent();
    gather.settle_referrals();
    Ok(gather.finish())
}
