//! What an examination of a store's surroundings found: the server or the disk, its limits, what is about to go wrong.
//!
//! The store's contents are the business of the audit; this is about where they live.

use std::fmt;

use serde::Serialize;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// To be known; the store keeps its promises.
    Notice,
    /// To be put right: the store does not work, will not for long, or cannot keep what it promises.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Notice => "notice",
            Self::Bad => "bad",
        })
    }
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// What was examined, in a few words that never change: `free space`.
    pub subject: &'static str,
    /// How it is to be taken.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; always there when the verdict is not good.
    pub remedy: Option<String>,
}

impl Diagnosis {
    /// All is well.
    pub fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, found: found.into(), remedy: None }
    }
    /// Something to be known.
    pub fn notice(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Notice, found: found.into(), remedy: Some(remedy.into()) }
    }
    /// Something to be put right.
    pub fn bad(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }
}
