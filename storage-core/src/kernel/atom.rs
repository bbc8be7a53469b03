//! A call on its way: with its moment, its id, its key and its fingerprint.

use super::Call;
use crate::{
    Environment, Fingerprint, HoldName, ImportRecord, JobId, KeySpace, OperationKey, PaymentId, ProviderKey, Result,
    Stamp, TaskId, UserId,
};

/// A call that has its moment and its id. It is decided as a whole, and applied once or not at all.
#[derive(Clone, Debug)]
pub struct Atom {
    call: Call,
    stamp: Stamp,
    space: KeySpace,
    key: OperationKey,
    /// Whether the key is the caller's, not the operation's own id.
    is_given: bool,
    arguments: Fingerprint,
    /// Whether an earlier attempt of this very atom may have been applied.
    is_again: bool,
}

/// What must be locked before anything is looked at. No later need takes a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// This user, who may not be there yet.
    User(UserId),
    /// The user to whom a record leads, if it does.
    Owner(Route),
    /// First the chains of all referrers, which only a new referral changes; then the user and the new referrer, by ascending id.
    Chains(UserId, UserId),
}

/// A record that is named without its user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// A job.
    Job(JobId),
    /// A payment.
    Payment(PaymentId),
}

/// Whose account or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// This user's.
    User(UserId),
    /// That of the user to whom the lock's route leads. The view is asked by the user's id.
    Owner,
}

/// What a decision may look at: one for each method of [`View`](super::View).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// An account.
    Account(Party),
    /// What a key was used for.
    Key(Party, KeySpace, OperationKey),
    /// A user's hold.
    Hold(UserId, HoldName),
    /// A job.
    Job(JobId),
    /// The job that has this external task id.
    JobOf(TaskId),
    /// A payment.
    Payment(PaymentId),
    /// The payment that has this provider key.
    PaymentOf(ProviderKey),
    /// Those above a user.
    Chain(UserId),
    /// The longest chain below a user.
    Height(UserId),
}

impl Atom {
    /// Checks the arguments, then takes the call's one moment and id. A store says `Closed` before it.
    ///
    /// # Errors
    /// `InvalidInput` where the arguments contradict each other; then no id is drawn.
    pub fn new(call: Call, environment: &Environment) -> Result<Self> {
        call.check()?;
        let (arguments, (space, given)) = (call.fingerprint(), call.given_key());
        let stamp = environment.stamp();
        let is_given = given.is_some();
        let key = given.unwrap_or_else(|| stamp.operation.to_key());
        Ok(Self { call, stamp, space, key, is_given, arguments, is_again: false })
    }
    /// The same atom once more, after an attempt that may have been applied although no answer came. Its key is looked up even
    /// where the caller gave none, and what that attempt did is answered as the first time, not as a replay.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { is_again: true, ..self.clone() }
    }
    /// What is called.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// When it began, and its id.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
    /// The key that success uses up: the caller's, else the operation's id.
    pub fn key(&self) -> &OperationKey {
        &self.key
    }
    /// The key by which the caller may ask what became of the call. An imported generation's own key is one of another operation.
    pub fn asked_by(&self) -> OperationKey {
        match self.call {
            Call::Import(_) => self.stamp.operation.to_key(),
            _ => self.key.clone(),
        }
    }
    /// The space that [`Atom::key`] belongs to.
    pub fn space(&self) -> KeySpace {
        self.space
    }
    /// The fingerprint of the arguments: a repeat under the same key must have the same.
    pub fn arguments(&self) -> Fingerprint {
        self.arguments
    }
    /// Whether an earlier attempt of it may stand.
    pub fn is_again(&self) -> bool {
        self.is_again
    }
    /// Whether the key may have been used before. A minted one only by an earlier attempt.
    pub fn may_be_known(&self) -> bool {
        self.is_given || self.is_again
    }
    /// Whether a call that changes nothing uses its key up all the same: the caller may repeat it.
    pub fn is_repeatable(&self) -> bool {
        self.is_given
    }

    /// What is to be locked first.
    pub fn lock(&self) -> Lock {
        match &self.call {
            Call::SetReferrer(set) => Lock::Chains(set.user, set.referrer),
            Call::Import(ImportRecord::Referral { user, referrer, .. }) => Lock::Chains(*user, *referrer),
            call => match owner(call) {
                Owner::User(user) => Lock::User(user),
                Owner::OfJob(job) => Lock::Owner(Route::Job(job.clone())),
                Owner::OfPayment(payment) => Lock::Owner(Route::Payment(payment.clone())),
            },
        }
    }

    /// Everything that [`decide`](super::decide) may look at, known from the arguments alone. Only a record whose minted id a used
    /// key tells is not among it.
    pub fn needs(&self) -> Vec<Need> {
        let party = match owner(&self.call) {
            Owner::User(user) => Party::User(user),
            Owner::OfJob(_) | Owner::OfPayment(_) => Party::Owner,
        };
        let mut needs = vec![Need::Account(party)];
        if self.may_be_known() {
            needs.push(Need::Key(party, self.space, self.key.clone()));
        }
        match &self.call {
            Call::GetUser(_)
            | Call::SetUserLanguage(_)
            | Call::SetGiftClaimed(_)
            | Call::SetBalance(_)
            | Call::AddBalance(_)
            | Call::SubtractBalance(_)
            | Call::SetAdminLimit(_)
            | Call::AddReferralBonus(_)
            | Call::AddGenerationToHistory(_) => {}
            Call::ReserveBalance(reserve) => needs.push(Need::Hold(reserve.user, reserve.name.clone())),
            Call::CommitReserve(commit) => needs.push(Need::Hold(commit.user, commit.name.clone())),
            Call::ReleaseReserve(release) => needs.push(Need::Hold(release.user, release.name.clone())),
            Call::ReleaseExpired(expired) => needs.push(Need::Hold(expired.user, expired.name.clone())),
            // Whether the take was given back.
            Call::IncrementFreeGenerations(take) => {
                needs.extend(take.key.iter().map(|key| Need::Key(party, KeySpace::Return, key.clone())));
            }
            // The take.
            Call::ReturnFreeGeneration(back) => {
                needs.push(Need::Key(party, KeySpace::Operation, back.take.clone()));
            }
            Call::AddGenerationJob(add) => {
                let id = add.job.clone().or_else(|| add.external_task_id.as_ref().map(JobId::from));
                needs.extend(id.map(Need::Job));
                needs.extend(add.external_task_id.clone().map(Need::JobOf));
            }
            Call::UpdateJobStatus(update) => {
                needs.push(Need::Job(update.job.clone()));
                needs.extend(update.external_task_id.clone().map(Need::JobOf));
            }
            Call::AddPayment(add) => {
                needs.extend(add.provider_key.clone().map(Need::PaymentOf));
                needs.extend(add.payment.clone().map(Need::Payment));
            }
            Call::MarkPaymentStatus(mark) => needs.push(Need::Payment(mark.payment.clone())),
            Call::RefundPayment(refund) => needs.push(Need::Payment(refund.payment.clone())),
            Call::SetReferrer(set) => needs.extend(edge(set.user, set.referrer)),
            Call::Import(record) => match record {
                ImportRecord::Job(job) => {
                    needs.push(Need::Job(job.id.clone()));
                    needs.extend(job.external_task_id.clone().map(Need::JobOf));
                }
                ImportRecord::Payment(payment) => {
                    needs.push(Need::Payment(payment.id.clone()));
                    needs.extend(payment.provider_key.clone().map(Need::PaymentOf));
                }
                ImportRecord::Referral { user, referrer, .. } => needs.extend(edge(*user, *referrer)),
                // One user's account tells.
                _ => {}
            },
        }
        needs
    }
}

/// What a new edge between two users is judged by.
fn edge(user: UserId, referrer: UserId) -> [Need; 3] {
    [Need::Account(Party::User(referrer)), Need::Chain(referrer), Need::Height(user)]
}

/// Whose account and whose keys an operation is about.
enum Owner<'c> {
    User(UserId),
    OfJob(&'c JobId),
    OfPayment(&'c PaymentId),
}

fn owner(call: &Call) -> Owner<'_> {
    Owner::User(match call {
        Call::UpdateJobStatus(update) => return Owner::OfJob(&update.job),
        Call::MarkPaymentStatus(mark) => return Owner::OfPayment(&mark.payment),
        Call::RefundPayment(refund) => return Owner::OfPayment(&refund.payment),
        Call::GetUser(user) => *user,
        Call::SetUserLanguage(set) => set.user,
        Call::SetGiftClaimed(claim) => claim.user,
        Call::SetBalance(set) => set.user,
        Call::AddBalance(add) => add.user,
        Call::SubtractBalance(subtract) => subtract.user,
        Call::ReserveBalance(reserve) => reserve.user,
        Call::CommitReserve(commit) => commit.user,
        Call::ReleaseReserve(release) => release.user,
        Call::ReleaseExpired(expired) => expired.user,
        Call::SetAdminLimit(set) => set.user,
        Call::IncrementFreeGenerations(take) => take.user,
        Call::ReturnFreeGeneration(back) => back.user,
        Call::AddReferralBonus(bonus) => bonus.referrer,
        Call::AddGenerationJob(add) => add.user,
        Call::AddGenerationToHistory(add) => add.user,
        Call::AddPayment(add) => add.user,
        Call::SetReferrer(set) => set.user,
        Call::Import(record) => record.user(),
    })
}
