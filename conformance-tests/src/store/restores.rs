//! Dumps whose hash is right and whose records are wrong: each by itself, or by what another one says (M4).

use std::io::Cursor;
use std::sync::Arc;

use storage_core::{
    AccountRecord, AddPayment, DumpRecord, DumpWriter, ErrorKind, LedgerRow, MAX_BANK, MAX_REFERRAL_CHAIN, Money,
    OperationKind, PaymentOrigin, PaymentStatus, Policy, ReleaseReserve, SignedMoney, Storage, UserId,
};

use super::filled;
use crate::check::{Check, Failure, ensure, ensure_eq, present};
use crate::context::Context;
use crate::scenario::list_scenarios;
use crate::steps::{approve, clean, credit, dump_text, hold, order, pay, payment};

list_scenarios! {
    "store":
    a_dump_with_records_of_an_unknown_user_is_refused_by_line ["restore", "M4", "R12", "R8"];
    a_dump_with_a_value_over_its_limit_is_refused_by_line ["restore", "R12", "R8", "V2"];
    a_dump_in_which_an_id_stands_twice_is_refused ["restore", "M4", "R8"];
    a_dump_in_which_a_provider_key_or_a_task_stands_twice_is_refused ["restore", "M4", "R8"];
    a_dump_with_a_circle_of_referrers_is_refused ["restore", "M4", "W38"];
    a_dump_with_the_longest_chain_of_referrers_is_taken_and_a_longer_one_refused ["restore", "M4", "R8"];
    a_dump_with_a_referrer_without_account_is_refused ["restore", "M4", "R8"];
    a_dump_whose_holds_and_held_money_differ_is_refused ["restore", "M4", "R8"];
    a_dump_whose_ledger_and_balances_differ_is_refused ["restore", "M4", "R8"];
    a_dump_whose_ledger_does_not_add_up_is_refused ["restore", "M4", "R8"];
    a_dump_with_a_row_whose_key_was_not_used_is_refused ["restore", "M4", "R8"];
    a_dump_whose_payments_and_credits_differ_is_refused ["restore", "M4", "W1", "W2"];
    a_dump_whose_refunds_differ_is_refused ["restore", "M4", "refund_payment"];
    a_dump_of_everything_that_may_be_is_taken ["restore", "M4"];
}

/// The records of a dump.
pub(super) fn records_of(dump: &str) -> Check<Vec<DumpRecord>> {
    let lines: Vec<&str> = dump.lines().collect();
    lines[1..lines.len() - 1].iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A dump of these records, in their order, with a header and a footer that fit.
pub(super) fn dump_of(records: &[DumpRecord]) -> Check<Vec<u8>> {
    let mut records: Vec<&DumpRecord> = records.iter().collect();
    records.sort_by_cached_key(|record| record.place());
    let mut writer = DumpWriter::new(&Policy::default())?;
    for record in records {
        writer.record(record)?;
    }
    Ok(writer.finish()?.0)
}

/// Proves that a dump of these records is refused at the line of one of them, in words that name all of these, and that
/// nothing is taken.
async fn refused_naming(storage: &dyn Storage, records: &[DumpRecord], bad: &DumpRecord, names: &[&str]) -> Check {
    let bytes = dump_of(records)?;
    let mut places: Vec<_> = records.iter().map(DumpRecord::place).collect();
    places.sort();
    let found = places.iter().position(|place| *place == bad.place());
    let bad_line = present(found, "the bad record")? as u64 + 2;
    let answer = storage.restore(&mut Cursor::new(bytes.as_slice())).await;
    match &answer {
        Err(error) => match error.kind() {
            ErrorKind::Corrupt(place) => {
                let text = error.to_string();
                ensure_eq!(place.line, Some(bad_line), "{text}");
                ensure!(names.iter().all(|name| text.contains(name)), "{names:?} are missing in {text:?}");
            }
            _ => return Err(Failure::new(format!("line {bad_line}: {}", error.report()))),
        },
        Ok(_) => return Err(Failure::new(format!("line {bad_line} was taken: {bad:?}"))),
    }
    ensure_eq!(dump_text(storage).await?.lines().count(), 2, "the refused dump left something");
    Ok(())
}

async fn refused_at(storage: &dyn Storage, records: &[DumpRecord], bad: usize) -> Check {
    refused_naming(storage, records, &records[bad], &[]).await
}

/// An empty store to restore into, the records of another one, and what is done to them.
pub(super) struct Forgery {
    pub(super) there: Arc<dyn Storage>,
    whole: Vec<DumpRecord>,
}

impl Forgery {
    pub(super) async fn of(context: &Context, storage: &dyn Storage) -> Check<Self> {
        let whole = records_of(&dump_text(storage).await?)?;
        Ok(Self { there: context.elsewhere().await?.open().await?, whole })
    }
    pub(super) fn all(&self) -> &[DumpRecord] {
        &self.whole
    }
    /// The one record of this kind that is as described.
    pub(super) fn one(&self, kind: &str, is: impl Fn(&DumpRecord) -> bool) -> Check<DumpRecord> {
        let found: Vec<_> = self.whole.iter().filter(|record| record.kind() == kind && is(record)).collect();
        ensure_eq!(found.len(), 1, "one {kind} is as described");
        Ok(found[0].clone())
    }
    pub(super) fn account(&self, user: UserId) -> Check<AccountRecord> {
        match self.one("account", |record| record.user() == user)? {
            DumpRecord::Account(account) => Ok(account),
            other => Err(Failure::new(format!("no account: {other:?}"))),
        }
    }
    fn row(&self, user: UserId, seq: u64) -> Check<LedgerRow> {
        let is = |record: &DumpRecord| matches!(record, DumpRecord::Ledger(row) if row.user == user && row.seq == seq);
        match self.one("ledger", is)? {
            DumpRecord::Ledger(row) => Ok(row),
            other => Err(Failure::new(format!("no row: {other:?}"))),
        }
    }
    pub(super) fn payment(&self, id: &str) -> Check<storage_core::dump::PaymentRecord> {
        let is = |record: &DumpRecord| matches!(record, DumpRecord::Payment(payment) if payment.id.as_str() == id);
        match self.one("payment", is)? {
            DumpRecord::Payment(payment) => Ok(payment),
            other => Err(Failure::new(format!("no payment: {other:?}"))),
        }
    }
    /// The records with others in the places of some, and with more of them.
    pub(super) fn with(&self, others: &[&DumpRecord]) -> Vec<DumpRecord> {
        let places: Vec<_> = others.iter().map(|record| record.place()).collect();
        let kept = self.whole.iter().filter(|record| !places.contains(&record.place()));
        kept.chain(others.iter().copied()).cloned().collect()
    }
    pub(super) fn without(&self, gone: &[&DumpRecord]) -> Vec<DumpRecord> {
        self.whole.iter().filter(|record| !gone.contains(record)).cloned().collect()
    }
    async fn refused(&self, records: &[DumpRecord], bad: &DumpRecord, names: &[&str]) -> Check {
        refused_naming(&*self.there, records, bad, names).await
    }
    /// Restores these records, and proves that they are all there.
    pub(super) async fn restored(&self, records: &[DumpRecord]) -> Check {
        let forged = dump_of(records)?;
        self.there.restore(&mut Cursor::new(forged.as_slice())).await?;
        ensure_eq!(dump_text(&*self.there).await?.as_bytes(), forged.as_slice());
        clean(&*self.there).await
    }
    /// The whole dump is taken in the end: nothing of the others was left.
    async fn taken(self) -> Check {
        self.restored(&self.whole).await
    }
}

async fn a_dump_with_records_of_an_unknown_user_is_refused_by_line(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let all = records_of(&dump_text(&*storage).await?)?;
    let is_account = |record: &DumpRecord| matches!(record, DumpRecord::Account(_));
    let accounts: Vec<DumpRecord> = all.iter().filter(|record| is_account(record)).cloned().collect();
    let there = context.elsewhere().await?.open().await?;
    for kind in ["generation", "hold", "job", "key", "ledger", "payment"] {
        for stranger in [context.alice, context.bob] {
            let of_kind = all.iter().filter(|record| record.kind() == kind && record.user() == stranger);
            let of_kind: Vec<DumpRecord> = of_kind.cloned().collect();
            ensure!(!of_kind.is_empty() || kind == "generation", "no {kind} of {stranger}");
            if of_kind.is_empty() {
                continue;
            }
            let others = accounts.iter().filter(|record| record.user() != stranger).cloned();
            let records: Vec<DumpRecord> = others.chain(of_kind).collect();
            refused_at(&*there, &records, accounts.len() - 1).await?;
        }
    }
    Ok(())
}

async fn a_dump_with_a_value_over_its_limit_is_refused_by_line(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        hold_something(&*storage, user).await?;
    }
    let all = records_of(&dump_text(&*storage).await?)?;
    let there = context.elsewhere().await?.open().await?;
    let changes: [fn(&mut AccountRecord) -> Check; 6] = [
        |account| {
            account.bank = MAX_BANK + 1;
            Ok(())
        },
        |account| {
            account.spent = "-0.000001".parse()?;
            Ok(())
        },
        |account| {
            account.spent = "1000000000000000000000000000000".parse()?;
            Ok(())
        },
        |account| {
            account.balance = Money::MAX;
            Ok(())
        },
        |account| {
            account.referrer = Some(account.user);
            Ok(())
        },
        |account| {
            account.referrer = UserId::new(7).ok();
            account.referral_bonus = 1_000_001;
            Ok(())
        },
    ];
    for change in changes {
        let mut records = all.clone();
        match &mut records[1] {
            DumpRecord::Account(account) => change(account)?,
            other => return Err(Failure::new(format!("no account: {other:?}"))),
        }
        refused_at(&*there, &records, 1).await?;
    }
    let mut records = all.clone();
    let at = present(records.iter().position(|record| record.kind() == "hold"), "a hold")?;
    if let DumpRecord::Hold(hold) = &mut records[at] {
        hold.committed = "4.000001".parse()?;
    }
    refused_at(&*there, &records, at).await?;
    there.restore(&mut Cursor::new(dump_of(&all)?.as_slice())).await?;
    clean(&*there).await
}

async fn hold_something(storage: &dyn Storage, user: UserId) -> Check {
    credit(storage, user, "10").await?;
    hold(storage, user, "job-1", "4").await?;
    Ok(())
}

async fn a_dump_in_which_an_id_stands_twice_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, id) in [(context.alice, "one"), (context.bob, "two")] {
        order(&*storage, user, id).await?;
        pay(&*storage, user, id, "10").await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    let alice = context.alice.to_string();
    for kind in ["job", "payment"] {
        let mut taken = forgery.one(kind, |record| record.user() == context.bob)?;
        match &mut taken {
            DumpRecord::Job(job) => job.id = "one".parse()?,
            DumpRecord::Payment(payment) => payment.id = "one".parse()?,
            other => return Err(Failure::new(format!("no job and no payment: {other:?}"))),
        }
        let names = [kind, "one", &alice, &context.bob.to_string(), "line"];
        forgery.refused(&forgery.with(&[&taken]), &taken, &names).await?;
    }
    forgery.taken().await
}

async fn a_dump_in_which_a_provider_key_or_a_task_stands_twice_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, number) in [(context.alice, 1), (context.bob, 2), (context.bob, 3)] {
        let provider_key = Some(format!("charge-{number}").parse()?);
        storage.add_payment(AddPayment { provider_key, ..payment(user, &format!("p-{number}"), "10")? }).await?;
        let mut job = crate::steps::job(user, &format!("j-{number}"))?;
        job.external_task_id = Some(format!("task-{number}").parse()?);
        storage.add_generation_job(job).await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    // Of another user, and of the same one.
    for (first, second) in [("1", "2"), ("2", "3")] {
        let is = |record: &DumpRecord| match record {
            DumpRecord::Job(job) => job.id.as_str() == format!("j-{second}"),
            DumpRecord::Payment(payment) => payment.id.as_str() == format!("p-{second}"),
            _ => false,
        };
        for (kind, word, letter) in [("job", "task", "j"), ("payment", "charge", "p")] {
            let mut taken = forgery.one(kind, is)?;
            let name = format!("{word}-{first}");
            match &mut taken {
                DumpRecord::Job(job) => job.external_task_id = Some(name.parse()?),
                DumpRecord::Payment(payment) => payment.provider_key = Some(name.parse()?),
                other => return Err(Failure::new(format!("no job and no payment: {other:?}"))),
            }
            let names = [kind, &name, &format!("{letter}-{first}"), &format!("{letter}-{second}")];
            forgery.refused(&forgery.with(&[&taken]), &taken, &names).await?;
        }
    }
    forgery.taken().await
}

/// Accounts 1 to `count`, each brought by the one before.
fn chain(context: &Context, count: i64) -> Check<Vec<AccountRecord>> {
    (1..=count)
        .map(|number| {
            let mut account = AccountRecord::new(context.user(number)?, context.now());
            if number > 1 {
                account.referrer = Some(context.user(number - 1)?);
                account.referred_at = Some(context.now());
            }
            Ok(account)
        })
        .collect()
}

fn accounts(accounts: &[AccountRecord]) -> Vec<DumpRecord> {
    accounts.iter().cloned().map(DumpRecord::Account).collect()
}

async fn a_dump_with_a_circle_of_referrers_is_refused(context: Context) -> Check {
    let there = context.elsewhere().await?.open().await?;
    for length in [2, 3, 7, 1000, 1001, 2500] {
        let mut circle = chain(&context, length)?;
        (circle[0].referrer, circle[0].referred_at) = (Some(context.user(length)?), Some(context.now()));
        // Somebody whom the circle's last one brought stands outside of it.
        let mut outside = AccountRecord::new(context.user(length + 1)?, context.now());
        (outside.referrer, outside.referred_at) = (Some(context.user(length)?), Some(context.now()));
        let mut records = accounts(&circle);
        records.push(DumpRecord::Account(outside));
        let names = ["circle".to_owned(), "user 2,".to_owned(), "user 1 ".to_owned()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        refused_naming(&*there, &records, &records[1], &names).await?;
    }
    there.restore(&mut Cursor::new(dump_of(&accounts(&chain(&context, 3)?))?.as_slice())).await?;
    ensure_eq!(there.get_referrer(context.user(3)?).await?, Some(context.user(2)?));
    Ok(())
}

async fn a_dump_with_the_longest_chain_of_referrers_is_taken_and_a_longer_one_refused(context: Context) -> Check {
    let there = context.elsewhere().await?.open().await?;
    let longest = i64::try_from(MAX_REFERRAL_CHAIN).unwrap_or(i64::MAX);
    // So many edges have one account more.
    let mut longer = accounts(&chain(&context, longest + 2)?);
    let last = longer[MAX_REFERRAL_CHAIN + 1].clone();
    let names = [(longest + 2).to_string(), (longest + 1).to_string()];
    refused_naming(&*there, &longer, &last, &[&names[0], &names[1], "1000"]).await?;
    longer.pop();
    there.restore(&mut Cursor::new(dump_of(&longer)?.as_slice())).await?;
    ensure_eq!(there.get_referrer(context.user(longest + 1)?).await?, Some(context.user(longest)?));
    Ok(())
}

async fn a_dump_with_a_referrer_without_account_is_refused(context: Context) -> Check {
    let there = context.elsewhere().await?.open().await?;
    let mut records = accounts(&chain(&context, 4)?);
    let missing = records.remove(1);
    let names = [missing.user().to_string(), records[1].user().to_string()];
    refused_naming(&*there, &records, &records[1], &[&names[0], &names[1], "no account"]).await?;
    for half in [0, 1] {
        let mut account = chain(&context, 2)?;
        if half == 0 {
            account[1].referred_at = None;
        } else {
            account[1].referrer = None;
        }
        let records = accounts(&account);
        refused_naming(&*there, &records, &records[1], &[]).await?;
    }
    Ok(())
}

async fn a_dump_whose_holds_and_held_money_differ_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob, context.carol] {
        credit(&*storage, user, "10").await?;
        hold(&*storage, user, "job-1", "2").await?;
        hold(&*storage, user, "job-2", "3").await?;
        hold(&*storage, user, "job-3", "1").await?;
        storage.release_reserve(ReleaseReserve::new(user, "job-3".parse()?)).await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    // The last user of all too, behind whom no hold comes.
    for user in [context.carol, context.alice, context.bob] {
        let named = |name: &str| {
            let is = |record: &DumpRecord| matches!(record, DumpRecord::Hold(hold) if hold.name.as_str() == name);
            forgery.one("hold", |record| record.user() == user && is(record))
        };
        let (first, second, ended) = (named("job-1")?, named("job-2")?, named("job-3")?);
        let (number, account) = (user.to_string(), DumpRecord::Account(forgery.account(user)?));
        // One is missing, then both.
        forgery.refused(&forgery.without(&[&first]), &second, &["job-2", &number, "3.00", "5.00"]).await?;
        let none = forgery.without(&[&first, &second]);
        forgery.refused(&none, &account, &[&number, "5.00"]).await?;
        // One that is over counts.
        let mut opened = ended.clone();
        if let DumpRecord::Hold(hold) = &mut opened {
            (hold.status, hold.ended) = (storage_core::HoldStatus::Open, None);
        }
        forgery.refused(&forgery.with(&[&opened]), &opened, &["job-3", &number, "6.00", "5.00"]).await?;
        // A state and an end that do not fit are wrong by themselves.
        if let DumpRecord::Hold(hold) = &mut opened {
            hold.status = storage_core::HoldStatus::Released;
        }
        forgery.refused(&forgery.with(&[&opened]), &opened, &[]).await?;
        let mut other = forgery.account(user)?;
        other.held = "4".parse()?;
        forgery.refused(&forgery.with(&[&DumpRecord::Account(other)]), &second, &["job-2", &number, "4.00"]).await?;
    }
    forgery.taken().await
}

async fn a_dump_whose_ledger_and_balances_differ_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        credit(&*storage, user, "10").await?;
        credit(&*storage, user, "1").await?;
    }
    storage.get_user(context.carol).await?;
    let forgery = Forgery::of(&context, &*storage).await?;
    for user in [context.alice, context.bob] {
        let (last, number) = (DumpRecord::Ledger(forgery.row(user, 2)?), user.to_string());
        let mut richer = forgery.account(user)?;
        richer.balance = "11.000001".parse()?;
        let names = ["ledger row 2", &number, "11.00", "11.000001"];
        forgery.refused(&forgery.with(&[&DumpRecord::Account(richer)]), &last, &names).await?;
        let first = DumpRecord::Ledger(forgery.row(user, 1)?);
        forgery.refused(&forgery.without(&[&last]), &first, &["ledger row 1", &number, "10.00", "11.00"]).await?;
        let account = DumpRecord::Account(forgery.account(user)?);
        forgery.refused(&forgery.without(&[&first, &last]), &account, &[&number, "11.00", "no ledger row"]).await?;
    }
    let mut rich = forgery.account(context.carol)?;
    rich.balance = Money::from_units(5)?;
    let rich = DumpRecord::Account(rich);
    let names = [&context.carol.to_string(), "5.00", "no ledger row"];
    forgery.refused(&forgery.with(&[&rich]), &rich, &names).await?;
    forgery.taken().await
}

async fn a_dump_whose_ledger_does_not_add_up_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        for _ in 0..4 {
            credit(&*storage, user, "10").await?;
        }
        hold(&*storage, user, "job-1", "4").await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    for user in [context.alice, context.bob] {
        let number = user.to_string();
        let row = |seq| forgery.row(user, seq);
        // A row is missing: the next one stands in its place.
        let gone = DumpRecord::Ledger(row(2)?);
        forgery.refused(&forgery.without(&[&gone]), &DumpRecord::Ledger(row(3)?), &["ledger row 3", &number]).await?;
        let changes: [fn(&mut LedgerRow) -> Check; 4] = [
            |row| {
                row.balance_change = SignedMoney::plus("11".parse()?);
                Ok(())
            },
            |row| {
                row.balance_after = "29".parse()?;
                Ok(())
            },
            |row| {
                row.held_change = SignedMoney::plus("1".parse()?);
                Ok(())
            },
            |row| {
                row.held_after = "1".parse()?;
                Ok(())
            },
        ];
        for change in changes {
            let mut third = row(3)?;
            change(&mut third)?;
            let third = DumpRecord::Ledger(third);
            forgery.refused(&forgery.with(&[&third]), &third, &["ledger row 3", "row 2", &number]).await?;
        }
    }
    forgery.taken().await
}

async fn a_dump_with_a_row_whose_key_was_not_used_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        credit(&*storage, user, "10").await?;
        credit(&*storage, user, "1").await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    for user in [context.alice, context.bob] {
        let (second, number) = (forgery.row(user, 2)?, user.to_string());
        let names = ["ledger row 2", &number, second.key.as_str()];
        let bad = DumpRecord::Ledger(second.clone());
        let is = |record: &DumpRecord| matches!(record, DumpRecord::Key(used) if used.key == second.key);
        let used = forgery.one("key", |record| record.user() == user && is(record))?;
        forgery.refused(&forgery.without(&[&used]), &bad, &names).await?;
        // Used up, and by another operation.
        let mut other = used.clone();
        if let DumpRecord::Key(used) = &mut other {
            used.used.operation = forgery.row(user, 1)?.operation;
        }
        forgery.refused(&forgery.with(&[&other]), &bad, &names).await?;
    }
    forgery.taken().await
}

async fn a_dump_whose_payments_and_credits_differ_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, id) in [(context.alice, "p-1"), (context.alice, "p-2"), (context.bob, "p-3"), (context.bob, "p-4")] {
        pay(&*storage, user, id, "10").await?;
    }
    for id in ["p-1", "p-3"] {
        approve(&*storage, id).await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    // Approved, and never credited.
    for (id, status) in [("p-2", PaymentStatus::Approved), ("p-4", PaymentStatus::Refunded)] {
        let mut never = forgery.payment(id)?;
        never.status = status;
        let never = DumpRecord::Payment(never);
        forgery.refused(&forgery.with(&[&never]), &never, &["payment", id, status.as_str(), "credits"]).await?;
    }
    // Credited, and in no state in which it was.
    for (id, user) in [("p-1", context.alice), ("p-3", context.bob)] {
        let line = forgery.row(user, 1)?;
        ensure_eq!(line.kind, OperationKind::Payment);
        for (status, origin, amount) in [
            (PaymentStatus::Pending, PaymentOrigin::Here, "10"),
            (PaymentStatus::Rejected, PaymentOrigin::Here, "10"),
            (PaymentStatus::Approved, PaymentOrigin::Imported, "10"),
            (PaymentStatus::Approved, PaymentOrigin::Here, "10.000001"),
            (PaymentStatus::Refunded, PaymentOrigin::Here, "10"),
        ] {
            let mut other = forgery.payment(id)?;
            (other.status, other.origin, other.amount) = (status, origin, amount.parse()?);
            let other = DumpRecord::Payment(other);
            forgery.refused(&forgery.with(&[&other]), &other, &["payment", id]).await?;
        }
        // Its payment is gone, or another user's.
        let row = DumpRecord::Ledger(line);
        let gone = DumpRecord::Payment(forgery.payment(id)?);
        let names = ["ledger row 1", id, &user.to_string()];
        forgery.refused(&forgery.without(&[&gone]), &row, &names).await?;
        let mut moved = forgery.payment(id)?;
        moved.user = if user == context.alice { context.bob } else { context.alice };
        let (moved, mut records) = (DumpRecord::Payment(moved), forgery.without(&[&gone]));
        records.push(moved.clone());
        forgery.refused(&records, &moved, &["payment", id, "credits"]).await?;
        // Credited twice: a second row with the same reference.
        let mut twice = forgery.row(user, 1)?;
        twice.seq = 2;
        twice.balance_after = "20".parse()?;
        let twice = DumpRecord::Ledger(twice);
        let names = ["ledger row 2", "ledger row 1", id, &user.to_string()];
        forgery.refused(&forgery.with(&[&twice]), &twice, &names).await?;
    }
    forgery.taken().await
}

async fn a_dump_whose_refunds_differ_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "5").await?;
    for id in ["p-1", "p-2"] {
        pay(&*storage, alice, id, "10").await?;
        approve(&*storage, id).await?;
    }
    storage.refund_payment(storage_core::RefundPayment::new("p-1".parse()?)).await?;
    let forgery = Forgery::of(&context, &*storage).await?;
    let row = forgery.row(alice, 4)?;
    ensure_eq!(row.kind, OperationKind::Refund);
    for status in [PaymentStatus::Approved, PaymentStatus::Pending] {
        let mut other = forgery.payment("p-1")?;
        other.status = status;
        let other = DumpRecord::Payment(other);
        forgery.refused(&forgery.with(&[&other]), &other, &["payment", "p-1"]).await?;
    }
    let mut refunded = forgery.payment("p-2")?;
    refunded.status = PaymentStatus::Refunded;
    let refunded = DumpRecord::Payment(refunded);
    forgery.refused(&forgery.with(&[&refunded]), &refunded, &["payment", "p-2", "refunded"]).await?;
    // The refund names another payment: that one was not refunded.
    let mut other = row.clone();
    other.reference = Some("p-9".parse()?);
    let other = DumpRecord::Ledger(other);
    let bad = DumpRecord::Payment(forgery.payment("p-1")?);
    forgery.refused(&forgery.with(&[&other]), &bad, &["payment", "p-1", "takes it back"]).await?;
    forgery.taken().await
}

async fn a_dump_of_everything_that_may_be_is_taken(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let (alice, bob) = (context.alice, context.bob);
    // A refund of what another system approved, and one that came refunded: the balances came along.
    let at = context.now();
    let old = |id: &str, status| {
        let waiting = storage_core::Payment::create(payment(bob, id, "25")?, id.parse()?, at);
        let origin = PaymentOrigin::Imported;
        Check::Ok(storage_core::ImportRecord::Payment(storage_core::Payment { status, origin, ..waiting }))
    };
    let records = vec![old("old-1", PaymentStatus::Approved)?, old("old-2", PaymentStatus::Refunded)?];
    storage.import_records(records).await?;
    storage.refund_payment(storage_core::RefundPayment::new("old-1".parse()?)).await?;
    // A payment's id and a job's id may be the same, and one user's hold may have another's name.
    order(&*storage, alice, "same").await?;
    pay(&*storage, alice, "same", "1").await?;
    approve(&*storage, "same").await?;
    hold(&*storage, alice, "same", "1").await?;
    hold(&*storage, bob, "same", "1").await?;
    Forgery::of(&context, &*storage).await?.taken().await
}
