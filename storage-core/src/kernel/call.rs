//! Every write as one value.

use crate::{
    AddGenerationToHistory, AddReferralBonus, Fingerprint, HeapSize, IncrementFreeGenerations, KeySpace, OperationKey,
    ReturnFreeGeneration, SetAdminLimit, SetGiftClaimed, SetUserLanguage, UserId,
};

macro_rules! calls {
    ($($name:ident $word:literal)+) => {
        /// A write: an operation of the contract and its arguments.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Call {
            /// Makes a user who is not there yet. Whoever is there is answered by a look, which is no call.
            GetUser(UserId),
            $(#[doc = concat!("`", $word, "`.")] $name($name),)+
        }

        impl Call {
            /// The operation's name in the contract.
            pub fn operation(&self) -> &'static str {
                match self {
                    Self::GetUser(_) => "get_user",
                    $(Self::$name(_) => $word,)+
                }
            }
            /// What a repeat must be equal in.
            pub fn fingerprint(&self) -> Fingerprint {
                match self {
                    Self::GetUser(_) => Fingerprint::of("get_user", &[]),
                    $(Self::$name(arguments) => arguments.fingerprint(),)+
                }
            }
        }

        impl HeapSize for Call {
            fn heap_size(&self) -> usize {
                match self {
                    Self::GetUser(_) => 0,
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
    SetAdminLimit "set_admin_limit"
    IncrementFreeGenerations "increment_free_generations"
    ReturnFreeGeneration "return_free_generation"
    AddReferralBonus "add_referral_bonus"
    AddGenerationToHistory "add_generation_to_history"
}

impl Call {
    /// The space of the key that success uses up, and the key when the caller gave one.
    pub(super) fn given_key(&self) -> (KeySpace, Option<OperationKey>) {
        let key = match self {
            Self::GetUser(_) => None,
            Self::SetUserLanguage(set) => set.key.clone(),
            Self::SetGiftClaimed(claim) => claim.key.clone(),
            Self::SetAdminLimit(set) => set.key.clone(),
            Self::IncrementFreeGenerations(take) => take.key.clone(),
            Self::AddReferralBonus(bonus) => bonus.key.clone(),
            Self::ReturnFreeGeneration(back) => return (KeySpace::Return, Some(back.take.clone())),
            Self::AddGenerationToHistory(add) => {
                return (KeySpace::Generation, add.id.as_ref().map(OperationKey::from));
            }
        };
        (KeySpace::Operation, key)
    }
}
