//! The files of a checkpoint: the nine of the original in its shapes, and our own two beside them.

mod read;
mod record;
mod write;

pub(crate) use read::{Loaded, load};
pub(crate) use write::write;

/// The date that stands in the quota file of a user who never took from a day.
const NO_DATE: &str = "1970-01-01";
/// The key under which the referrals file keeps its lists.
const LISTS: &str = "referrals";
