//! Chance, cheap enough to stand inside a measured loop.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use uuid::Uuid;

/// Numbers that look drawn at random: splitmix64.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    /// Begins somewhere else each time.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.number(), self.number())
    }
    /// 0 to one less than that many.
    pub(crate) fn below(&mut self, many: u32) -> u32 {
        u32::try_from(self.number() % u64::from(many.max(1))).unwrap_or(0)
    }
    /// 1 to that many.
    pub(crate) fn user(&mut self, users: u32) -> i64 {
        i64::from(self.below(users)) + 1
    }
}
