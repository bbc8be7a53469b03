//! What a lane may do. Plain data: the model reads it, the runner makes calls of it.

/// One operation. Numbers that name a record (`hold`, `job`, ...) are the numbers of the operations that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `get_user`.
    GetUser { role: u32 },
    /// `add_balance`.
    Credit { role: u32, amount: i64, memo: bool },
    /// `subtract_balance`.
    Debit { amount: i64, memo: bool },
    /// `set_balance`.
    SetBalance { balance: i64 },
    /// `reserve_balance`.
    Reserve { role: u32, amount: i64, expires: Option<i64> },
    /// `commit_reserve`, of a part when an amount is given.
    Commit { hold: u64, amount: Option<i64> },
    /// `release_reserve`.
    Release { hold: u64 },
    /// `release_expired_reserves`.
    Sweep,
    /// `increment_free_generations`.
    Take { role: u32 },
    /// `return_free_generation`.
    Return { take: u64 },
    /// `add_referral_bonus`.
    Bonus { count: u32 },
    /// `set_gift_claimed`.
    Gift { role: u32 },
    /// `set_user_language`.
    Language { role: u32, tag: &'static str },
    /// `set_admin_limit`.
    Limit { role: u32, limit: i64 },
    /// `add_generation_job`; named by its external task id when `by_task`.
    AddJob { by_task: bool, price: i64 },
    /// `update_job_status`; with an external task id when `task`.
    UpdateJob { job: u64, by_task: bool, status: &'static str, task: bool },
    /// `add_generation_to_history`.
    History { price: i64 },
    /// `add_payment`; with provider key and notes when `full`.
    AddPayment { amount: i64, full: bool },
    /// `mark_payment_status`; with admin and notes when `noted`.
    Mark { payment: u64, status: &'static str, noted: bool },
    /// `refund_payment`.
    Refund { payment: u64 },
    /// `set_referrer`.
    Refer { role: u32, referrer: u32, bonus: Option<u32> },
    /// A call that must be refused, now and at every later repetition.
    Misuse(Misuse),
}

/// Calls that are refused for ever, so that a repetition cannot find them allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// A debit of more than anybody has.
    DebitTooMuch { role: u32 },
    /// A hold of more than anybody has.
    ReserveTooMuch { role: u32 },
    /// A credit under the key of another credit, with another amount.
    ReusedKey { credit: u64, amount: i64 },
    /// Oneself as referrer.
    ReferSelf,
    /// A second referrer.
    ReferAgain { role: u32, referrer: u32 },
    /// A hold that was ended the other way.
    EndAgain { hold: u64, commit: bool },
    /// A final job that should run again.
    ReopenJob { job: u64, by_task: bool },
    /// A rejected payment that should be approved.
    ApproveRejected { payment: u64 },
    /// A hold, a job, a payment, a take that does not exist.
    NotThere { what: u8 },
}

impl Op {
    /// The word of the acknowledgement.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::GetUser { .. } => "get_user",
            Self::Credit { .. } => "credit",
            Self::Debit { .. } => "debit",
            Self::SetBalance { .. } => "set_balance",
            Self::Reserve { expires: None, .. } => "reserve",
            Self::Reserve { .. } => "reserve_expiring",
            Self::Commit { amount: None, .. } => "commit",
            Self::Commit { .. } => "commit_part",
            Self::Release { .. } => "release",
            Self::Sweep => "sweep",
            Self::Take { .. } => "take",
            Self::Return { .. } => "return",
            Self::Bonus { .. } => "bonus",
            Self::Gift { .. } => "gift",
            Self::Language { .. } => "language",
            Self::Limit { .. } => "admin_limit",
            Self::AddJob { .. } => "job_add",
            Self::UpdateJob { .. } => "job_update",
            Self::History { .. } => "history_add",
            Self::AddPayment { .. } => "payment_add",
            Self::Mark { status: "approved", .. } => "payment_approve",
            Self::Mark { .. } => "payment_reject",
            Self::Refund { .. } => "payment_refund",
            Self::Refer { .. } => "set_referrer",
            Self::Misuse(_) => "refused",
        }
    }
}

/// What an operation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done, and answers this figure: the balance in millionths, free generations left, 1 for the first claim.
    Done(Option<i128>),
    /// It is refused with an error of this kind.
    Refused(&'static str),
}
