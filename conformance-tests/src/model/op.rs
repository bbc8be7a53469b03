//! What a random history is made of: every operation of a store, with few users, few names and few keys, so that
//! collisions and replays happen. Plain numbers, so that a history prints as code.

use storage_core::{HoldStatus, JobStatus, PaymentStatus};

/// One call, or one turn of its surroundings. A user, a name or a key is its place in a short table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// The clock moves; negative moves it back.
    Wait {
        seconds: i64,
    },
    /// Closes the handle. What it is asked then is answered `Closed`.
    Close,
    /// Closes the handle, and opens it again.
    Reopen,
    /// Closes every handle, and opens them all again.
    ReopenAll,
    /// Dumps the store, restores the dump into a new one, and goes on there.
    Move,
    GetUser {
        user: u8,
    },
    FindUser {
        user: u8,
    },
    ListUsers {
        size: u32,
    },
    GetLanguage {
        user: u8,
    },
    SetLanguage {
        user: u8,
        language: u8,
        key: Option<u8>,
    },
    HasGift {
        user: u8,
    },
    ClaimGift {
        user: u8,
        key: Option<u8>,
    },
    GetBalance {
        user: u8,
    },
    SetBalance {
        user: u8,
        micros: i64,
        memo: bool,
        key: Option<u8>,
    },
    Credit {
        user: u8,
        micros: i64,
        memo: bool,
        key: Option<u8>,
    },
    Debit {
        user: u8,
        micros: i64,
        memo: bool,
        key: Option<u8>,
    },
    /// `expires` counts seconds from the beginning of the history.
    Reserve {
        user: u8,
        hold: u8,
        micros: i64,
        expires: Option<i64>,
        memo: bool,
        key: Option<u8>,
    },
    Commit {
        user: u8,
        hold: u8,
        micros: Option<i64>,
        key: Option<u8>,
    },
    Release {
        user: u8,
        hold: u8,
        key: Option<u8>,
    },
    FindHold {
        user: u8,
        hold: u8,
    },
    /// `older` counts seconds from the beginning of the history.
    ListHolds {
        user: Option<u8>,
        status: Option<HoldStatus>,
        older: Option<i64>,
        size: u32,
    },
    Sweep {
        limit: u32,
    },
    Ledger {
        user: u8,
        size: u32,
    },
    Audit {
        user: Option<u8>,
    },
    TakenToday {
        user: u8,
    },
    Remaining {
        user: u8,
    },
    Take {
        user: u8,
        key: Option<u8>,
    },
    GiveBack {
        user: u8,
        take: u8,
    },
    Bonus {
        user: u8,
        count: u32,
        key: Option<u8>,
    },
    GetLimit {
        user: u8,
    },
    SetLimit {
        user: u8,
        micros: i64,
        key: Option<u8>,
    },
    Spent {
        user: u8,
    },
    LimitLeft {
        user: u8,
    },
    AddJob {
        user: u8,
        job: Option<u8>,
        task: Option<u8>,
        text: u8,
        micros: i64,
        key: Option<u8>,
    },
    UpdateJob {
        job: u8,
        status: JobStatus,
        urls: Option<u8>,
        error: Option<u8>,
        task: Option<u8>,
        key: Option<u8>,
    },
    GetJob {
        job: u8,
    },
    FindTask {
        task: u8,
    },
    /// `statuses` holds a bit for each state.
    ListJobs {
        user: Option<u8>,
        statuses: u8,
        size: u32,
    },
    Record {
        user: u8,
        id: Option<u8>,
        text: u8,
        micros: i64,
    },
    History {
        user: u8,
        size: u32,
    },
    AddPayment {
        user: u8,
        micros: i64,
        payment: Option<u8>,
        provider: Option<u8>,
        notes: Option<u8>,
        key: Option<u8>,
    },
    Mark {
        payment: u8,
        status: PaymentStatus,
        admin: Option<u8>,
        notes: Option<u8>,
        key: Option<u8>,
    },
    Refund {
        payment: u8,
        admin: Option<u8>,
        notes: Option<u8>,
        key: Option<u8>,
    },
    GetPayment {
        payment: u8,
    },
    ListPayments {
        user: Option<u8>,
        status: Option<PaymentStatus>,
        size: u32,
    },
    Refer {
        user: u8,
        referrer: u8,
        bonus: Option<u32>,
        key: Option<u8>,
    },
    GetReferrer {
        user: u8,
    },
    Referrals {
        user: u8,
        size: u32,
    },
    /// `since` counts seconds from the beginning of the history.
    ImportBalance {
        user: u8,
        micros: i64,
        since: Option<i64>,
    },
    ImportLanguage {
        user: u8,
        language: u8,
    },
    ImportQuota {
        user: u8,
        day: Option<i64>,
        used: u32,
        bank: u64,
    },
    ImportReferral {
        user: u8,
        referrer: u8,
    },
    /// Asks every list for the page behind a cursor of another list.
    ForeignCursor {
        user: u8,
    },
    Ping,
    Dump,
}

/// One step of a history: which handle is asked, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The handle's place.
    pub(crate) on: u8,
    /// What it is asked.
    pub(crate) op: Op,
}

/// A history: how many handles, in which time zone, and what they are asked, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// How many handles.
    pub(crate) handles: u8,
    /// The zone's place in the table of zones.
    pub(crate) zone: u8,
    /// The steps.
    pub(crate) steps: Vec<Step>,
}

/// How many users there are.
pub(crate) const USERS: u8 = 4;
/// How many names there are of each kind; the last is that of the newest record whose id was minted.
pub(crate) const NAMES: u8 = 6;
/// How many keys there are.
pub(crate) const KEYS: u8 = 4;

impl Op {
    /// Whether it turns the surroundings, and is no call.
    pub(crate) fn is_turn(self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Close | Self::Reopen | Self::ReopenAll | Self::Move)
    }

    /// What shows the whole store: every read, for everybody and everything that there can be.
    pub(crate) fn everything() -> Vec<Self> {
        let mut all = vec![
            Self::ListUsers { size: 2 },
            Self::ListHolds { user: None, status: None, older: None, size: 3 },
            Self::ListJobs { user: None, statuses: 0, size: 3 },
            Self::ListPayments { user: None, status: None, size: 3 },
            Self::Audit { user: None },
            Self::Dump,
        ];
        for user in 0..USERS {
            all.extend([
                Self::FindUser { user },
                Self::GetLanguage { user },
                Self::HasGift { user },
                Self::GetBalance { user },
                Self::Ledger { user, size: 7 },
                Self::Audit { user: Some(user) },
                Self::TakenToday { user },
                Self::Remaining { user },
                Self::GetLimit { user },
                Self::Spent { user },
                Self::LimitLeft { user },
                Self::History { user, size: 2 },
                Self::GetReferrer { user },
                Self::Referrals { user, size: 1 },
            ]);
        }
        for name in 0..NAMES {
            all.extend([
                Self::GetJob { job: name },
                Self::FindTask { task: name },
                Self::GetPayment { payment: name },
                Self::FindHold { user: name % USERS, hold: name },
            ]);
        }
        all
    }
}
