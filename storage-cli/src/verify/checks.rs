//! The checks of `storage verify`, each on a store of its own. After each the audit must be clean.

use std::io::Cursor;
use std::pin::Pin;

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, BonusCount, Clock,
    CommitReserve, GetReferrals, GetUserGenerationsHistory, HoldStatus, IncrementFreeGenerations, JobStatus,
    ListOperations, MarkPaymentStatus, Money, PageRequest, PageSize, PaymentStatus, RefundPayment, ReleaseReserve,
    ReserveBalance, Result as Stored, ResultUrls, ReturnFreeGeneration, SetBalance, SetGiftClaimed, SetReferrer,
    SetUserLanguage, SharedStorage, Storage, SubtractBalance, UpdateJobStatus, UserId,
};

use super::site::{Check, Miss, Site, at_once, order, refused, same, shows, user};

/// A check and the rule that it protects.
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) run: for<'a> fn(&'a Site) -> Pin<Box<dyn Future<Output = Check> + Send + 'a>>,
}

macro_rules! checks {
    ($($name:literal: $run:ident;)+) => {
        /// All checks, in the order in which they run.
        pub(super) const CHECKS: &[Named] = &[$(Named { name: $name, run: |site| Box::pin($run(site)) }),+];
    };
}

checks! {
    "reading an unknown user creates nothing": reads_create_nothing;
    "a credit reaches balance and ledger": credit;
    "a debit never goes below zero": debit;
    "amounts are exact: ten times 0.1 is 1": exact;
    "the same key credits once, other arguments are a conflict": once_per_key;
    "fifty debits at once never overdraw": concurrent_debits;
    "a hold is spent in part, the rest comes back": hold_and_commit;
    "four releases at once give back once": hold_and_release;
    "an expired hold is swept once": expired_holds;
    "a payment approved fifty times at once credits once": approve_once;
    "a rejected payment stays rejected, an unknown one is an error": rejected_payments;
    "a refund takes the credit back once": refund;
    "five free generations a day, then the bank, then none": quota;
    "the quota starts anew at midnight, the bank stays": midnight;
    "of twenty claims of the gift one is first": gift;
    "a circle of referrals is refused, a bonus granted once": referral_circle;
    "a job goes forward only, and its parameters stay as they were": job_lifecycle;
    "a generation recorded twice is spent once": history_replay;
    "two handles on one store agree": two_handles;
    "reopening finds everything": reopened;
    "dump, restore, dump gives the same bytes": dump_and_restore;
    "a closed handle answers Closed, others go on": closed;
}

async fn with_balance(storage: &dyn Storage, id: i64, balance: &str) -> Stored<UserId> {
    let user = user(id)?;
    storage.set_balance(SetBalance::new(user, balance.parse()?)).await?;
    Ok(user)
}

async fn reads_create_nothing(site: &Site) -> Check {
    let (storage, nobody) = (site.open().await?, user(1001)?);
    shows("balance", storage.get_balance(nobody).await?, "0.00")?;
    shows("language", storage.get_user_language(nobody).await?, "ru")?;
    same("gift", &storage.has_claimed_gift(nobody).await?, &false)?;
    same("free generations", &storage.get_user_free_generations_remaining(nobody).await?, &5)?;
    same("user", &storage.find_user(nobody).await?, &None)?;
    same("users", &storage.list_users(PageRequest::default()).await?.items.len(), &0)?;
    Ok(storage.close().await?)
}

async fn credit(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let receipt = storage.add_balance(AddBalance::new(user, "12.5".parse()?)).await?;
    shows("balance after", receipt.balance_after, "12.50")?;
    shows("balance", storage.get_balance(user).await?, "12.50")?;
    let rows = storage.list_operations(ListOperations::of(user)).await?.items;
    same("ledger rows", &rows.len(), &1)?;
    same("its operation", &rows.first().map(|row| row.operation), &Some(receipt.operation))?;
    Ok(storage.close().await?)
}

async fn debit(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = with_balance(&*storage, 1001, "10").await?;
    let receipt = storage.subtract_balance(SubtractBalance::new(user, "9.99".parse()?)).await?;
    shows("balance after", receipt.balance_after, "0.01")?;
    let short = storage.subtract_balance(SubtractBalance::new(user, "0.02".parse()?)).await;
    refused("a debit of more than there is", short, "InsufficientFunds")?;
    shows("balance", storage.get_balance(user).await?, "0.01")?;
    Ok(storage.close().await?)
}

async fn exact(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    for _ in 0..10 {
        storage.add_balance(AddBalance::new(user, "0.1".parse()?)).await?;
    }
    storage.subtract_balance(SubtractBalance::new(user, "0.000001".parse()?)).await?;
    shows("balance", storage.get_balance(user).await?, "0.999999")?;
    storage.add_balance(AddBalance::new(user, "0.000001".parse()?)).await?;
    shows("balance", storage.get_balance(user).await?, "1.00")?;
    Ok(storage.close().await?)
}

async fn once_per_key(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let credit = AddBalance::new(user, "5".parse()?).with_key("webhook-1".parse()?);
    let first = storage.add_balance(credit.clone()).await?;
    let again = storage.add_balance(credit.clone()).await?;
    same("replayed", &(first.replayed, again.replayed), &(false, true))?;
    same("operation", &again.operation, &first.operation)?;
    let other = AddBalance { amount: "6".parse()?, ..credit };
    refused("the key with another amount", storage.add_balance(other).await, "Conflict")?;
    shows("balance", storage.get_balance(user).await?, "5.00")?;
    Ok(storage.close().await?)
}

async fn concurrent_debits(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = with_balance(&*storage, 1001, "10").await?;
    let one = "1".parse()?;
    let answers = at_once(50, |_| {
        let storage = storage.clone();
        async move { storage.subtract_balance(SubtractBalance::new(user, one)).await }
    })
    .await?;
    same("debits that succeeded", &answers.iter().filter(|answer| answer.is_ok()).count(), &10)?;
    for answer in answers.into_iter().filter(Result::is_err) {
        refused("a debit without money", answer, "InsufficientFunds")?;
    }
    shows("balance", storage.get_balance(user).await?, "0.00")?;
    Ok(storage.close().await?)
}

async fn hold_and_commit(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = with_balance(&*storage, 1001, "10").await?;
    storage.reserve_balance(ReserveBalance::new(user, "job-1".parse()?, "7.50".parse()?)).await?;
    shows("balance beside the hold", storage.get_balance(user).await?, "2.50")?;
    let commit = CommitReserve { amount: Some("5".parse()?), ..CommitReserve::new(user, "job-1".parse()?) };
    let receipt = storage.commit_reserve(commit.clone()).await?;
    shows("balance after the commit", receipt.balance_after, "5.00")?;
    same("a repeat is a replay", &storage.commit_reserve(commit).await?.replayed, &true)?;
    let release = storage.release_reserve(ReleaseReserve::new(user, "job-1".parse()?)).await;
    refused("a release after the commit", release, "InvalidTransition")?;
    shows("balance", storage.get_balance(user).await?, "5.00")?;
    Ok(storage.close().await?)
}

async fn hold_and_release(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = with_balance(&*storage, 1001, "10").await?;
    storage.reserve_balance(ReserveBalance::new(user, "job-1".parse()?, "10".parse()?)).await?;
    let release = ReleaseReserve::new(user, "job-1".parse()?);
    let answers = at_once(4, |_| {
        let (storage, release) = (storage.clone(), release.clone());
        async move { storage.release_reserve(release).await }
    })
    .await?;
    let mut first = 0;
    for answer in answers {
        first += u32::from(!answer?.replayed);
    }
    same("releases that moved money", &first, &1)?;
    shows("balance", storage.get_balance(user).await?, "10.00")?;
    let commit = storage.commit_reserve(CommitReserve::new(user, "job-1".parse()?)).await;
    refused("a commit after the release", commit, "InvalidTransition")?;
    Ok(storage.close().await?)
}

async fn expired_holds(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = with_balance(&*storage, 1001, "10").await?;
    let expiry = site.clock.now().plus_micros(60_000_000);
    let hold = ReserveBalance::new(user, "job-1".parse()?, "4".parse()?).expiring_at(expiry);
    storage.reserve_balance(hold).await?;
    same("swept too early", &storage.release_expired_reserves(PageSize::MAX).await?.len(), &0)?;
    site.clock.advance_secs(60);
    same("swept", &storage.release_expired_reserves(PageSize::MAX).await?.len(), &1)?;
    same("swept again", &storage.release_expired_reserves(PageSize::MAX).await?.len(), &0)?;
    let hold = storage.find_reserve(user, &"job-1".parse()?).await?;
    same("the hold", &hold.map(|hold| hold.status), &Some(HoldStatus::Released))?;
    shows("balance", storage.get_balance(user).await?, "10.00")?;
    Ok(storage.close().await?)
}

async fn pending_payment(storage: &dyn Storage, id: &str) -> Stored<UserId> {
    let user = user(1001)?;
    let add = AddPayment { payment: Some(id.parse()?), ..AddPayment::new(user, "100".parse()?, "card".parse()?) };
    storage.add_payment(add).await?;
    Ok(user)
}

async fn approve_once(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = pending_payment(&*storage, "p-1").await?;
    let approve = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved);
    let answers = at_once(50, |_| {
        let (storage, approve) = (storage.clone(), approve.clone());
        async move { storage.mark_payment_status(approve).await }
    })
    .await?;
    let mut first = 0;
    for answer in answers {
        first += u32::from(!answer?.replayed);
    }
    same("approvals that credited", &first, &1)?;
    shows("balance", storage.get_balance(user).await?, "100.00")?;
    Ok(storage.close().await?)
}

async fn rejected_payments(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = pending_payment(&*storage, "p-1").await?;
    storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Rejected)).await?;
    let approve = storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved)).await;
    refused("approving what was rejected", approve, "InvalidTransition")?;
    let approve = storage.mark_payment_status(MarkPaymentStatus::new("p-9".parse()?, PaymentStatus::Approved)).await;
    refused("approving what nobody knows", approve, "NotFound")?;
    shows("balance", storage.get_balance(user).await?, "0.00")?;
    Ok(storage.close().await?)
}

async fn refund(site: &Site) -> Check {
    let storage = site.open().await?;
    let user = pending_payment(&*storage, "p-1").await?;
    storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved)).await?;
    storage.subtract_balance(SubtractBalance::new(user, "1".parse()?)).await?;
    let short = storage.refund_payment(RefundPayment::new("p-1".parse()?)).await;
    refused("a refund of more than there is", short, "InsufficientFunds")?;
    storage.add_balance(AddBalance::new(user, "2".parse()?)).await?;
    same("first", &storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?.replayed, &false)?;
    same("again", &storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?.replayed, &true)?;
    shows("balance", storage.get_balance(user).await?, "1.00")?;
    Ok(storage.close().await?)
}

async fn quota(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let bonus = AddReferralBonus { count: BonusCount::new(1)?, ..AddReferralBonus::new(user) };
    storage.add_referral_bonus(bonus).await?;
    let answers = at_once(50, |_| {
        let storage = storage.clone();
        async move { storage.increment_free_generations(IncrementFreeGenerations::new(user)).await }
    })
    .await?;
    same("takes that succeeded", &answers.iter().filter(|answer| answer.is_ok()).count(), &6)?;
    for answer in answers.into_iter().filter(Result::is_err) {
        refused("a take of nothing", answer, "QuotaExhausted")?;
    }
    same("taken today", &storage.get_user_free_generations_today(user).await?, &5)?;
    Ok(storage.close().await?)
}

async fn midnight(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    storage.add_referral_bonus(AddReferralBonus::new(user)).await?;
    let take = IncrementFreeGenerations { user, key: Some("job-1".parse()?) };
    storage.increment_free_generations(take.clone()).await?;
    same("left", &storage.get_user_free_generations_remaining(user).await?, &9)?;
    let back = ReturnFreeGeneration { user, take: "job-1".parse()? };
    storage.return_free_generation(back.clone()).await?;
    same("a second return is a replay", &storage.return_free_generation(back).await?.replayed, &true)?;
    refused("the take again", storage.increment_free_generations(take).await, "InvalidTransition")?;
    storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?;
    site.clock.advance_secs(12 * 3600);
    same("left after midnight", &storage.get_user_free_generations_remaining(user).await?, &10)?;
    Ok(storage.close().await?)
}

async fn gift(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let answers = at_once(20, |_| {
        let storage = storage.clone();
        async move { storage.set_gift_claimed(SetGiftClaimed::new(user)).await }
    })
    .await?;
    let mut first = 0;
    for answer in answers {
        first += u32::from(answer?.first);
    }
    same("claims that were first", &first, &1)?;
    same("claimed", &storage.has_claimed_gift(user).await?, &true)?;
    Ok(storage.close().await?)
}

async fn referral_circle(site: &Site) -> Check {
    let storage = site.open().await?;
    let (one, two, three) = (user(1)?, user(2)?, user(3)?);
    let set = SetReferrer { bonus: Some(BonusCount::default()), ..SetReferrer::new(two, one) };
    same("first", &storage.set_referrer(set.clone()).await?.replayed, &false)?;
    same("again", &storage.set_referrer(set).await?.replayed, &true)?;
    storage.set_referrer(SetReferrer::new(three, two)).await?;
    refused("a circle", storage.set_referrer(SetReferrer::new(one, three)).await, "InvalidInput")?;
    refused("oneself", storage.set_referrer(SetReferrer::new(one, one)).await, "InvalidInput")?;
    refused("another referrer", storage.set_referrer(SetReferrer::new(three, one)).await, "Conflict")?;
    same("the bonus", &storage.get_user_free_generations_remaining(one).await?, &10)?;
    same("referrals", &storage.get_referrals(GetReferrals::of(one)).await?.items.len(), &1)?;
    Ok(storage.close().await?)
}

async fn job_lifecycle(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let (model_id, model_name, params, price) = order()?;
    let job = Some("job-1".parse()?);
    let add = AddGenerationJob { user, job, external_task_id: None, model_id, model_name, params, price, key: None };
    let job = storage.add_generation_job(add.clone()).await?.record;
    same("added again", &storage.add_generation_job(add.clone()).await?.replayed, &true)?;
    let other = AddGenerationJob { price: Money::ZERO, ..add.clone() };
    refused("the id with another price", storage.add_generation_job(other).await, "Conflict")?;
    let mut failed = UpdateJobStatus::new(job.id.clone(), JobStatus::Failed);
    failed.error_message = Some("the provider said no".parse()?);
    storage.update_job_status(UpdateJobStatus::new(job.id.clone(), JobStatus::Running)).await?;
    storage.update_job_status(failed).await?;
    let back = storage.update_job_status(UpdateJobStatus::new(job.id.clone(), JobStatus::Pending)).await;
    refused("a failed job to pending", back, "InvalidTransition")?;
    let unknown = storage.update_job_status(UpdateJobStatus::new("job-9".parse()?, JobStatus::Running)).await;
    refused("a job that nobody knows", unknown, "NotFound")?;
    let job = storage.get_job(&job.id).await?;
    same("params", &job.as_ref().map(|job| job.params.clone()), &Some(add.params))?;
    same("status", &job.map(|job| job.status), &Some(JobStatus::Failed))?;
    Ok(storage.close().await?)
}

async fn history_replay(site: &Site) -> Check {
    let (storage, user) = (site.open().await?, user(1001)?);
    let (model_id, model_name, params, price) = order()?;
    let result_urls = ResultUrls::new(["https://example.org/1.png"])?;
    let id = Some("job-1".parse()?);
    let add = AddGenerationToHistory { user, id, model_id, model_name, params, result_urls, price };
    storage.add_generation_to_history(add.clone()).await?;
    same("again", &storage.add_generation_to_history(add.clone()).await?.replayed, &true)?;
    let other = AddGenerationToHistory { price: Money::ZERO, ..add };
    refused("the id with another price", storage.add_generation_to_history(other).await, "Conflict")?;
    let list = storage.get_user_generations_history(GetUserGenerationsHistory::of(user)).await?;
    same("entries", &list.items.len(), &1)?;
    shows("spent", storage.get_admin_spent(user).await?, "7.50")?;
    Ok(storage.close().await?)
}

async fn two_handles(site: &Site) -> Check {
    let handles = [site.open().await?, site.open().await?];
    let user = user(1001)?;
    let one = "1".parse()?;
    let answers = at_once(40, |number| {
        let storage = if number % 2 == 0 { handles[0].clone() } else { handles[1].clone() };
        async move { storage.add_balance(AddBalance::new(user, one)).await }
    })
    .await?;
    for answer in answers {
        answer?;
    }
    for handle in &handles {
        shows("balance", handle.get_balance(user).await?, "40.00")?;
        handle.close().await?;
    }
    Ok(())
}

/// A little of everything.
async fn fill(storage: &SharedStorage) -> Stored<()> {
    let user = pending_payment(&**storage, "p-1").await?;
    storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved)).await?;
    storage.add_balance(AddBalance::new(user, "0.000001".parse()?).with_key("k-1".parse()?)).await?;
    storage.reserve_balance(ReserveBalance::new(user, "job-1".parse()?, "7.50".parse()?)).await?;
    storage.set_user_language(SetUserLanguage::new(user, "pt-br".parse()?)).await?;
    storage.set_gift_claimed(SetGiftClaimed::new(user)).await?;
    storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?;
    storage.set_referrer(SetReferrer::new(user, UserId::new(-7)?)).await?;
    let (model_id, model_name, params, price) = order()?;
    let (job, external_task_id) = (Some("job-1".parse()?), Some("task-1".parse()?));
    let add = AddGenerationJob { user, job, external_task_id, model_id, model_name, params, price, key: None };
    storage.add_generation_job(add).await?;
    let (model_id, model_name, params, price) = order()?;
    let (id, result_urls) = (Some("job-1".parse()?), ResultUrls::default());
    let add = AddGenerationToHistory { user, id, model_id, model_name, params, result_urls, price };
    storage.add_generation_to_history(add).await.map(|_| ())
}

async fn dumped(storage: &SharedStorage) -> Stored<Vec<u8>> {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await?;
    Ok(bytes)
}

async fn reopened(site: &Site) -> Check {
    let storage = site.open().await?;
    fill(&storage).await?;
    let before = dumped(&storage).await?;
    storage.close().await?;
    let storage = site.open().await?;
    same_bytes("the store after reopening", &before, &dumped(&storage).await?)?;
    let again = AddBalance::new(user(1001)?, "0.000001".parse()?).with_key("k-1".parse()?);
    same("a key used before", &storage.add_balance(again).await?.replayed, &true)?;
    Ok(storage.close().await?)
}

async fn dump_and_restore(site: &Site) -> Check {
    let storage = site.open().await?;
    fill(&storage).await?;
    let dump = dumped(&storage).await?;
    let occupied = storage.restore(&mut Cursor::new(dump.as_slice())).await;
    refused("restoring into a store that holds something", occupied, "Conflict")?;
    storage.close().await?;
    let beside = site.beside();
    let storage = beside.open().await?;
    let cut = dump.len() - 1;
    refused("a dump that was cut", storage.restore(&mut Cursor::new(&dump[..cut])).await, "Corrupt")?;
    storage.restore(&mut Cursor::new(dump.as_slice())).await?;
    same_bytes("the restored store", &dump, &dumped(&storage).await?)?;
    storage.close().await?;
    beside.audited().await
}

fn same_bytes(what: &str, before: &[u8], after: &[u8]) -> Check {
    if before == after {
        return Ok(());
    }
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let line = before.iter().zip(&after).position(|(before, after)| before != after);
    Err(Miss(format!("{what} differs from before, in line {} of the dump", line.map_or(before.len(), |at| at + 1))))
}

async fn closed(site: &Site) -> Check {
    let (one, two) = (site.open().await?, site.open().await?);
    let user = user(1001)?;
    one.close().await?;
    one.close().await?;
    refused("a read", one.get_balance(user).await, "Closed")?;
    refused("a write", one.add_balance(AddBalance::new(user, "1".parse()?)).await, "Closed")?;
    two.add_balance(AddBalance::new(user, "1".parse()?)).await?;
    shows("balance", two.get_balance(user).await?, "1.00")?;
    Ok(two.close().await?)
}
