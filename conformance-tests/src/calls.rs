//! Every operation as a value, for scenarios that hold for all of them.

use std::io::Cursor;
use std::sync::Arc;

use storage_core::{
    AddBalance, AddGenerationJob, AddPayment, AddReferralBonus, AuditScope, BonusCount, CommitReserve, Error,
    GetReferrals, GetUserGenerationsHistory, IncrementFreeGenerations, JobStatus, ListJobs, ListOperations,
    ListPayments, ListReserves, MarkPaymentStatus, Memo, OperationKey, PageRequest, PageSize, PaymentStatus,
    RefundPayment, ReleaseReserve, ReserveBalance, Result, ReturnFreeGeneration, SetAdminLimit, SetBalance,
    SetGiftClaimed, SetReferrer, SetUserLanguage, Storage, SubtractBalance, UpdateJobStatus, UserId,
};

use crate::check::Check;
use crate::steps::{approve, credit, generation, hold, job, order, pay, payment};

/// An operation that takes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyed {
    Language,
    Gift,
    SetBalance,
    Credit,
    Debit,
    Hold,
    Commit,
    Release,
    Take,
    Bonus,
    Limit,
    Order,
    UpdateJob,
    Pay,
    Approve,
    Refund,
    Referrer,
}

/// What such a call told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) replayed: bool,
    /// The rest of the answer.
    pub(crate) answer: String,
}

/// With the arguments of every call, or with one of them changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    Usual,
    Other,
}

impl Keyed {
    pub(crate) const ALL: [Self; 17] = [
        Self::Language,
        Self::Gift,
        Self::SetBalance,
        Self::Credit,
        Self::Debit,
        Self::Hold,
        Self::Commit,
        Self::Release,
        Self::Take,
        Self::Bonus,
        Self::Limit,
        Self::Order,
        Self::UpdateJob,
        Self::Pay,
        Self::Approve,
        Self::Refund,
        Self::Referrer,
    ];

    /// Those that are a replay by nature when they are repeated, also without a key.
    pub(crate) const NATURAL: [Self; 9] = [
        Self::Hold,
        Self::Commit,
        Self::Release,
        Self::Order,
        Self::UpdateJob,
        Self::Pay,
        Self::Approve,
        Self::Refund,
        Self::Referrer,
    ];

    /// The operation's name.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Language => "set_user_language",
            Self::Gift => "set_gift_claimed",
            Self::SetBalance => "set_balance",
            Self::Credit => "add_balance",
            Self::Debit => "subtract_balance",
            Self::Hold => "reserve_balance",
            Self::Commit => "commit_reserve",
            Self::Release => "release_reserve",
            Self::Take => "increment_free_generations",
            Self::Bonus => "add_referral_bonus",
            Self::Limit => "set_admin_limit",
            Self::Order => "add_generation_job",
            Self::UpdateJob => "update_job_status",
            Self::Pay => "add_payment",
            Self::Approve => "mark_payment_status",
            Self::Refund => "refund_payment",
            Self::Referrer => "set_referrer",
        }
    }

    /// Whether it has arguments that could be others.
    pub(crate) fn has_arguments(self) -> bool {
        !matches!(self, Self::Gift | Self::Take)
    }

    /// Calls it. The user must be prepared.
    pub(crate) async fn call(
        self,
        storage: &dyn Storage,
        user: UserId,
        key: Option<OperationKey>,
        arguments: Arguments,
    ) -> Result<Told> {
        let pick = |usual: &'static str, other: &'static str| match arguments {
            Arguments::Usual => usual,
            Arguments::Other => other,
        };
        macro_rules! told {
            ($call:expr) => {{
                let mut answer = $call.await?;
                let replayed = std::mem::take(&mut answer.replayed);
                Ok(Told { replayed, answer: format!("{answer:?}") })
            }};
        }
        let (job_id, to_approve, to_refund) =
            (format!("job-{user}"), format!("approve-{user}"), format!("refund-{user}"));
        let note = || Ok::<_, Error>(Some(pick("one", "another").parse()?));
        match self {
            Self::Language => {
                let language = pick("en", "uk").parse()?;
                told!(storage.set_user_language(SetUserLanguage { user, language, key }))
            }
            Self::Gift => told!(storage.set_gift_claimed(SetGiftClaimed { user, key })),
            Self::SetBalance => {
                let balance = pick("77", "78").parse()?;
                told!(storage.set_balance(SetBalance { user, balance, memo: Memo::default(), key }))
            }
            Self::Credit => {
                let amount = pick("3", "4").parse()?;
                told!(storage.add_balance(AddBalance { user, amount, memo: Memo::default(), key }))
            }
            Self::Debit => {
                let amount = pick("3", "4").parse()?;
                told!(storage.subtract_balance(SubtractBalance { user, amount, memo: Memo::default(), key }))
            }
            Self::Hold => {
                let name = pick("to-hold", "to-hold-too").parse()?;
                let reserve = ReserveBalance::new(user, name, "2".parse()?);
                told!(storage.reserve_balance(ReserveBalance { key, ..reserve }))
            }
            Self::Commit => {
                let name = pick("to-commit", "to-commit-too").parse()?;
                told!(storage.commit_reserve(CommitReserve { user, name, amount: None, key }))
            }
            Self::Release => {
                let name = pick("to-release", "to-release-too").parse()?;
                told!(storage.release_reserve(ReleaseReserve { user, name, key }))
            }
            Self::Take => told!(storage.increment_free_generations(IncrementFreeGenerations { user, key })),
            Self::Bonus => {
                let count = BonusCount::new(if arguments == Arguments::Usual { 5 } else { 6 })?;
                told!(storage.add_referral_bonus(AddReferralBonus { referrer: user, count, key }))
            }
            Self::Limit => {
                let limit = pick("250", "251").parse()?;
                told!(storage.set_admin_limit(SetAdminLimit { user, limit, key }))
            }
            Self::Order => {
                let id = format!("{}-{user}", pick("new", "newer"));
                let base = job(user, &id).map_err(defect)?;
                told!(storage.add_generation_job(AddGenerationJob { key, ..base }))
            }
            Self::UpdateJob => {
                let mut update = UpdateJobStatus::new(job_id.parse()?, JobStatus::Failed);
                update.error_message = Some(pick("one", "another").parse()?);
                told!(storage.update_job_status(UpdateJobStatus { key, ..update }))
            }
            Self::Pay => {
                let id = format!("{}-{user}", pick("p", "q"));
                let base = payment(user, &id, "9").map_err(defect)?;
                told!(storage.add_payment(AddPayment { key, ..base }))
            }
            Self::Approve => {
                let mark = MarkPaymentStatus::new(to_approve.parse()?, PaymentStatus::Approved);
                told!(storage.mark_payment_status(MarkPaymentStatus { notes: note()?, key, ..mark }))
            }
            Self::Refund => {
                let refund = RefundPayment::new(to_refund.parse()?);
                told!(storage.refund_payment(RefundPayment { notes: note()?, key, ..refund }))
            }
            Self::Referrer => {
                let bonus = Some(BonusCount::new(if arguments == Arguments::Usual { 5 } else { 6 })?);
                let referrer = UserId::new(900_000)?;
                told!(storage.set_referrer(SetReferrer { user, referrer, bonus, key }))
            }
        }
    }
}

fn defect(failure: crate::Failure) -> Error {
    Error::internal("the suite built a bad call").caused_by(failure)
}

/// Gives a user what every keyed operation needs.
pub(crate) async fn prepare(storage: &dyn Storage, user: UserId) -> Check {
    credit(storage, user, "100").await?;
    for name in ["to-commit", "to-commit-too", "to-release", "to-release-too"] {
        hold(storage, user, name, "5").await?;
    }
    order(storage, user, &format!("job-{user}")).await?;
    pay(storage, user, &format!("approve-{user}"), "10").await?;
    pay(storage, user, &format!("refund-{user}"), "10").await?;
    approve(storage, &format!("refund-{user}")).await?;
    Ok(())
}

/// Calls every reading operation once, and tells what each answered.
pub(crate) async fn every_read(storage: &dyn Storage, user: UserId) -> Check<Vec<(&'static str, Result<()>)>> {
    let (job, task, payment, hold) = ("job-1".parse()?, "kie-1".parse()?, "p-1".parse()?, "job-1".parse()?);
    Ok(vec![
        ("find_user", storage.find_user(user).await.map(drop)),
        ("list_users", storage.list_users(PageRequest::default()).await.map(drop)),
        ("get_user_language", storage.get_user_language(user).await.map(drop)),
        ("has_claimed_gift", storage.has_claimed_gift(user).await.map(drop)),
        ("get_balance", storage.get_balance(user).await.map(drop)),
        ("find_reserve", storage.find_reserve(user, &hold).await.map(drop)),
        ("list_reserves", storage.list_reserves(ListReserves::default()).await.map(drop)),
        ("list_operations", storage.list_operations(ListOperations::of(user)).await.map(drop)),
        ("audit", storage.audit(AuditScope::Everyone).await.map(drop)),
        ("audit of one", storage.audit(AuditScope::User(user)).await.map(drop)),
        ("get_user_free_generations_today", storage.get_user_free_generations_today(user).await.map(drop)),
        ("get_user_free_generations_remaining", storage.get_user_free_generations_remaining(user).await.map(drop)),
        ("get_admin_limit", storage.get_admin_limit(user).await.map(drop)),
        ("get_admin_spent", storage.get_admin_spent(user).await.map(drop)),
        ("get_admin_remaining", storage.get_admin_remaining(user).await.map(drop)),
        ("get_job", storage.get_job(&job).await.map(drop)),
        ("find_job_by_task_id", storage.find_job_by_task_id(&task).await.map(drop)),
        ("list_jobs", storage.list_jobs(ListJobs::default()).await.map(drop)),
        (
            "get_user_generations_history",
            storage.get_user_generations_history(GetUserGenerationsHistory::of(user)).await.map(drop),
        ),
        ("get_payment", storage.get_payment(&payment).await.map(drop)),
        ("list_payments", storage.list_payments(ListPayments::default()).await.map(drop)),
        ("get_referrer", storage.get_referrer(user).await.map(drop)),
        ("get_referrals", storage.get_referrals(GetReferrals::of(user)).await.map(drop)),
        ("ping", storage.ping().await),
        ("dump", storage.dump(&mut Vec::new()).await.map(drop)),
    ])
}

/// Calls every writing operation once, and tells what each answered.
pub(crate) async fn every_write(storage: &Arc<dyn Storage>, user: UserId) -> Check<Vec<(&'static str, Result<()>)>> {
    let storage = &**storage;
    let mut answers = vec![("get_user", storage.get_user(user).await.map(drop))];
    for keyed in Keyed::ALL {
        let answer = keyed.call(storage, user, None, Arguments::Usual).await;
        answers.push((keyed.operation(), answer.map(drop)));
    }
    let give_back = ReturnFreeGeneration { user, take: "job-1".parse()? };
    let recorded = storage.add_generation_to_history(generation(user, "g-1", "1")?).await;
    answers.extend([
        ("return_free_generation", storage.return_free_generation(give_back).await.map(drop)),
        ("release_expired_reserves", storage.release_expired_reserves(PageSize::DEFAULT).await.map(drop)),
        ("add_generation_to_history", recorded.map(drop)),
        ("restore", storage.restore(&mut Cursor::new(b"")).await.map(drop)),
        ("import_records", storage.import_records(Vec::new()).await.map(drop)),
    ]);
    Ok(answers)
}
