//! The table of the mutants. The build script and the program read the same one.

#[path = "table/jobs.rs"]
mod jobs;
#[path = "table/money.rs"]
mod money;
#[path = "table/payments.rs"]
mod payments;
#[path = "table/quota.rs"]
mod quota;
#[path = "table/store.rs"]
mod store;
#[path = "table/users.rs"]
mod users;
#[path = "table/values.rs"]
mod values;

/// A defect of the example backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// A short name.
    pub(crate) name: &'static str,
    /// What is wrong, and which line of the contract it breaks.
    pub(crate) defect: &'static str,
    /// The scenario that is meant to catch it.
    pub(crate) caught_by: &'static str,
    /// What is changed in the sources.
    pub(crate) changes: &'static [Change],
}

/// A change of one place in a source file. The text stands there exactly once; where it holds `«...»`, only that part
/// of it is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The text, an expression or a statement, becomes another one.
    Replace(&'static str, &'static str, &'static str),
    /// Something is done before the text, a statement.
    Before(&'static str, &'static str, &'static str),
}

/// Every mutant, by domain. The first has the number 1; number 0 is the backend without a defect.
pub(crate) fn mutants() -> Vec<Mutant> {
    [users::ALL, money::ALL, quota::ALL, jobs::ALL, payments::ALL, store::ALL, values::ALL].concat()
}
