//! A hash map that grows in pieces.
//!
//! A hash map that is full moves to a place of twice the size and hashes every key anew. With texts as keys that is 0.2 s
//! at half a million, during which nobody gets at the state. Here are many small maps, which grow one at a time.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// How many maps there are: one of a million entries moves 4,000 at a time.
const PARTS: usize = 256;

/// A map of many parts.
#[derive(Debug)]
pub(crate) struct Spread<K, V> {
    parts: Box<[HashMap<K, V>]>,
}

impl<K, V> Default for Spread<K, V> {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| HashMap::new()).collect() }
    }
}

/// Chooses a part: in a few steps, because within the part a proper hash is taken. Whoever chose keys so that they all fall
/// into one would have a map like any other.
#[derive(Default)]
struct Choice(u64);

impl Choice {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for Choice {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.add(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }
    fn finish(&self) -> u64 {
        // The highest bits depend on all others.
        self.0 >> (u64::BITS - PARTS.trailing_zeros())
    }
}

fn part_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut choice = Choice::default();
    key.hash(&mut choice);
    usize::try_from(choice.finish()).unwrap_or(0)
}

impl<K: Hash + Eq, V> Spread<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts[part_of(key)].get(key)
    }
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.parts[part_of(&key)].insert(key, value)
    }
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.parts[part_of(key)].remove(key)
    }
    /// In no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(HashMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::PaymentId;

    #[test]
    fn it_is_a_map_and_its_parts_are_of_a_size() {
        let id = |text: String| PaymentId::new(text).unwrap();
        let minted = |n: u32| id(format!("0192{n:04x}-7a00-7b11-8c22-{:012x}", u64::from(n).wrapping_mul(0x9E37_79B9)));
        for ids in
            [(0..40_000).map(|n| id(format!("payment-{n}"))).collect(), (0..40_000).map(minted).collect::<Vec<_>>()]
        {
            let mut map = Spread::default();
            for (n, id) in ids.iter().enumerate() {
                assert_eq!(map.insert(id.clone(), n), None);
            }
            for (n, id) in ids.iter().enumerate() {
                assert_eq!((map.get(id), map.get(id.as_str())), (Some(&n), Some(&n)));
            }
            let largest = map.parts.iter().map(HashMap::len).max().unwrap();
            assert!(largest < 2 * ids.len() / PARTS, "{largest} of {} in one part", ids.len());
            assert_eq!(map.insert(ids[0].clone(), 7), Some(0));
            assert_eq!((map.remove(&ids[0]), map.get(&ids[0])), (Some(7), None));
            let mut values: Vec<usize> = map.values().copied().collect();
            values.sort_unstable();
            assert_eq!(values, (1..ids.len()).collect::<Vec<_>>());
        }
    }
}
