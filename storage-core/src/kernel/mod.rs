//! What an operation does, decided in one place for every backend.
//!
//! A backend knows how to lock, load and write; it decides nothing. It turns each write into a [`Call`], makes an [`Atom`] of it,
//! locks [`Atom::lock`], loads [`Atom::needs`], asks [`decide`], and writes the [`Changes`] as one durable transaction. The answer
//! is the [`Reply`]. The stages are those of `TigerBeetle`'s state machine (prepare, prefetch, commit); `decide` is the name that
//! the decider pattern gives to a function from a command and a state to what happens.
//!
//! The example in memory, `examples/memory-backend`, is the shortest whole store.

// Mutants are planted in a copy of this folder, so it uses nothing of the crate but what is public.

mod admin_limits;
mod atom;
mod balances;
mod call;
mod decision;
mod free_generations;
mod history;
mod imports;
mod jobs;
mod keys;
mod payments;
mod post;
mod referrals;
mod reserves;
#[cfg(test)]
mod tests;
mod users;
mod view;

pub use self::atom::{Atom, Lock, Need, Party, Route};
pub use self::call::{Call, ReleaseExpired};
pub use self::decision::{Changes, Decision, Record, Reply, Trim};
pub use self::jobs::id_of as job_id;
pub use self::payments::id_of as payment_id;
pub use self::view::{Account, Halt, View};

use crate::Policy;

/// Decides an atom on what a store holds: what it answers, and what becomes of the store. Reads nothing but the view, and waits for
/// nothing.
///
/// # Errors
/// A [`Halt`]: the contract's refusal, the view's own failure, or a need that the view has not loaded.
pub fn decide(atom: &Atom, view: &dyn View, policy: &Policy) -> Result<Decision, Halt> {
    match atom.call() {
        Call::GetUser(user) => users::get(atom, *user, view, policy),
        Call::SetUserLanguage(set) => users::set_language(atom, set, view),
        Call::SetGiftClaimed(claim) => users::claim_gift(atom, claim, view),
        Call::SetBalance(set) => balances::set(atom, set, view),
        Call::AddBalance(add) => balances::add(atom, add, view),
        Call::SubtractBalance(subtract) => balances::subtract(atom, subtract, view),
        Call::ReserveBalance(reserve) => reserves::reserve(atom, reserve, view),
        Call::CommitReserve(commit) => reserves::commit(atom, commit, view),
        Call::ReleaseReserve(release) => reserves::release(atom, release, view),
        Call::ReleaseExpired(expired) => reserves::release_expired(atom, expired, view),
        Call::SetAdminLimit(set) => admin_limits::set(atom, set, view),
        Call::IncrementFreeGenerations(take) => free_generations::take(atom, take, view, policy),
        Call::ReturnFreeGeneration(back) => free_generations::give_back(atom, back, view, policy),
        Call::AddReferralBonus(bonus) => free_generations::add_bonus(atom, bonus, view, policy),
        Call::AddGenerationJob(add) => jobs::add(atom, add, view),
        Call::UpdateJobStatus(update) => jobs::update(atom, update, view),
        Call::AddGenerationToHistory(add) => history::add(atom, add, view, policy),
        Call::AddPayment(add) => payments::add(atom, add, view),
        Call::MarkPaymentStatus(mark) => payments::mark(atom, mark, view),
        Call::RefundPayment(refund) => payments::mark(atom, &refund.clone().into(), view),
        Call::SetReferrer(set) => referrals::set(atom, set, view),
        Call::Import(record) => imports::put_in(atom, record, view, policy),
    }
}
