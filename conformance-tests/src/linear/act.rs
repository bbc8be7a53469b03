//! The calls that are made at once, and what they do to one user: the contract once more, as small as possible.

use storage_core::{
    AddBalance, CommitReserve, Error, ErrorKind, IncrementFreeGenerations, MarkPaymentStatus, PaymentStatus, Receipt,
    RefundPayment, ReleaseReserve, ReserveBalance, Result, SetGiftClaimed, Storage, SubtractBalance, UserId,
};

/// What one hold is worth, and what a payment is.
const HELD: i64 = 3_000_000;
const PAID: i64 = 5_000_000;
/// What a keyed credit brings.
const KEYED: i64 = 2_000_000;
/// Free generations a day.
const DAILY: u32 = 5;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Credit {
        micros: i64,
    },
    /// With one of two keys.
    KeyedCredit {
        key: usize,
    },
    Debit {
        micros: i64,
    },
    /// One of two holds.
    Reserve {
        hold: usize,
    },
    Commit {
        hold: usize,
    },
    Release {
        hold: usize,
    },
    Take,
    Gift,
    Approve,
    Refund,
    Balance,
    Remaining,
}

/// What a call answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A figure, and whether the call was a replay.
    Figure(i64, bool),
    Short {
        available: i64,
        required: i64,
    },
    Exhausted,
    NoWay,
    NotFound,
}

impl Act {
    /// One of them, by dice.
    pub(super) fn random(throw: &mut dyn FnMut(u64) -> u64) -> Self {
        let place = usize::from(throw(2) == 1);
        match throw(17) {
            0 | 1 => Self::Credit { micros: if place == 0 { 1_000_000 } else { 4_000_000 } },
            2 | 3 => Self::KeyedCredit { key: place },
            4..=6 => Self::Debit { micros: if place == 0 { 2_000_000 } else { 5_000_000 } },
            7 | 8 => Self::Reserve { hold: place },
            9 => Self::Commit { hold: place },
            10 => Self::Release { hold: place },
            11 => Self::Take,
            12 => Self::Gift,
            13 => Self::Approve,
            14 => Self::Refund,
            15 => Self::Balance,
            _ => Self::Remaining,
        }
    }
}

/// A hold: never made, open, or ended. The figures are the receipts'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hold {
    None,
    Open(i64),
    Committed(i64),
    Released(i64),
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    balance: i64,
    keyed: [Option<i64>; 2],
    holds: [Hold; 2],
    taken: u32,
    gift: bool,
    /// 0 pending, 1 approved, 2 refunded.
    payment: i64,
}

impl State {
    /// With some money.
    pub(super) fn new(balance: i64) -> Self {
        Self { balance, keyed: [None; 2], holds: [Hold::None; 2], taken: 0, gift: false, payment: 0 }
    }

    /// Does a call, and answers what it answers.
    pub(super) fn apply(&mut self, act: Act) -> Outcome {
        match act {
            Act::Credit { micros } => self.add(micros),
            Act::KeyedCredit { key } => match self.keyed[key] {
                Some(first) => Outcome::Figure(first, true),
                None => {
                    let outcome = self.add(KEYED);
                    self.keyed[key] = Some(self.balance);
                    outcome
                }
            },
            Act::Debit { micros } => self.subtract(micros),
            Act::Reserve { hold } => match self.holds[hold] {
                Hold::Open(first) => Outcome::Figure(first, true),
                Hold::Committed(_) | Hold::Released(_) => Outcome::NoWay,
                Hold::None => {
                    let outcome = self.subtract(HELD);
                    if matches!(outcome, Outcome::Figure(..)) {
                        self.holds[hold] = Hold::Open(self.balance);
                    }
                    outcome
                }
            },
            Act::Commit { hold } => match self.holds[hold] {
                Hold::None => Outcome::NotFound,
                Hold::Open(_) => {
                    self.holds[hold] = Hold::Committed(self.balance);
                    Outcome::Figure(self.balance, false)
                }
                Hold::Committed(first) => Outcome::Figure(first, true),
                Hold::Released(_) => Outcome::NoWay,
            },
            Act::Release { hold } => match self.holds[hold] {
                Hold::None => Outcome::NotFound,
                Hold::Open(_) => {
                    let outcome = self.add(HELD);
                    self.holds[hold] = Hold::Released(self.balance);
                    outcome
                }
                Hold::Released(first) => Outcome::Figure(first, true),
                Hold::Committed(_) => Outcome::NoWay,
            },
            Act::Take if self.taken == DAILY => Outcome::Exhausted,
            Act::Take => {
                self.taken += 1;
                Outcome::Figure(i64::from(DAILY - self.taken), false)
            }
            Act::Gift => Outcome::Figure(i64::from(!std::mem::replace(&mut self.gift, true)), false),
            Act::Approve => self.decide(0, PAID),
            Act::Refund => self.decide(1, -PAID),
            Act::Balance => Outcome::Figure(self.balance, false),
            Act::Remaining => Outcome::Figure(i64::from(DAILY - self.taken), false),
        }
    }

    fn add(&mut self, micros: i64) -> Outcome {
        self.balance += micros;
        Outcome::Figure(self.balance, false)
    }

    fn subtract(&mut self, micros: i64) -> Outcome {
        if self.balance < micros {
            return Outcome::Short { available: self.balance, required: micros };
        }
        self.add(-micros)
    }

    /// Moves the payment on from a state, with its money.
    fn decide(&mut self, from: i64, change: i64) -> Outcome {
        if self.payment == from + 1 {
            return Outcome::Figure(self.payment, true);
        }
        if self.payment != from {
            return Outcome::NoWay;
        }
        if change < 0 && self.balance < -change {
            return Outcome::Short { available: self.balance, required: -change };
        }
        self.balance += change;
        self.payment = from + 1;
        Outcome::Figure(self.payment, false)
    }
}

/// Makes a call. An error is an answer that no order can explain.
pub(super) async fn perform(storage: &dyn Storage, user: UserId, act: Act) -> Result<Outcome, String> {
    match call(storage, user, act).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => match error.kind() {
            ErrorKind::InsufficientFunds { available, required } => {
                Ok(Outcome::Short { available: available.micros(), required: required.micros() })
            }
            ErrorKind::QuotaExhausted { .. } => Ok(Outcome::Exhausted),
            ErrorKind::InvalidTransition { .. } => Ok(Outcome::NoWay),
            ErrorKind::NotFound(_) => Ok(Outcome::NotFound),
            _ => Err(format!("{act:?}: {}", error.report())),
        },
    }
}

async fn call(storage: &dyn Storage, user: UserId, act: Act) -> Result<Outcome, Error> {
    let amount = |micros| storage_core::Amount::new(storage_core::Money::from_micros(micros)?);
    let money = |receipt: Receipt| Outcome::Figure(receipt.balance_after.micros(), receipt.replayed);
    let name = |hold: usize| format!("hold-{hold}");
    let status = |status: PaymentStatus| match status {
        PaymentStatus::Approved => 1,
        PaymentStatus::Refunded => 2,
        PaymentStatus::Pending | PaymentStatus::Rejected | PaymentStatus::Cancelled => 0,
    };
    let payment = format!("p-{user}");
    Ok(match act {
        Act::Credit { micros } => money(storage.add_balance(AddBalance::new(user, amount(micros)?)).await?),
        Act::KeyedCredit { key } => {
            let key = format!("key-{key}").parse()?;
            money(storage.add_balance(AddBalance::new(user, amount(KEYED)?).with_key(key)).await?)
        }
        Act::Debit { micros } => money(storage.subtract_balance(SubtractBalance::new(user, amount(micros)?)).await?),
        Act::Reserve { hold } => {
            money(storage.reserve_balance(ReserveBalance::new(user, name(hold).parse()?, amount(HELD)?)).await?)
        }
        Act::Commit { hold } => money(storage.commit_reserve(CommitReserve::new(user, name(hold).parse()?)).await?),
        Act::Release { hold } => money(storage.release_reserve(ReleaseReserve::new(user, name(hold).parse()?)).await?),
        Act::Take => {
            let taken = storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?;
            Outcome::Figure(i64::try_from(taken.remaining_after).unwrap_or(i64::MAX), taken.replayed)
        }
        Act::Gift => {
            let claim = storage.set_gift_claimed(SetGiftClaimed::new(user)).await?;
            Outcome::Figure(i64::from(claim.first), claim.replayed)
        }
        Act::Approve => {
            let mark = MarkPaymentStatus::new(payment.parse()?, PaymentStatus::Approved);
            let stored = storage.mark_payment_status(mark).await?;
            Outcome::Figure(status(stored.record.status), stored.replayed)
        }
        Act::Refund => {
            let stored = storage.refund_payment(RefundPayment::new(payment.parse()?)).await?;
            Outcome::Figure(status(stored.record.status), stored.replayed)
        }
        Act::Balance => Outcome::Figure(storage.get_balance(user).await?.micros(), false),
        Act::Remaining => {
            let left = storage.get_user_free_generations_remaining(user).await?;
            Outcome::Figure(i64::try_from(left).unwrap_or(i64::MAX), false)
        }
    })
}
