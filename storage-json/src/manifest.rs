//! The manifest: which files make up the store, their checksums, and the policy that was stored with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage_core::{Error, HistoryRetention, Place, Policy, Result, TimeZone, Timestamp};

use crate::files::Dir;
use crate::state::FileId;

pub(crate) const MANIFEST: &str = "manifest.json";
/// The version of the directory format that this crate writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// The largest generation, sequence number or length that is believed: what is counted on from there still fits.
pub(crate) const MAX_COUNTED: u64 = 1 << 62;

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSum {
    pub(crate) bytes: u64,
    pub(crate) crc32: String,
}

impl FileSum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32: format!("{:08x}", crc32fast::hash(bytes)) }
    }
}

/// What a checkpoint that renames its files makes of the store. Every file of it is complete and durable by then, under
/// its own name or its staged one, so that whoever finds this finishes the renames and never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Next {
    /// The sequence number of the first journal line that the files do not contain.
    pub(crate) seq: u64,
    /// The length of the ledger that belongs to them.
    pub(crate) ledger_bytes: u64,
    pub(crate) at: Timestamp,
    pub(crate) files: BTreeMap<String, FileSum>,
}

/// Which files make up the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) time_zone: TimeZone,
    pub(crate) history: HistoryRetention,
    /// The journal whose changes are not in the files yet.
    pub(crate) generation: u64,
    /// The sequence number of that journal's first line.
    pub(crate) seq: u64,
    /// The length of the ledger when that journal began.
    pub(crate) ledger_bytes: u64,
    pub(crate) checkpoint_at: Timestamp,
    pub(crate) files: BTreeMap<String, FileSum>,
    /// While a checkpoint renames its files: what the store becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<Next>,
    /// Where the store's contents were moved to; writing here is refused then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved_to: Option<String>,
    /// CRC-32 of the manifest as compact JSON with this field empty.
    #[serde(default)]
    pub(crate) crc32: String,
}

/// What is read first: a later format may have other fields.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    pub(crate) fn new(policy: &Policy, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            time_zone: policy.time_zone.clone(),
            history: policy.history,
            generation: 0,
            seq: 1,
            ledger_bytes: 0,
            checkpoint_at: now,
            files: BTreeMap::new(),
            next: None,
            moved_to: None,
            crc32: String::new(),
        }
    }

    fn sealed(&self) -> Result<Self> {
        let unsealed = Self { crc32: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&unsealed)
            .map_err(|error| Error::internal("the manifest could not be serialised").caused_by(error))?;
        Ok(Self { crc32: format!("{:08x}", crc32fast::hash(&bytes)), ..unsealed })
    }

    /// Reads the manifest; `None` when there is none.
    pub(crate) fn read(dir: &Dir) -> Result<Option<Self>> {
        let Some(bytes) = dir.read(MANIFEST)? else { return Ok(None) };
        let damaged = |error: serde_json::Error| {
            let place = Place::new(MANIFEST).at(error.line() as u64, error.column() as u64);
            Error::corrupt(place, "this is not a manifest").caused_by(error)
        };
        let Version { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(Error::schema(
                format!("a data directory of format {format}"),
                format!("format {FORMAT}"),
                "storage of a version that knows this format",
            ));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if manifest.sealed()? != manifest {
            return Err(Error::corrupt(Place::new(MANIFEST), "the manifest was changed by somebody else"));
        }
        let next = manifest.next.as_ref().map_or([0; 2], |next| [next.seq, next.ledger_bytes]);
        let numbers = [[manifest.generation, manifest.seq], [manifest.ledger_bytes, 0], next];
        if numbers.as_flattened().iter().any(|number| *number > MAX_COUNTED) {
            return Err(Error::corrupt(Place::new(MANIFEST), "a number is larger than any store can count to"));
        }
        // A checkpoint is finished by these names before anything else is looked at.
        let mut names = manifest.files.keys().chain(manifest.next.iter().flat_map(|next| next.files.keys()));
        if let Some(name) = names.find(|name| !FileId::ALL.iter().any(|file| file.name() == name.as_str())) {
            return Err(Error::corrupt(Place::new(MANIFEST).key(name.clone()), "the store has no such file"));
        }
        Ok(Some(manifest))
    }

    /// The manifest that a checkpoint ends with; `None` when none was begun.
    pub(crate) fn finished(&self) -> Option<Self> {
        let Next { seq, ledger_bytes, at, files: renewed } = self.next.clone()?;
        let mut files = self.files.clone();
        files.extend(renewed);
        let generation = self.generation + 1;
        Some(Self { generation, seq, ledger_bytes, checkpoint_at: at, files, next: None, ..self.clone() })
    }

    /// The manifest's text, with its checksum.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&self.sealed()?)
            .map_err(|error| Error::internal("the manifest could not be serialised").caused_by(error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Refuses a policy other than the one that the store was created with.
    pub(crate) fn check_policy(&self, policy: &Policy) -> Result<()> {
        if (&self.time_zone, self.history) == (&policy.time_zone, policy.history) {
            return Ok(());
        }
        let shown = |zone: &TimeZone, history| match history {
            HistoryRetention::Newest(count) => format!("time zone {zone} and the newest {count} history entries"),
            HistoryRetention::Everything => format!("time zone {zone} and all history"),
        };
        let word = |history| match history {
            HistoryRetention::Newest(count) => count.to_string(),
            HistoryRetention::Everything => "everything".to_owned(),
        };
        Err(Error::schema(
            format!("a store with {}", shown(&self.time_zone, self.history)),
            shown(&policy.time_zone, policy.history),
            format!(
                "storage policy --time-zone {} --history {} to change the store, or keep it with STORAGE_TIME_ZONE={} STORAGE_HISTORY={}",
                policy.time_zone,
                word(policy.history),
                self.time_zone,
                word(self.history)
            ),
        ))
    }
}
