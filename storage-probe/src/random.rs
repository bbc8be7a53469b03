//! Chance from a seed: `SplitMix64`, whose sequence depends on nothing but where it starts.

/// A sequence of numbers.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence that belongs to these numbers.
    pub(crate) fn of(numbers: &[u64]) -> Self {
        let mut random = Self(0x5eed);
        for number in numbers {
            random.0 ^= *number;
            random.0 = random.next();
        }
        random
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// A number below `end`, which is above 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(1).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }
    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
    /// An amount of 1 to `most` millionths; half of the time whole hundredths, when there is room for one.
    pub(crate) fn amount(&mut self, most: i64) -> i64 {
        let micros = i64::try_from(self.next() % u64::try_from(most).unwrap_or(1).max(1)).unwrap_or(0) + 1;
        if self.once_in(2) && micros > 10_000 { micros - micros % 10_000 } else { micros }
    }
    /// One of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { items.get(self.below(items.len())).copied() }
    }
    /// Puts the items into another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end + 1);
            items.swap(end, other);
        }
    }
}
