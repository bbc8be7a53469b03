//! Where each used key's ledger line stands: in memory sorted pairs of hash and offset, on disk the same pairs, so that
//! opening a store reads 16 bytes for each line instead of the lines.
//!
//! The pairs since the last checkpoint are a hash table. A checkpoint freezes it and turns it into a sorted segment;
//! small segments are merged into the next larger one, so that there are few and each pair is rewritten a logarithmic
//! number of times (the logarithmic method of Bentley and Saxe, 1980). The files are derived: whoever finds one missing
//! or damaged reads the ledger instead. A hit is always confirmed by the line itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use storage_core::{KeySpace, OperationKey, Result, UserId};

use crate::disk::Dir;
use crate::ledger::{Ledger, Line};
use crate::manifest::FileSum;

/// How many times larger the last segment may be for a new one to be merged into it.
const RATIO: usize = 8;
/// Segments below this many pairs are always merged: they cost less than their file.
const SMALL: usize = 4096;
const PAIR: usize = 16;

/// A hasher for what is a hash already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The hash that the files hold, so it is `SipHash`-1-3 by name and not the standard library's choice of the day.
fn hash(user: UserId, space: KeySpace, key: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    (user.get(), space as u8, key).hash(&mut hasher);
    hasher.finish()
}

/// The pairs that came since a moment.
#[derive(Debug, Default)]
struct Recent {
    offsets: HashMap<u64, u64, BuildHasherDefault<AsIs>>,
    /// Pairs whose hash is another key's too.
    twins: Vec<(u64, u64)>,
}

impl Recent {
    fn insert(&mut self, hash: u64, offset: u64) {
        match self.offsets.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(offset);
            }
            // The same line again changes nothing.
            Entry::Occupied(entry) if *entry.get() == offset => {}
            Entry::Occupied(_) if self.twins.contains(&(hash, offset)) => {}
            Entry::Occupied(_) => self.twins.push((hash, offset)),
        }
    }
    fn find(&self, hash: u64) -> impl Iterator<Item = u64> + '_ {
        let twins = self.twins.iter().filter(move |(twin, _)| *twin == hash).map(|(_, offset)| *offset);
        self.offsets.get(&hash).copied().into_iter().chain(twins)
    }
    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.offsets.iter().map(|(hash, offset)| (*hash, *offset)).chain(self.twins.iter().copied())
    }
    fn len(&self) -> usize {
        self.offsets.len() + self.twins.len()
    }
}

/// Sorted pairs that never change.
#[derive(Debug)]
pub(crate) struct Segment {
    pairs: Vec<(u64, u64)>,
    /// The file that holds them; none for pairs that are in memory only.
    file: Option<IndexFile>,
}

/// What the manifest says of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexFile {
    pub(crate) name: String,
    pub(crate) sum: FileSum,
}

impl Segment {
    fn of(mut pairs: Vec<(u64, u64)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        Self { pairs, file: None }
    }

    /// The offsets of a hash. Hashes are spread evenly, so that where one stands can be computed to within a few steps.
    fn find(&self, hash: u64) -> impl Iterator<Item = u64> + '_ {
        let (mut low, mut high) = (0, self.pairs.len());
        let guess = (u128::from(hash) * self.pairs.len() as u128) >> 64;
        let mut at = usize::try_from(guess).unwrap_or(0);
        let mut step = 1 + self.pairs.len().isqrt() / 2;
        // Gallop away from the guess until the place lies between two bounds, then halve.
        while low < high {
            at = at.clamp(low, high - 1);
            if self.pairs[at].0 < hash {
                low = at + 1;
                at = at.saturating_add(step);
            } else {
                high = at;
                at = at.saturating_sub(step);
            }
            if at < low || at >= high || step == 0 {
                at = low + (high - low) / 2;
                step = 0;
            }
        }
        self.pairs[low..].iter().take_while(move |(present, _)| *present == hash).map(|(_, offset)| *offset)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pairs.len() * PAIR);
        for (hash, offset) in &self.pairs {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes
    }

    /// Reads a segment back; `None` when it is not what the manifest has.
    pub(crate) fn read(dir: &Dir, file: &IndexFile) -> Result<Option<Self>> {
        Ok(dir.read(&file.name)?.and_then(|bytes| Self::parse(&bytes, file)))
    }

    /// Takes a segment from a file's bytes; `None` when they are not what the manifest has.
    pub(crate) fn parse(bytes: &[u8], file: &IndexFile) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<PAIR>();
        if !rest.is_empty() || FileSum::of(bytes) != file.sum {
            return None;
        }
        let pairs = pairs.iter().map(|pair| {
            let pair = u128::from_le_bytes(*pair);
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of a pair")]
            (pair as u64, (pair >> 64) as u64)
        });
        Some(Self { pairs: pairs.collect(), file: Some(file.clone()) })
    }
}

/// Where each used key's line stands.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    recent: Recent,
    /// What a checkpoint that goes on is writing.
    frozen: Option<Arc<Frozen>>,
    segments: Vec<Arc<Segment>>,
}

/// An index as it was when a checkpoint began.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    recent: Recent,
    segments: Vec<Arc<Segment>>,
}

impl KeyIndex {
    pub(crate) fn of(segments: Vec<Segment>) -> Self {
        Self { segments: segments.into_iter().map(Arc::new).collect(), ..Self::default() }
    }

    /// Notes a line. The same line again changes nothing.
    pub(crate) fn insert(&mut self, user: UserId, space: KeySpace, key: &str, offset: u64) {
        self.recent.insert(hash(user, space, key), offset);
    }

    /// Finds a key's line, reading the ledger only on a hit.
    pub(crate) fn find(
        &self,
        ledger: &Ledger,
        user: UserId,
        space: KeySpace,
        key: &OperationKey,
    ) -> Result<Option<Line>> {
        let hash = hash(user, space, key.as_str());
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.recent.find(hash));
        let segments = self.segments.iter().flat_map(|segment| segment.find(hash));
        for offset in self.recent.find(hash).chain(frozen).chain(segments) {
            let line = ledger.line_at(offset)?;
            if line.is(user, space, key) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Hands out what the index is now, and goes on without changing it, until [`KeyIndex::settle`] or
    /// [`KeyIndex::thaw`].
    pub(crate) fn freeze(&mut self) -> Arc<Frozen> {
        self.thaw();
        let recent = std::mem::take(&mut self.recent);
        let frozen = Arc::new(Frozen { recent, segments: self.segments.clone() });
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }
    /// Takes the segments that a checkpoint made of what was frozen.
    pub(crate) fn settle(&mut self, segments: Vec<Arc<Segment>>) {
        self.segments = segments;
        self.frozen = None;
    }
    /// Takes back what was frozen for a checkpoint that came to nothing.
    pub(crate) fn thaw(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            frozen.recent.pairs().for_each(|(hash, offset)| self.recent.insert(hash, offset));
        }
    }
}

impl Frozen {
    /// Writes the segments that are new, and answers all that make up the index. `present` are the files of the last
    /// checkpoint, which may be another process' and not the ones that are in memory here.
    pub(crate) fn write(&self, dir: &Dir, generation: u64, present: &[IndexFile]) -> Result<Vec<Arc<Segment>>> {
        let kept = |segment: &Segment| segment.file.as_ref().is_some_and(|file| present.contains(file));
        let mut segments = self.segments.clone();
        let mut new: Vec<(u64, u64)> = Vec::with_capacity(self.recent.len());
        new.extend(self.recent.pairs());
        while let Some(last) = segments.last() {
            if kept(last) && last.pairs.len() > SMALL.max(new.len() * RATIO) || new.is_empty() && kept(last) {
                break;
            }
            new.extend_from_slice(&last.pairs);
            segments.pop();
        }
        if new.is_empty() {
            return Ok(segments);
        }
        let mut segment = Segment::of(new);
        let bytes = segment.to_bytes();
        let name = name(generation);
        dir.stage(&name, &bytes)?;
        dir.publish(&name)?;
        segment.file = Some(IndexFile { name, sum: FileSum::of(&bytes) });
        segments.push(Arc::new(segment));
        Ok(segments)
    }
}

/// The files of segments.
pub(crate) fn files(segments: &[Arc<Segment>]) -> Vec<IndexFile> {
    segments.iter().filter_map(|segment| segment.file.clone()).collect()
}

/// The file name of the segment that a checkpoint writes, by the journal that it begins.
pub(crate) fn name(generation: u64) -> String {
    format!("ledger-{generation:08}.index")
}

/// Whether a file is a segment, or one that was being written.
pub(crate) fn is_segment(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    name.strip_prefix("ledger-").and_then(|name| name.strip_suffix(".index")).is_some_and(|n| n.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(n: u64) -> u64 {
        hash(UserId::new(i64::try_from(n).unwrap() + 1).unwrap(), KeySpace::Operation, "key")
    }

    #[test]
    fn every_pair_of_a_segment_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 10, 1000, 50_000] {
            let segment = Segment::of((0..count).map(|n| (spread(n), n)).collect());
            for n in 0..count {
                assert_eq!(segment.find(spread(n)).collect::<Vec<_>>(), [n], "{n} of {count}");
            }
            for n in count..count + 1000 {
                assert_eq!(segment.find(spread(n)).count(), 0);
            }
            assert_eq!(segment.find(0).count() + segment.find(u64::MAX).count(), 0);
        }
        // Not spread at all.
        let segment = Segment::of((0..1000).map(|n| (n, n)).chain([(500, 7777)]).collect());
        assert_eq!(segment.find(500).collect::<Vec<_>>(), [500, 7777]);
        assert_eq!(segment.find(999).collect::<Vec<_>>(), [999]);
    }

    #[test]
    fn two_keys_with_one_hash_are_both_kept() {
        let mut recent = Recent::default();
        for offset in [10, 20, 10, 20, 30] {
            recent.insert(5, offset);
        }
        assert_eq!(recent.find(5).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(recent.len(), 3);
    }

    #[test]
    fn segments_are_few_and_are_read_back() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::create(scratch.path()).unwrap();
        let mut index = KeyIndex::default();
        let mut present = Vec::new();
        let mut next = 0;
        for generation in 1..=60 {
            for _ in 0..(generation * 131) % 5000 {
                index.recent.insert(spread(next), next);
                next += 1;
            }
            let frozen = index.freeze();
            index.recent.insert(spread(next), next);
            next += 1;
            if generation % 7 == 0 {
                index.thaw();
                continue;
            }
            let segments = frozen.write(&dir, generation, &present).unwrap();
            present = files(&segments);
            index.settle(segments);
            assert!(present.len() <= 4, "{} segments", present.len());
            // Another process, whose files are none of the present ones, writes all of it.
            if generation == 30 {
                assert_eq!(index.freeze().write(&dir, 1000, &[]).unwrap().len(), 1);
                index.thaw();
            }
        }
        let read: Vec<Segment> = present.iter().map(|file| Segment::read(&dir, file).unwrap().unwrap()).collect();
        let again = KeyIndex::of(read);
        let found = |index: &KeyIndex, n| index.segments.iter().flat_map(|s| s.find(spread(n))).collect::<Vec<_>>();
        let waiting: Vec<u64> = index.recent.pairs().map(|(_, offset)| offset).collect();
        for n in (0..next).filter(|n| !waiting.contains(n)) {
            assert_eq!(found(&again, n), [n]);
        }
        let mut other = present[0].clone();
        other.sum.crc32 = "00000000".to_owned();
        assert!(Segment::read(&dir, &other).unwrap().is_none());
    }
}
