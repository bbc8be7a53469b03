//! The floor: a bare gathered append. The state is a hash map in shards; a change is a record of 150 bytes, handed to one
//! writer that appends what waits into zeroed space with one write, makes it durable and answers.
//!
//! Which way is the fastest depends on machine and tasks, so that all are tried before a measurement and the fastest
//! stands for the floor.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;

use super::gather::{Batch, By, Gather, Waiting, unpoisoned};
use super::op::{MICROS, Op, seen};

/// Bytes of a record.
const RECORD: usize = 150;
/// The space that is written over and over, each byte of it written once beforehand.
const SPACE: u64 = 8 * 1024 * 1024;
/// What a write past the page cache begins and ends at.
const BLOCK: usize = 4096;
const SHARDS: usize = 64;

/// How a batch gets onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// `pwrite`, then `fdatasync`.
    Sync,
    /// `pwrite` of a file opened with `O_DSYNC`.
    Dsync,
    /// `pwrite` of whole blocks of a file opened with `O_DIRECT` and `O_DSYNC`.
    Direct,
}

/// Every way, with its name.
pub(super) const WAYS: [(&str, By, Disk); 6] = [
    ("swap, fdatasync", By::Swap, Disk::Sync),
    ("swap after yield, fdatasync", By::SwapAfterYield, Disk::Sync),
    ("channel, fdatasync", By::Channel, Disk::Sync),
    ("swap, O_DSYNC", By::Swap, Disk::Dsync),
    ("swap, O_DIRECT and O_DSYNC", By::Swap, Disk::Direct),
    ("swap after yield, O_DIRECT and O_DSYNC", By::SwapAfterYield, Disk::Direct),
];

/// A user as the floor keeps it.
#[derive(Clone, Copy, Debug)]
struct Account {
    balance: i64,
    seq: u64,
    _settings: [u8; 32],
}

#[derive(Debug)]
pub(super) struct Floor {
    accounts: Shards<i64, Account>,
    /// What there is of jobs and payments: their states.
    things: Shards<String, u8>,
    writer: Gather<[u8; RECORD]>,
}

impl Floor {
    pub(super) fn open(path: &Path, by: By, disk: Disk, users: u32) -> Result<Self, String> {
        let mut log = Log::create(path, disk).map_err(|error| format!("the floor's file: {error}"))?;
        let accounts = Shards::new();
        let account = Account { balance: i64::MAX / 2, seq: 0, _settings: [0; 32] };
        for user in 1..=i64::from(users) {
            accounts.with(user, |shard| shard.insert(user, account));
        }
        let writer = Gather::start(by, Batch::Gathered, move |batch: &[Waiting<[u8; RECORD]>]| {
            log.append(batch.iter().map(|waiting| &waiting.work)).map_err(|error| format!("the floor: {error}"))
        })?;
        Ok(Self { accounts, things: Shards::new(), writer })
    }

    pub(super) fn add_payment(&self, payment: String) {
        self.set(payment, 0);
    }

    fn set(&self, thing: String, state: u8) {
        self.things.with(thing.clone(), |shard| shard.insert(thing, state));
    }

    fn change(&self, user: i64, change: i64) -> Result<(), String> {
        self.accounts.with(user, |shard| {
            let account = shard.get_mut(&user).ok_or("no such user")?;
            account.balance = account.balance.checked_add(change).ok_or("too much")?;
            account.seq += 1;
            Ok(())
        })
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        // What the record says makes no difference to the disk.
        let record = |user: i64| {
            let mut record = [b'x'; RECORD];
            record[..8].copy_from_slice(&user.to_le_bytes());
            record
        };
        match op {
            Op::Balance { user } => {
                let balance = self.accounts.with(user, |shard| shard.get(&user).map(|account| account.balance));
                seen(balance);
            }
            Op::User { user } => {
                let account = self.accounts.with(user, |shard| shard.get(&user).copied());
                seen(account);
            }
            Op::Credit { user } => {
                self.writer.hand(record(user)).await?;
                self.change(user, MICROS)?;
            }
            Op::Debit { user, key: _ } => {
                self.writer.hand(record(user)).await?;
                self.change(user, -MICROS)?;
            }
            Op::AddJob { user, job } => {
                self.writer.hand(record(user)).await?;
                self.set(job, 0);
            }
            Op::Run { job } => {
                self.writer.hand(record(0)).await?;
                self.set(job, 1);
            }
            Op::Approve { user, payment } => {
                self.writer.hand(record(user)).await?;
                self.set(payment, 1);
                self.change(user, MICROS)?;
            }
        }
        Ok(())
    }
}

/// A hash map behind many locks.
#[derive(Debug)]
struct Shards<K, V> {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<K, V>>>,
}

impl<K: Hash + Eq, V> Shards<K, V> {
    fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
    fn with<T>(&self, key: impl Hash, look: impl FnOnce(&mut HashMap<K, V>) -> T) -> T {
        let at = usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % SHARDS;
        let mut shard = unpoisoned(self.shards[at].lock());
        look(&mut shard)
    }
}

/// The space that records are appended to; it begins again at its end.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    disk: Disk,
    offset: u64,
    buffer: Vec<u8>,
    /// How many bytes of the buffer's first block stand on the disk already.
    carried: usize,
}

impl Log {
    pub(super) fn create(path: &Path, disk: Disk) -> io::Result<Self> {
        let mut zeroed = File::create_new(path)?;
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..SPACE / zeros.len() as u64 {
            io::Write::write_all(&mut zeroed, &zeros)?;
        }
        zeroed.sync_all()?;
        let flags = match disk {
            Disk::Sync => 0,
            Disk::Dsync => libc::O_DSYNC,
            Disk::Direct => libc::O_DSYNC | libc::O_DIRECT,
        };
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, disk, offset: 0, buffer: Vec::new(), carried: 0 })
    }

    /// Appends with one write and makes it durable.
    pub(super) fn append<'a>(&mut self, records: impl Iterator<Item = &'a [u8; RECORD]>) -> io::Result<()> {
        match self.disk {
            Disk::Direct => self.append_blocks(records),
            Disk::Sync | Disk::Dsync => {
                self.buffer.clear();
                records.for_each(|record| self.buffer.extend_from_slice(record));
                self.room(self.buffer.len());
                self.file.write_all_at(&self.buffer, self.offset)?;
                self.offset += self.buffer.len() as u64;
                if self.disk == Disk::Sync { self.file.sync_data() } else { Ok(()) }
            }
        }
    }

    fn room(&mut self, bytes: usize) {
        if self.offset + bytes as u64 > SPACE {
            self.offset = 0;
        }
    }

    /// The last block is written again with what follows in it. The offset stays at the beginning of a block.
    fn append_blocks<'a>(&mut self, records: impl Iterator<Item = &'a [u8; RECORD]>) -> io::Result<()> {
        let carried = self.carried;
        let begin = self.begin();
        self.buffer.truncate(begin + carried);
        for record in records {
            // With room for the padding, so that the buffer stays where it is.
            if self.buffer.len() + record.len() + BLOCK > self.buffer.capacity() {
                // Where a block begins in memory moves with the buffer.
                let filled = self.buffer.split_off(self.begin());
                self.buffer = Vec::with_capacity(2 * (filled.len() + record.len()) + 64 * BLOCK);
                let begin = self.buffer.as_ptr().align_offset(BLOCK);
                self.buffer.resize(begin, 0);
                self.buffer.extend_from_slice(&filled);
            }
            self.buffer.extend_from_slice(record);
        }
        let begin = self.begin();
        let filled = self.buffer.len() - begin;
        let padded = filled.next_multiple_of(BLOCK);
        self.buffer.resize(begin + padded, 0);
        self.room(padded);
        self.file.write_all_at(&self.buffer[begin..], self.offset)?;
        let whole = filled - filled % BLOCK;
        self.buffer.copy_within(begin + whole..begin + filled, begin);
        self.carried = filled - whole;
        self.offset += whole as u64;
        Ok(())
    }

    fn begin(&self) -> usize {
        // An empty vector has no memory yet, and nothing in it to begin.
        if self.buffer.capacity() == 0 { 0 } else { self.buffer.as_ptr().align_offset(BLOCK) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_appends_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for disk in [Disk::Sync, Disk::Dsync, Disk::Direct] {
            let path = dir.path().join(format!("{disk:?}"));
            let Ok(mut log) = Log::create(&path, disk) else { continue };
            let records: Vec<[u8; RECORD]> = (1..=200).map(|n| [n; RECORD]).collect();
            for batch in [&records[..1], &records[1..29], &records[29..30], &records[30..]] {
                log.append(batch.iter()).unwrap();
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.starts_with(&records.concat()), "{disk:?}");
            assert!(bytes[records.concat().len()..].iter().all(|byte| *byte == 0), "{disk:?}");
        }
    }
}
