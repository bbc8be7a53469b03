//! One operation of the source, done on the target under its own key.

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, CommitReserve, Error,
    Fingerprint, ImportOutcome, ImportRecord, IncrementFreeGenerations, MarkPaymentStatus, OperationKey, RefundPayment,
    ReleaseReserve, ReserveBalance, Result, ReturnFreeGeneration, SetAdminLimit, SetGiftClaimed, SetReferrer,
    SetUserLanguage, Storage, SubtractBalance, Timestamp, UpdateJobStatus, UserId,
};

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    User(UserId),
    Import(Box<ImportRecord>),
    Credit(AddBalance),
    Debit(SubtractBalance),
    Hold(ReserveBalance),
    Commit(CommitReserve),
    Release(ReleaseReserve),
    Pay(AddPayment),
    Decide(MarkPaymentStatus),
    Refund(RefundPayment),
    Order(Box<AddGenerationJob>),
    Progress(Box<UpdateJobStatus>),
    Record(Box<AddGenerationToHistory>),
    Take(IncrementFreeGenerations),
    Return(ReturnFreeGeneration),
    Bonus(AddReferralBonus),
    Language(SetUserLanguage),
    Gift(SetGiftClaimed),
    Limit(SetAdminLimit),
    Refer(SetReferrer),
}

/// An action, and when its like was done on the source.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) user: UserId,
    /// What a report calls it by: a key, a name, an id.
    pub(super) what: String,
    pub(super) at: Timestamp,
    pub(super) action: Action,
}

impl Action {
    /// The word that the plan counts by.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "users",
            Self::Import(_) => "openings and imported payments",
            Self::Credit(_) => "credits",
            Self::Debit(_) => "debits",
            Self::Hold(_) => "holds",
            Self::Commit(_) => "holds spent",
            Self::Release(_) => "holds given back",
            Self::Pay(_) => "payments",
            Self::Decide(_) => "payments decided",
            Self::Refund(_) => "refunds",
            Self::Order(_) => "jobs",
            Self::Progress(_) => "jobs that went on",
            Self::Record(_) => "generations",
            Self::Take(_) => "free generations taken",
            Self::Return(_) => "free generations given back",
            Self::Bonus(_) => "bonuses",
            Self::Language(_) => "languages",
            Self::Gift(_) => "gifts",
            Self::Limit(_) => "admin limits",
            Self::Refer(_) => "referrers",
        }
    }
    /// Of actions of one moment, those that others build on come first.
    pub(super) fn phase(&self) -> u8 {
        match self {
            Self::User(_) | Self::Import(_) => 0,
            Self::Pay(_) | Self::Order(_) | Self::Bonus(_) | Self::Refer(_) => 1,
            // All of the ledger: what a user did at one moment stays in its order.
            Self::Credit(_)
            | Self::Debit(_)
            | Self::Hold(_)
            | Self::Commit(_)
            | Self::Release(_)
            | Self::Decide(_)
            | Self::Refund(_)
            | Self::Take(_) => 2,
            Self::Progress(_) | Self::Record(_) | Self::Return(_) => 3,
            Self::Language(_) | Self::Gift(_) | Self::Limit(_) => 4,
        }
    }
    /// The key it uses up on the target, with what it is a repeat of.
    pub(super) fn key(&self) -> Option<(&OperationKey, Fingerprint)> {
        let (key, fingerprint) = match self {
            Self::Credit(add) => (&add.key, add.fingerprint()),
            Self::Debit(subtract) => (&subtract.key, subtract.fingerprint()),
            Self::Hold(reserve) => (&reserve.key, reserve.fingerprint()),
            Self::Commit(commit) => (&commit.key, commit.fingerprint()),
            Self::Release(release) => (&release.key, release.fingerprint()),
            Self::Decide(mark) => (&mark.key, mark.fingerprint()),
            Self::Refund(refund) => (&refund.key, MarkPaymentStatus::from(refund.clone()).fingerprint()),
            Self::Take(take) => (&take.key, take.fingerprint()),
            Self::Bonus(bonus) => (&bonus.key, bonus.fingerprint()),
            Self::User(_)
            | Self::Import(_)
            | Self::Pay(_)
            | Self::Order(_)
            | Self::Progress(_)
            | Self::Record(_)
            | Self::Return(_)
            | Self::Language(_)
            | Self::Gift(_)
            | Self::Limit(_)
            | Self::Refer(_) => return None,
        };
        key.as_ref().map(|key| (key, fingerprint))
    }
    /// By how much it changes what can be spent, in millionths, where that is known beforehand.
    pub(super) fn change(&self) -> i64 {
        match self {
            Self::Credit(add) => add.amount.money().micros(),
            Self::Debit(subtract) => -subtract.amount.money().micros(),
            Self::Hold(reserve) => -reserve.amount.money().micros(),
            _ => 0,
        }
    }

    /// Does it. Repeating it does nothing.
    pub(super) async fn run(self, storage: &dyn Storage) -> Result<()> {
        match self {
            Self::User(user) => storage.get_user(user).await.map(drop),
            Self::Import(record) => match storage.import_records(vec![*record]).await?.into_iter().next() {
                Some(ImportOutcome::Kept(why) | ImportOutcome::Refused(why)) => Err(Error::invalid("record", why)),
                _ => Ok(()),
            },
            Self::Credit(add) => storage.add_balance(add).await.map(drop),
            Self::Debit(subtract) => storage.subtract_balance(subtract).await.map(drop),
            Self::Hold(reserve) => storage.reserve_balance(reserve).await.map(drop),
            Self::Commit(commit) => storage.commit_reserve(commit).await.map(drop),
            Self::Release(release) => storage.release_reserve(release).await.map(drop),
            Self::Pay(add) => storage.add_payment(add).await.map(drop),
            Self::Decide(mark) => storage.mark_payment_status(mark).await.map(drop),
            Self::Refund(refund) => storage.refund_payment(refund).await.map(drop),
            Self::Order(add) => storage.add_generation_job(*add).await.map(drop),
            Self::Progress(update) => storage.update_job_status(*update).await.map(drop),
            Self::Record(add) => storage.add_generation_to_history(*add).await.map(drop),
            Self::Take(take) => storage.increment_free_generations(take).await.map(drop),
            Self::Return(give_back) => storage.return_free_generation(give_back).await.map(drop),
            Self::Bonus(bonus) => storage.add_referral_bonus(bonus).await.map(drop),
            Self::Language(set) => storage.set_user_language(set).await.map(drop),
            Self::Gift(set) => storage.set_gift_claimed(set).await.map(drop),
            Self::Limit(set) => storage.set_admin_limit(set).await.map(drop),
            Self::Refer(set) => storage.set_referrer(set).await.map(drop),
        }
    }
}
