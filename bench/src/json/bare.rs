//! What needs no library: the bare disk, and the earlier system's way of rewriting the whole file for each change.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::gather::unpoisoned;
use super::op::{MICROS, Op, UNITS};

/// As long as a record of the floor.
const LINE: [u8; 150] = [b'x'; 150];

/// Appends a line to a growing file and syncs it, for each change.
#[derive(Debug)]
pub(super) struct Append(Mutex<File>);

impl Append {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        File::create_new(path).map(|file| Self(Mutex::new(file))).map_err(|error| format!("the bare file: {error}"))
    }

    pub(super) fn run(&self, op: &Op) -> Result<(), String> {
        if matches!(op, Op::Balance { .. } | Op::User { .. }) {
            return Err("the bare disk has nothing to read".to_owned());
        }
        let mut file = unpoisoned(self.0.lock());
        file.write_all(&LINE).and_then(|()| file.sync_data()).map_err(|error| format!("the bare file: {error}"))
    }
}

/// Keeps the balances in one JSON file, which each change writes anew: a file beside it, a sync, a rename, a sync of the
/// directory.
#[derive(Debug)]
pub(super) struct Rewrite {
    dir: PathBuf,
    balances: Mutex<BTreeMap<i64, i64>>,
}

impl Rewrite {
    pub(super) fn open(dir: &Path, users: u32) -> Result<Self, String> {
        fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let balance = i64::try_from(UNITS).unwrap_or(0) * 1_000_000;
        let balances = (1..=i64::from(users)).map(|user| (user, balance)).collect();
        Ok(Self { dir: dir.to_owned(), balances: Mutex::new(balances) })
    }

    pub(super) fn run(&self, op: &Op) -> Result<(), String> {
        let Op::Credit { user } = op else { return Err("only balances are rewritten".to_owned()) };
        let mut balances = unpoisoned(self.balances.lock());
        *balances.entry(*user).or_insert(0) += MICROS;
        self.write(&balances).map_err(|error| format!("rewriting: {error}"))
    }

    #[expect(clippy::disallowed_methods, reason = "a peer's files, no data directory")]
    fn write(&self, balances: &BTreeMap<i64, i64>) -> io::Result<()> {
        let text: BTreeMap<String, String> = balances
            .iter()
            .map(|(user, micros)| (user.to_string(), format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)))
            .collect();
        let (path, staged) = (self.dir.join("user_balances.json"), self.dir.join("user_balances.json.tmp"));
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec_pretty(&text)?)?;
        file.sync_all()?;
        fs::rename(staged, path)?;
        File::open(&self.dir)?.sync_all()
    }
}
