//! What the kernel needs is what it says it needs.

use std::collections::HashMap;

use super::*;
use crate::*;

/// A store that keeps what it was given, and tells only of what was loaded.
#[derive(Clone, Debug, Default)]
struct Table {
    accounts: HashMap<UserId, Account>,
    keys: HashMap<(UserId, KeySpace, OperationKey), UsedKey>,
}

struct Loaded<'t> {
    table: &'t Table,
    needs: Vec<Need>,
}

impl Loaded<'_> {
    fn has(&self, need: Need) -> Result<(), Halt> {
        if self.needs.contains(&need) { Ok(()) } else { Err(Halt::Missing(need)) }
    }
}

impl View for Loaded<'_> {
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
        self.has(Need::Account(user))?;
        Ok(self.table.accounts.get(&user).cloned())
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        self.has(Need::Key(user, space, key.clone()))?;
        Ok(self.table.keys.get(&(user, space, key.clone())).cloned())
    }
}

impl Table {
    /// Decides with what the atom said it needs, and keeps what changes.
    fn apply(&mut self, atom: &Atom, policy: &Policy) -> Result<Reply> {
        let decision =
            decide(atom, &Loaded { table: self, needs: atom.needs() }, policy).map_err(|halt| match halt {
                Halt::Missing(need) => panic!("{atom:?} needs {need:?} and did not say so"),
                halt => halt.into_error(),
            })?;
        let Changes { accounts, key, record: _, trim: _ } = decision.changes;
        for account in accounts.into_iter().flatten() {
            self.accounts.insert(account.record.user, account);
        }
        if let Some(key) = key {
            self.keys.insert((key.user, key.space, key.key), key.used);
        }
        Ok(decision.reply)
    }
}

fn user() -> UserId {
    UserId::new(1).unwrap()
}

/// Every call, with a key and without one where it may have one.
fn calls() -> Vec<Call> {
    let mut calls = vec![Call::GetUser(user())];
    let generation = |id: Option<&str>| AddGenerationToHistory {
        user: user(),
        id: id.map(|id| id.parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: Money::from_units(1).unwrap(),
    };
    for key in [None, Some("k"), Some("other")] {
        let id = key;
        let key: Option<OperationKey> = key.map(|key| key.parse().unwrap());
        calls.extend([
            SetUserLanguage { key: key.clone(), ..SetUserLanguage::new(user(), "en".parse().unwrap()) }.into(),
            SetGiftClaimed { key: key.clone(), ..SetGiftClaimed::new(user()) }.into(),
            SetAdminLimit { key: key.clone(), ..SetAdminLimit::new(user(), Money::from_units(7).unwrap()) }.into(),
            IncrementFreeGenerations { user: user(), key: key.clone() }.into(),
            AddReferralBonus { key: key.clone(), ..AddReferralBonus::new(user()) }.into(),
            generation(id).into(),
        ]);
        calls.extend(key.map(|take| ReturnFreeGeneration { user: user(), take }.into()));
    }
    calls
}

/// Any two calls one behind the other, as new ones and as another attempt: a key that was used by any other operation, and one
/// that was used by the very same.
#[test]
fn no_call_looks_at_more_than_it_says() {
    let environment = Environment::default();
    for first in calls() {
        for second in calls() {
            let mut table = Table::default();
            let first = Atom::new(first.clone(), &environment).unwrap();
            let _ = table.apply(&first, &environment.policy);
            let _ = table.apply(&first.again(), &environment.policy);
            let second = Atom::new(second, &environment).unwrap();
            let _ = table.apply(&second, &environment.policy);
            let _ = table.apply(&second.again(), &environment.policy);
        }
    }
}

/// An attempt whose answer was lost is answered by the next one as if nothing had been lost, and changes nothing more.
#[test]
fn another_attempt_answers_as_the_first_one() {
    let environment = Environment::default();
    for call in calls().into_iter().filter(|call| !matches!(call, Call::ReturnFreeGeneration(_))) {
        let mut table = Table::default();
        let atom = Atom::new(call.clone(), &environment).unwrap();
        let first = table.apply(&atom, &environment.policy).unwrap();
        let kept = (table.accounts.clone(), table.keys.clone());
        assert_eq!(table.apply(&atom.again(), &environment.policy).unwrap(), first, "{call:?}");
        assert_eq!((table.accounts.clone(), table.keys.clone()), kept, "{call:?}");
        // Another call of the same key is a replay, and one without a key is none.
        let other = Atom::new(call.clone(), &environment).unwrap();
        let replayed = match table.apply(&other, &environment.policy).unwrap() {
            Reply::User(_) => continue,
            Reply::Acknowledged(answer) => answer.replayed,
            Reply::Gift(answer) => answer.replayed,
            Reply::Quota(answer) => answer.replayed,
            Reply::Generation(answer) => answer.replayed,
        };
        assert_eq!(replayed, atom.is_repeatable(), "{call:?}");
    }
}
