//! The contract of a store for what a bot that sells AI generations must never lose: users and balances, a ledger,
//! holds, free quotas, admin limits, generation jobs and history, payments, referrals.
//!
//! This crate holds the traits, the types and the pure rules; it does no I/O. A backend implements one small trait
//! for each domain ([`Users`], [`Balances`], [`Reserves`], ...); what implements them all is a [`Storage`]. A program
//! opens one with `storage-factory` and works with the traits:
//!
//! ```
//! use storage_core::{ErrorKind, Money, Result, Storage, SubtractBalance, UserId};
//!
//! /// Takes the price once, however often the same update arrives; `false` when the user has too little.
//! async fn pay(storage: &dyn Storage, user: UserId, price: Money, update: &str) -> Result<bool> {
//!     let debit = SubtractBalance::new(user, price.to_string().parse()?).with_key(update.parse()?);
//!     match storage.subtract_balance(debit).await {
//!         Ok(_) => Ok(true), // `replayed` says whether it was taken before
//!         Err(error) if matches!(error.kind(), ErrorKind::InsufficientFunds { .. }) => Ok(false),
//!         Err(error) => Err(error),
//!     }
//! }
//!
//! // A value that breaks a rule cannot be built.
//! assert!("0.0000001".parse::<Money>().is_err());
//! assert!(UserId::new(0).is_err());
//! ```
//!
//! # What every operation promises
//!
//! * **Reads never write.** Reading an unknown user answers the defaults and creates nothing. Writes create the
//!   users they name.
//! * **Atomic.** Whole or not at all, also when the future is dropped, the process killed, the disk full or the
//!   connection lost. A call that fails creates nothing.
//! * **Linearizable** for one user, across every handle, task and process that shares the store. What an operation
//!   returns is what this very operation produced.
//! * **Durable before `Ok`.** A read never shows a change that could still be lost.
//! * **Exactly once.** A call with an [`OperationKey`] can be repeated: equal arguments answer the first receipt,
//!   marked `replayed`; other arguments are a `Conflict`. Only success uses a key up. Keys live as long as the store,
//!   and their names are scoped to one user.
//! * **An error says** what failed, what to do, and whether anything may have been applied ([`Error::applied`]).
//!
//! # Errors that every operation shares
//!
//! `Closed` after [`Store::close`]; `Busy` when a wait ran out; `Locked`, `Unavailable`, `StorageFull`, `ReadOnly`,
//! `Corrupt` and `Internal` as the store's surroundings have it. When several errors apply, the order is `Closed`,
//! `InvalidInput`, replay or `Conflict`, `NotFound`, `InvalidTransition`, then funds or quota. Only a lost connection,
//! the operation's own deadline (15 s by default) or a failed `fsync` may be [`Applied::Unknown`].
//!
//! # Writing a backend
//!
//! A backend knows how to lock, load and write. What an operation does is decided once, in [`kernel`]; the audit
//! ([`AuditTrail`]) and the dump ([`dump`]) are here as well. One file for each domain, the same names as here. The suite in
//! `conformance-tests` proves the rest.

mod admin_limits;
mod balances;
mod clock;
#[cfg(any(feature = "chrono", feature = "rust_decimal", feature = "teloxide"))]
mod conversions;
mod digits;
mod doctor;
pub mod dump;
mod error;
mod free_generations;
mod heap_size;
mod history;
mod ids;
mod import;
mod jobs;
pub mod kernel;
pub mod legacy;
mod money;
mod operations;
mod page;
mod params;
mod payments;
mod policy;
mod referrals;
mod replay;
mod reserves;
#[cfg(feature = "serial")]
pub mod serial;
mod storage;
mod text;
mod timestamp;
mod users;

pub use admin_limits::{AdminLimit, AdminLimits, MAX_SPENT, SetAdminLimit, check_spent};
pub use balances::{AddBalance, Balances, Memo, SetBalance, SubtractBalance};
pub use clock::{Clock, Environment, IdSource, ManualClock, SequentialIds, Stamp, SystemClock, SystemIds};
pub use doctor::{Diagnosis, Verdict};
pub use dump::{AccountRecord, DumpReader, DumpRecord, DumpSummary, DumpWriter, KeySpace};
pub use error::{Applied, Entity, Error, ErrorKind, Place, Report, Result};
pub use free_generations::{
    AddReferralBonus, BonusCount, FreeGenerations, IncrementFreeGenerations, MAX_BANK, Quota, QuotaReceipt,
    QuotaSource, ReturnFreeGeneration,
};
pub use heap_size::HeapSize;
pub use history::{AddGenerationToHistory, Generation, GenerationReceipt, GetUserGenerationsHistory, History};
pub use ids::{OperationId, UserId};
pub use import::{ImportOutcome, ImportRecord};
pub use jobs::{AddGenerationJob, Job, JobStatus, Jobs, ListJobs, UpdateJobStatus};
pub use money::{Amount, Money, SignedMoney, Total};
pub use operations::{
    AuditFinding, AuditReport, AuditScope, AuditTrail, AuditedState, LedgerRow, ListOperations, OperationKind,
    Operations,
};
pub use page::{Cursor, Newest, Page, PageRequest, PageSize};
pub use params::{MAX_PARAMS_BYTES, MAX_PARAMS_DEPTH, Params};
pub use payments::{
    AddPayment, ListPayments, MarkPaymentStatus, Payment, PaymentOrigin, PaymentStatus, Payments, RefundPayment,
};
pub use policy::{HistoryRetention, Policy, TimeZone};
pub use referrals::{GetReferrals, MAX_REFERRAL_CHAIN, Referral, Referrals, SetReferrer, height_below, judge_chains};
pub use replay::{Acknowledged, Answer, Fingerprint, Receipt, Stored, UsedKey};
pub use reserves::{
    CommitReserve, Hold, HoldPlace, HoldStatus, ListReserves, ReleaseReserve, ReserveBalance, Reserves, Sweep,
};
pub use storage::{BackendInfo, SharedStorage, Storage, Store};
pub use text::{
    Actor, Destination, ErrorMessage, FileId, GenerationId, HoldName, JobId, Language, MAX_ID_BYTES, MAX_NAME_BYTES,
    MAX_NOTE_BYTES, MAX_URL_BYTES, MAX_URLS, ModelId, ModelName, Note, OperationKey, PaymentId, PaymentMethod,
    ProviderKey, Reference, ResultUrls, TaskId,
};
pub use timestamp::{CivilDate, Timestamp};
pub use users::{GiftClaim, SetGiftClaimed, SetUserLanguage, User, Users};
