//! What a store does, told to `tracing` and `metrics`: a decorator over any storage, its own or a third party's.
//!
//! Told are the operation, the backend, the outcome (`ok`, the kind of the error, or `dropped` for a call whose future was
//! dropped) and whether it was a replay. Never told: users, amounts, keys, names, ids, URLs.
//!
//! | metric | kind | labels |
//! | --- | --- | --- |
//! | `storage_operation_seconds` | histogram | `operation`, `backend`, `outcome` |
//! | `storage_replays_total` | counter | `operation`, `backend` |
//! | `storage_pool_connections`, `storage_pool_idle` | gauge, PostgreSQL | `backend` |
//! | `storage_journal_bytes` | gauge, JSON: the journal since the last checkpoint | `backend` |
//! | `storage_waiting_calls`, `storage_waiting_bytes` | gauge, JSON: calls that wait for the writer, and what they keep in memory | `backend` |
//! | `storage_syncs_total`, `storage_sync_microseconds_total` | counter, JSON: syncs of the journal, and their time | `backend` |
//!
//! Gauges are set with the first operation of each second. A dashboard for Grafana is `docs/grafana.json`.

#[cfg(feature = "metrics")]
mod gauges;
#[cfg(all(test, feature = "json", feature = "metrics", feature = "tracing"))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use storage_core::dump::DumpSource;
use storage_core::{
    Acknowledged, AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, AdminLimit,
    AdminLimits, AuditReport, AuditScope, BackendInfo, Balances, CommitReserve, Destination, DumpSummary,
    FreeGenerations, Generation, GenerationReceipt, GetReferrals, GetUserGenerationsHistory, GiftClaim, History, Hold,
    HoldName, ImportOutcome, ImportRecord, IncrementFreeGenerations, Job, JobId, Jobs, Language, LedgerRow, ListJobs,
    ListOperations, ListPayments, ListReserves, MarkPaymentStatus, Money, Operations, Page, PageRequest, PageSize,
    Payment, PaymentId, Payments, QuotaReceipt, Receipt, Referral, Referrals, RefundPayment, ReleaseReserve,
    ReserveBalance, Reserves, Result, ReturnFreeGeneration, SetAdminLimit, SetBalance, SetGiftClaimed, SetReferrer,
    SetUserLanguage, SharedStorage, Store, Stored, SubtractBalance, TaskId, Total, UpdateJobStatus, User, UserId,
    Users,
};
use tokio::io::AsyncWrite;

/// A storage whose operations are told to `tracing` and `metrics`, as far as these features are on.
pub struct Observed {
    inner: SharedStorage,
    backend: Arc<str>,
    #[cfg(feature = "metrics")]
    gauges: gauges::Gauges,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Decorates a storage.
///
/// ```
/// # async fn example(storage: storage_core::SharedStorage) -> storage_core::Result<()> {
/// let storage = storage_factory::observed(storage);
/// storage.ping().await?; // a span `storage` with operation=ping, outcome=ok
/// # Ok(()) }
/// ```
pub fn observed(storage: SharedStorage) -> SharedStorage {
    let backend = storage.backend().name.into();
    Arc::new(Observed {
        inner: storage,
        backend,
        #[cfg(feature = "metrics")]
        gauges: gauges::Gauges::default(),
    })
}

#[cfg(all(feature = "metrics", feature = "json"))]
pub(crate) fn observed_json(storage: Arc<storage_json::JsonStorage>) -> SharedStorage {
    let gauges = gauges::Gauges::of(gauges::Source::Json(Arc::clone(&storage)));
    Arc::new(Observed { inner: storage, backend: "json".into(), gauges })
}

#[cfg(all(feature = "metrics", feature = "postgres"))]
pub(crate) fn observed_postgres(storage: Arc<storage_pg::PgStorage>) -> SharedStorage {
    let gauges = gauges::Gauges::of(gauges::Source::Postgres(Arc::clone(&storage)));
    Arc::new(Observed { inner: storage, backend: "postgres".into(), gauges })
}

#[cfg(all(not(feature = "metrics"), feature = "json"))]
pub(crate) fn observed_json(storage: Arc<storage_json::JsonStorage>) -> SharedStorage {
    observed(storage)
}

#[cfg(all(not(feature = "metrics"), feature = "postgres"))]
pub(crate) fn observed_postgres(storage: Arc<storage_pg::PgStorage>) -> SharedStorage {
    observed(storage)
}

/// Whether an answer was a replay.
trait Answered {
    fn replayed(&self) -> bool;
}

macro_rules! never_replayed {
    ($($type:ty),*) => {$(impl Answered for $type {
        fn replayed(&self) -> bool {
            false
        }
    })*};
}
never_replayed!((), bool, u32, u64, Money, Total, Language, AdminLimit, AuditReport, DumpSummary, UserId);

macro_rules! told {
    ($($type:ty),*) => {$(impl Answered for $type {
        fn replayed(&self) -> bool {
            self.replayed
        }
    })*};
}
told!(Receipt, QuotaReceipt, Acknowledged, GiftClaim, GenerationReceipt);

impl<T> Answered for Stored<T> {
    fn replayed(&self) -> bool {
        self.replayed
    }
}
impl<T> Answered for Page<T> {
    fn replayed(&self) -> bool {
        false
    }
}
impl<T> Answered for Option<T> {
    fn replayed(&self) -> bool {
        false
    }
}
impl<T> Answered for Vec<T> {
    fn replayed(&self) -> bool {
        false
    }
}
impl Answered for Arc<User> {
    fn replayed(&self) -> bool {
        false
    }
}

/// One call, from its beginning to its answer or to being dropped.
struct Call<'o> {
    observed: &'o Observed,
    operation: &'static str,
    began: Instant,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    ended: bool,
}

impl Call<'_> {
    fn end(&mut self, outcome: &'static str, replayed: bool) {
        self.ended = true;
        #[cfg(feature = "tracing")]
        {
            self.span.record("outcome", outcome);
            self.span.record("replayed", replayed);
        }
        #[cfg(feature = "metrics")]
        self.observed.gauges.tell(&self.observed.backend, self.operation, self.began, outcome, replayed);
        let _ = (self.observed, self.operation, self.began, outcome, replayed);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end("dropped", false);
        }
    }
}

impl Observed {
    async fn watch<T: Answered>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        #[cfg(feature = "tracing")]
        let span = tracing::debug_span!(
            target: "storage",
            "storage",
            operation,
            backend = &*self.backend,
            outcome = tracing::field::Empty,
            replayed = tracing::field::Empty,
        );
        let mut call = Call {
            observed: self,
            operation,
            began: Instant::now(),
            #[cfg(feature = "tracing")]
            span: span.clone(),
            ended: false,
        };
        #[cfg(feature = "tracing")]
        let answer = tracing::Instrument::instrument(work, span).await;
        #[cfg(not(feature = "tracing"))]
        let answer = work.await;
        match &answer {
            Ok(answer) => call.end("ok", answer.replayed()),
            Err(error) => call.end(error.kind().name(), false),
        }
        answer
    }
}

macro_rules! observe {
    ($($trait:ident { $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* } )*) => {$(
        #[async_trait]
        impl $trait for Observed {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                self.watch(stringify!($name), self.inner.$name($($argument),*)).await
            })*
        }
    )*};
}

observe! {
    Users {
        get_user(user: UserId) -> Arc<User>;
        find_user(user: UserId) -> Option<Arc<User>>;
        list_users(page: PageRequest) -> Page<User>;
        get_user_language(user: UserId) -> Language;
        set_user_language(set: SetUserLanguage) -> Acknowledged;
        has_claimed_gift(user: UserId) -> bool;
        set_gift_claimed(claim: SetGiftClaimed) -> GiftClaim;
    }
    Balances {
        get_balance(user: UserId) -> Money;
        set_balance(set: SetBalance) -> Receipt;
        add_balance(add: AddBalance) -> Receipt;
        subtract_balance(subtract: SubtractBalance) -> Receipt;
    }
    Operations {
        list_operations(list: ListOperations) -> Page<LedgerRow>;
        audit(scope: AuditScope) -> AuditReport;
    }
    FreeGenerations {
        get_user_free_generations_today(user: UserId) -> u32;
        get_user_free_generations_remaining(user: UserId) -> u64;
        increment_free_generations(take: IncrementFreeGenerations) -> QuotaReceipt;
        return_free_generation(give_back: ReturnFreeGeneration) -> QuotaReceipt;
        add_referral_bonus(bonus: AddReferralBonus) -> QuotaReceipt;
    }
    AdminLimits {
        get_admin_limit(user: UserId) -> AdminLimit;
        set_admin_limit(set: SetAdminLimit) -> Acknowledged;
        get_admin_spent(user: UserId) -> Total;
        get_admin_remaining(user: UserId) -> AdminLimit;
    }
    History {
        add_generation_to_history(add: AddGenerationToHistory) -> GenerationReceipt;
        get_user_generations_history(list: GetUserGenerationsHistory) -> Page<Generation>;
    }
    Referrals {
        set_referrer(set: SetReferrer) -> Stored<Referral>;
        get_referrer(user: UserId) -> Option<UserId>;
        get_referrals(list: GetReferrals) -> Page<Referral>;
    }
}

#[async_trait]
impl Reserves for Observed {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        self.watch("reserve_balance", self.inner.reserve_balance(reserve)).await
    }
    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.watch("commit_reserve", self.inner.commit_reserve(commit)).await
    }
    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.watch("release_reserve", self.inner.release_reserve(release)).await
    }
    async fn find_reserve(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>> {
        self.watch("find_reserve", self.inner.find_reserve(user, name)).await
    }
    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        self.watch("list_reserves", self.inner.list_reserves(list)).await
    }
    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        self.watch("release_expired_reserves", self.inner.release_expired_reserves(limit)).await
    }
}

#[async_trait]
impl Jobs for Observed {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.watch("add_generation_job", self.inner.add_generation_job(add)).await
    }
    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.watch("update_job_status", self.inner.update_job_status(update)).await
    }
    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        self.watch("get_job", self.inner.get_job(job)).await
    }
    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        self.watch("find_job_by_task_id", self.inner.find_job_by_task_id(task)).await
    }
    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        self.watch("list_jobs", self.inner.list_jobs(list)).await
    }
}

#[async_trait]
impl Payments for Observed {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.watch("add_payment", self.inner.add_payment(add)).await
    }
    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.watch("mark_payment_status", self.inner.mark_payment_status(mark)).await
    }
    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.watch("refund_payment", self.inner.refund_payment(refund)).await
    }
    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        self.watch("get_payment", self.inner.get_payment(payment)).await
    }
    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        self.watch("list_payments", self.inner.list_payments(list)).await
    }
}

#[async_trait]
impl Store for Observed {
    async fn ping(&self) -> Result<()> {
        self.watch("ping", self.inner.ping()).await
    }
    fn backend(&self) -> BackendInfo {
        self.inner.backend()
    }
    async fn close(&self) -> Result<()> {
        self.watch("close", self.inner.close()).await
    }
    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        self.watch("dump", self.inner.dump(out)).await
    }
    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.watch("restore", self.inner.restore(from)).await
    }
    async fn moved_to(&self) -> Result<Option<Destination>> {
        self.watch("moved_to", self.inner.moved_to()).await
    }
    async fn mark_moved(&self, to: Destination) -> Result<()> {
        self.watch("mark_moved", self.inner.mark_moved(to)).await
    }
    async fn lift_moved(&self, to: Destination) -> Result<()> {
        self.watch("lift_moved", self.inner.lift_moved(to)).await
    }
    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.watch("import_records", self.inner.import_records(records)).await
    }
}
