//! What an operation does, decided in one place for every backend.
//!
//! A backend knows how to lock, load and write; it decides nothing. It turns each write into a [`Call`], makes an [`Atom`] of it,
//! locks [`Atom::lock`], loads [`Atom::needs`], asks [`decide`], and writes the [`Changes`] as one durable transaction. The answer
//! is the [`Reply`]. The stages are those of `TigerBeetle`'s state machine (prepare, prefetch, commit); `decide` is the name that
//! the decider pattern gives to a function from a command and a state to what happens.
//!
//! ```
//! use std::collections::HashMap;
//! use storage_core::kernel::{Account, Atom, Call, Halt, View, decide};
//! use storage_core::{Environment, KeySpace, OperationKey, Result, SetUserLanguage, UsedKey, UserId};
//!
//! /// A store of two maps.
//! #[derive(Default)]
//! struct Maps {
//!     accounts: HashMap<UserId, Account>,
//!     keys: HashMap<(UserId, KeySpace, OperationKey), UsedKey>,
//! }
//!
//! impl View for Maps {
//!     fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
//!         Ok(self.accounts.get(&user).cloned())
//!     }
//!     fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
//!         Ok(self.keys.get(&(user, space, key.clone())).cloned())
//!     }
//! }
//!
//! let (environment, store) = (Environment::default(), Maps::default());
//! let set = SetUserLanguage::new(UserId::new(1001)?, "en".parse()?);
//! let atom = Atom::new(Call::from(set), &environment)?;
//! let decision = decide(&atom, &store, &environment.policy).map_err(Halt::into_error)?;
//! assert_eq!(decision.changes.accounts().count(), 1);
//! # Ok::<(), storage_core::Error>(())
//! ```

// Mutants are planted in a copy of this folder, so it uses nothing of the crate but what is public.

mod admin_limits;
mod atom;
mod call;
mod decision;
mod free_generations;
mod history;
mod keys;
#[cfg(test)]
mod tests;
mod users;
mod view;

pub use self::atom::{Atom, Lock, Need};
pub use self::call::Call;
pub use self::decision::{Changes, Decision, Record, Reply, Trim};
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
        Call::SetAdminLimit(set) => admin_limits::set(atom, set, view),
        Call::IncrementFreeGenerations(take) => free_generations::take(atom, take, view, policy),
        Call::ReturnFreeGeneration(back) => free_generations::give_back(atom, back, view, policy),
        Call::AddReferralBonus(bonus) => free_generations::add_bonus(atom, bonus, view, policy),
        Call::AddGenerationToHistory(add) => history::add(atom, add, view, policy),
    }
}
