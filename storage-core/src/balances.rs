//! Balances: money that can be spent.

use std::borrow::Cow;

use async_trait::async_trait;

use crate::{Actor, Amount, Fingerprint, Money, Note, OperationKey, Receipt, Reference, Result, UserId};

/// What an operator or a program notes in the ledger beside a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memo {
    /// What the change refers to.
    pub reference: Option<Reference>,
    /// Why it was made.
    pub reason: Option<Note>,
    /// Who ordered it.
    pub actor: Option<Actor>,
}

impl Memo {
    /// As arguments of a fingerprint; absent differs from empty.
    pub(crate) fn parts(&self) -> [Cow<'static, str>; 3] {
        let part = |text: Option<&str>| text.map_or(Cow::Borrowed("-"), |text| Cow::Owned(format!("={text}")));
        [
            part(self.reference.as_ref().map(Reference::as_str)),
            part(self.reason.as_ref().map(Note::as_str)),
            part(self.actor.as_ref().map(Actor::as_str)),
        ]
    }
}

macro_rules! money_arguments {
    ($(#[$doc:meta])* $name:ident, $operation:literal, $field:ident: $type:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            /// Whose balance.
            pub user: UserId,
            /// How much.
            pub $field: $type,
            /// What the ledger notes beside it.
            pub memo: Memo,
            /// Makes the call repeatable.
            pub key: Option<OperationKey>,
        }

        impl $name {
            /// Without memo and key.
            pub fn new(user: UserId, $field: $type) -> Self {
                Self { user, $field, memo: Memo::default(), key: None }
            }
            /// With the key that makes the call repeatable.
            #[must_use]
            pub fn with_key(mut self, key: OperationKey) -> Self {
                self.key = Some(key);
                self
            }
            /// With a memo for the ledger.
            #[must_use]
            pub fn with_memo(mut self, memo: Memo) -> Self {
                self.memo = memo;
                self
            }
            /// What a replay must repeat.
            pub fn fingerprint(&self) -> Fingerprint {
                let [reference, reason, actor] = self.memo.parts();
                Fingerprint::of($operation, &[&self.$field.to_string(), &reference, &reason, &actor])
            }
        }
    };
}

money_arguments! {
    /// Arguments of [`Balances::set_balance`].
    SetBalance, "set_balance", balance: Money
}
money_arguments! {
    /// Arguments of [`Balances::add_balance`].
    AddBalance, "add_balance", amount: Amount
}
money_arguments! {
    /// Arguments of [`Balances::subtract_balance`].
    SubtractBalance, "subtract_balance", amount: Amount
}

/// Balances: money that can be spent.
#[async_trait]
pub trait Balances {
    /// What the user can spend now. Held money is not in it; an unknown user has nothing.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let balance = storage.get_balance(UserId::new(1001)?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `balances::*`.
    async fn get_balance(&self, user: UserId) -> Result<Money>;

    /// Sets the balance, for administration and corrections.
    ///
    /// # Contract
    /// - The ledger gets an `adjustment` row with the difference; to the same value, no row.
    /// - Held money is not touched.
    ///
    /// # Errors
    /// `InvalidInput` when balance and held money would exceed [`Money::MAX`]; `Conflict` when the key was used
    /// for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let receipt = storage.set_balance(SetBalance::new(UserId::new(1001)?, "25".parse()?)).await?;
    /// assert_eq!(receipt.balance_after.to_string(), "25.00");
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `balances::*`.
    async fn set_balance(&self, set: SetBalance) -> Result<Receipt>;

    /// Adds to the balance.
    ///
    /// # Contract
    /// - The receipt holds the balance that this very operation produced.
    /// - The same key with equal arguments answers the first receipt, marked `replayed`.
    ///
    /// # Errors
    /// `InvalidInput` when balance and held money would exceed [`Money::MAX`]; `Conflict` when the key was used
    /// for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let credit = AddBalance::new(UserId::new(1001)?, "10".parse()?).with_key("webhook-17".parse()?);
    /// let first = storage.add_balance(credit.clone()).await?;
    /// let again = storage.add_balance(credit).await?;
    /// assert!(again.replayed && again.operation == first.operation);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `balances::*`.
    async fn add_balance(&self, add: AddBalance) -> Result<Receipt>;

    /// Takes from the balance.
    ///
    /// # Contract
    /// - The balance never goes below zero, whatever runs beside it.
    ///
    /// # Errors
    /// `InsufficientFunds` with both figures, and then nothing is changed; `Conflict` when the key was used for
    /// something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// match storage.subtract_balance(SubtractBalance::new(UserId::new(1001)?, "7.50".parse()?)).await {
    ///     Ok(receipt) => println!("left: {}", receipt.balance_after),
    ///     Err(error) => match error.kind() {
    ///         ErrorKind::InsufficientFunds { available, required } => println!("{required} wanted, {available} there"),
    ///         _ => return Err(error),
    ///     },
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `balances::*`.
    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt>;
}
