//! What a scenario is, and the list of all.

use std::fmt;
use std::pin::Pin;

use crate::check::Failure;
use crate::context::Context;
use crate::harness::Need;

type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// One scenario: a name that says which rule it protects, and the ids of the contract that it proves.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Domain and name: `"payments::approval_credits_exactly_once"`.
    pub id: &'static str,
    /// The ids of the contract that it proves.
    pub contract: &'static [&'static str],
    /// What it needs beyond one open handle.
    pub needs: &'static [Need],
    pub(crate) run: fn(Context) -> Running,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("id", &self.id)
            .field("contract", &self.contract)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

/// Lists the scenarios of a file: name, ids of the contract, needs. A function that is not listed is dead code, and
/// the compiler says so.
macro_rules! list_scenarios {
    ($domain:literal: $($name:ident [$($contract:literal),+] $(needs [$($need:ident),+])?;)+) => {
        pub(crate) const SCENARIOS: &[$crate::scenario::Scenario] = &[$(
            $crate::scenario::Scenario {
                id: concat!($domain, "::", stringify!($name)),
                contract: &[$($contract),+],
                needs: &[$($($crate::harness::Need::$need),+)?],
                run: |context| Box::pin($name(context)),
            },
        )+];
    };
}
pub(crate) use list_scenarios;

/// Every scenario, by domain.
pub fn scenarios() -> Vec<Scenario> {
    [
        crate::users::SCENARIOS,
        crate::balances::SCENARIOS,
        crate::reserves::SCENARIOS,
        crate::reserves::expiry::SCENARIOS,
        crate::operations::SCENARIOS,
        crate::free_generations::SCENARIOS,
        crate::admin_limits::SCENARIOS,
        crate::jobs::SCENARIOS,
        crate::history::SCENARIOS,
        crate::clocks::SCENARIOS,
        crate::payments::SCENARIOS,
        crate::payments::refunds::SCENARIOS,
        crate::referrals::SCENARIOS,
        crate::values::SCENARIOS,
        crate::rules::SCENARIOS,
        crate::keys::SCENARIOS,
        crate::concurrency::SCENARIOS,
        crate::paging::SCENARIOS,
        crate::store::SCENARIOS,
        crate::store::restores::SCENARIOS,
        crate::store::by_hand::SCENARIOS,
        crate::imports::SCENARIOS,
        crate::errors::SCENARIOS,
        crate::edges::SCENARIOS,
        crate::model::SCENARIOS,
        crate::linear::SCENARIOS,
    ]
    .concat()
}
