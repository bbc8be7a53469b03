//! The files of a checkpoint: the nine of the original in its shapes, and our own two beside them.

mod read;
mod record;
mod write;

pub(crate) use read::{Loaded, load};
pub(crate) use write::write;

/// The key under which the referrals file keeps its lists.
const LISTS: &str = "referrals";
