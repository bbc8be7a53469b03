//! Every write as one value.

use crate::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, CommitReserve, Fingerprint,
    HeapSize, HoldName, ImportRecord, IncrementFreeGenerations, KeySpace, MarkPaymentStatus, OperationKey,
    RefundPayment, ReleaseReserve, ReserveBalance, Result, ReturnFreeGeneration, SetAdminLimit, SetBalance,
    SetGiftClaimed, SetReferrer, SetUserLanguage, SubtractBalance, UpdateJobStatus, UserId,
};

/// One step of a sweep: gives one hold back, unless somebody ended it first or it is not due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseExpired {
    /// Whose hold.
    pub user: UserId,
    /// Which hold.
    pub name: HoldName,
}

impl ReleaseExpired {
    /// What its key remembers: the same as of a release by name.
    pub fn fingerprint(&self) -> Fingerprint {
        ReleaseReserve::new(self.user, self.name.clone()).fingerprint()
    }
}

impl HeapSize for ReleaseExpired {
    fn heap_size(&self) -> usize {
        self.name.heap_size()
    }
}

macro_rules! calls {
    ($($name:ident $word:literal)+) => {
        /// A write: an operation of the contract and its arguments.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Call {
            /// Makes a user who is not there yet. Whoever is there is answered by a look, which is no call.
            GetUser(UserId),
            /// Puts in one record that another system left.
            Import(ImportRecord),
            $(#[doc = concat!("`", $word, "`.")] $name($name),)+
        }

        impl Call {
            /// The operation's name in the contract.
            pub fn operation(&self) -> &'static str {
                match self {
                    Self::GetUser(_) => "get_user",
                    Self::Import(_) => "import_records",
                    $(Self::$name(_) => $word,)+
                }
            }
            /// What a repeat must be equal in.
            pub fn fingerprint(&self) -> Fingerprint {
                match self {
                    Self::GetUser(_) => Fingerprint::of("get_user", &[]),
                    Self::Import(record) => record.fingerprint(),
                    $(Self::$name(arguments) => arguments.fingerprint(),)+
                }
            }
        }

        impl HeapSize for Call {
            fn heap_size(&self) -> usize {
                match self {
                    Self::GetUser(_) => 0,
                    Self::Import(record) => record.heap_size(),
                    $(Self::$name(arguments) => arguments.heap_size(),)+
                }
            }
        }

        $(impl From<$name> for Call {
            fn from(arguments: $name) -> Self {
                Self::$name(arguments)
            }
        })+
    };
}

calls! {
    SetUserLanguage "set_user_language"
    SetGiftClaimed "set_gift_claimed"
    SetBalance "set_balance"
    AddBalance "add_balance"
    SubtractBalance "subtract_balance"
    ReserveBalance "reserve_balance"
    CommitReserve "commit_reserve"
    ReleaseReserve "release_reserve"
    ReleaseExpired "release_expired_reserves"
    SetAdminLimit "set_admin_limit"
    IncrementFreeGenerations "increment_free_generations"
    ReturnFreeGeneration "return_free_generation"
    AddReferralBonus "add_referral_bonus"
    AddGenerationJob "add_generation_job"
    UpdateJobStatus "update_job_status"
    AddGenerationToHistory "add_generation_to_history"
    AddPayment "add_payment"
    MarkPaymentStatus "mark_payment_status"
    RefundPayment "refund_payment"
    SetReferrer "set_referrer"
}

impl Call {
    /// The rules that no single value can keep.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::UpdateJobStatus(update) => update.check(),
            Self::SetReferrer(set) => set.check(),
            _ => Ok(()),
        }
    }
    /// The space of the key that success uses up, and the key when the caller gave one.
    pub(super) fn given_key(&self) -> (KeySpace, Option<OperationKey>) {
        let key = match self {
            Self::SetUserLanguage(set) => set.key.clone(),
            Self::SetGiftClaimed(claim) => claim.key.clone(),
            Self::SetBalance(set) => set.key.clone(),
            Self::AddBalance(add) => add.key.clone(),
            Self::SubtractBalance(subtract) => subtract.key.clone(),
            Self::ReserveBalance(reserve) => reserve.key.clone(),
            Self::CommitReserve(commit) => commit.key.clone(),
            Self::ReleaseReserve(release) => release.key.clone(),
            Self::SetAdminLimit(set) => set.key.clone(),
            Self::IncrementFreeGenerations(take) => take.key.clone(),
            Self::ReturnFreeGeneration(back) => return (KeySpace::Return, Some(back.take.clone())),
            Self::AddReferralBonus(bonus) => bonus.key.clone(),
            Self::AddGenerationJob(add) => add.key.clone(),
            Self::UpdateJobStatus(update) => update.key.clone(),
            Self::AddGenerationToHistory(add) => {
                return (KeySpace::Generation, add.id.as_ref().map(OperationKey::from));
            }
            Self::AddPayment(add) => add.key.clone(),
            Self::MarkPaymentStatus(mark) => mark.key.clone(),
            Self::RefundPayment(refund) => refund.key.clone(),
            Self::SetReferrer(set) => set.key.clone(),
            Self::Import(ImportRecord::Generation { user: _, generation }) => {
                return (KeySpace::Generation, Some(OperationKey::from(&generation.id)));
            }
            Self::GetUser(_) | Self::ReleaseExpired(_) | Self::Import(_) => None,
        };
        (KeySpace::Operation, key)
    }
}
