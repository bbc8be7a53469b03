//! The manifest: which files make up the store, their checksums, and the policy that was stored with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage_core::{Error, HistoryRetention, Place, Policy, Result, TimeZone, Timestamp};

use crate::disk::Dir;
use crate::index::{IndexFile, is_segment};
use crate::state::{FileId, Position};

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
    /// Where the changes begin that the files do not contain.
    pub(crate) start: Start,
    pub(crate) at: Timestamp,
    pub(crate) files: BTreeMap<String, FileSum>,
    pub(crate) ledger: LedgerSum,
}

/// Where a journal begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) generation: u64,
    /// The sequence number of its first line.
    pub(crate) seq: u64,
    /// The length of the ledger at that moment.
    pub(crate) ledger_bytes: u64,
}

impl Start {
    pub(crate) fn of(position: Position) -> Self {
        Self { generation: position.generation, seq: position.seq, ledger_bytes: position.ledger }
    }
    pub(crate) fn position(self) -> Position {
        Position { generation: self.generation, offset: 0, seq: self.seq, ledger: self.ledger_bytes }
    }
}

/// What is known of the ledger up to a checkpoint, so that opening needs to look at its bytes only, not into its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerSum {
    pub(crate) crc32: String,
    /// Where each key's line stands. Derived, so that a missing file costs time and nothing else.
    pub(crate) index: Vec<IndexFile>,
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
    /// None in a directory of an earlier version, and before the first checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ledger: Option<LedgerSum>,
    /// While a checkpoint is being written: the journal where changes go on meanwhile. Those between the first journal
    /// and this one are complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) writing: Option<Start>,
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
            ledger: None,
            writing: None,
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
        manifest.check()?;
        // In memory a manifest is without its checksum, so that two of the same content are equal.
        Ok(Some(Self { crc32: String::new(), ..manifest }))
    }

    /// Refuses what no checkpoint leaves: a checkpoint is finished by these names and numbers before anything else is
    /// looked at.
    fn check(&self) -> Result<()> {
        let corrupt = |problem| Err(Error::corrupt(Place::new(MANIFEST), problem));
        let next = self.next.as_ref();
        let starts = [Some(self.start()), self.writing, next.map(|next| next.start)];
        let numbers = starts.iter().flatten().flat_map(|start| [start.generation, start.seq, start.ledger_bytes]);
        if numbers.into_iter().any(|number| number > MAX_COUNTED) {
            return corrupt("a number is larger than any store can count to");
        }
        if self.writing.is_some_and(|start| start.generation <= self.generation)
            || next.is_some_and(|next| {
                self.writing != Some(next.start) && next.start.generation != self.current().generation + 1
            })
        {
            return corrupt("a journal does not follow the one before it");
        }
        let mut names = self.files.keys().chain(next.iter().flat_map(|next| next.files.keys()));
        if let Some(name) = names.find(|name| !FileId::ALL.iter().any(|file| file.name() == name.as_str())) {
            return Err(Error::corrupt(Place::new(MANIFEST).key(name.clone()), "the store has no such file"));
        }
        let mut segments = self.index().iter().chain(next.iter().flat_map(|next| &next.ledger.index));
        match segments.find(|segment| !is_segment(&segment.name)) {
            Some(segment) => {
                Err(Error::corrupt(Place::new(MANIFEST).key(segment.name.clone()), "the index has no such file"))
            }
            None => Ok(()),
        }
    }

    /// The manifest that a checkpoint ends with; `None` when none was begun.
    pub(crate) fn finished(&self) -> Option<Self> {
        let Next { start, at, files: renewed, ledger } = self.next.clone()?;
        let Start { generation, seq, ledger_bytes } = start;
        let mut files = self.files.clone();
        files.extend(renewed);
        let ledger = Some(ledger);
        Some(Self {
            generation,
            seq,
            ledger_bytes,
            checkpoint_at: at,
            files,
            ledger,
            writing: None,
            next: None,
            ..self.clone()
        })
    }

    /// Where the journal begins whose changes the files do not contain.
    pub(crate) fn start(&self) -> Start {
        Start { generation: self.generation, seq: self.seq, ledger_bytes: self.ledger_bytes }
    }
    /// Where the journal begins that is being written.
    pub(crate) fn current(&self) -> Start {
        self.writing.unwrap_or_else(|| self.start())
    }
    /// What only grows: where writing goes on, and up to where the files contain everything.
    pub(crate) fn age(&self) -> (u64, u64) {
        (self.current().generation, self.generation)
    }
    /// The files of the ledger's index.
    pub(crate) fn index(&self) -> &[IndexFile] {
        self.ledger.as_ref().map_or(&[], |ledger| ledger.index.as_slice())
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
        policy.check_store(&self.time_zone, self.history)
    }
}
