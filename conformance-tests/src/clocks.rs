//! Clocks that go back, and the first day of all.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{
    AddBalance, AddPayment, AddReferralBonus, Generation, GetUserGenerationsHistory, IdSource, ImportOutcome,
    ImportRecord, IncrementFreeGenerations, JobStatus, ListJobs, ListPayments, ListReserves, OperationId, PageSize,
    QuotaSource, ReserveBalance, ReturnFreeGeneration, SequentialIds, SetGiftClaimed, SetReferrer, Storage,
    SubtractBalance, Timestamp, UpdateJobStatus, UserId,
};

use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::{Context, in_zone, keeping};
use crate::expect::{Expected, exhausted, refused, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{
    all_pages, balance, clean, credit, dump_text, generation, hold, order, pay, record, rows, together,
};

list_scenarios! {
    "clocks":
    a_clock_that_goes_back_and_forward_gives_no_quota_twice ["V11", "increment_free_generations", "W32"];
    a_take_behind_the_last_day_belongs_to_that_day ["V11", "return_free_generation"];
    a_day_that_was_imported_counts_like_one_taken_from ["V11", "M3"];
    the_moment_of_a_user_is_that_of_the_last_change ["V11", "R8"];
    each_call_draws_one_id_and_a_look_draws_none ["V11", "R8"];
    a_zone_behind_midnight_is_no_way_back ["V11"] needs [TimeZones];
    the_first_day_of_1970_is_a_day_like_others ["V9", "V11", "increment_free_generations"] needs [Reopen];
    a_day_before_1970_is_a_day_like_others ["V9", "V11"] needs [Reopen, TimeZones];
    a_user_without_a_day_has_none_after_reopening ["V9", "R5"] needs [Reopen];
    what_was_written_at_the_first_moment_is_listed_whole ["V9", "R11"];
    a_hold_that_expires_at_the_first_moment_is_released ["V9", "release_expired_reserves"];
    the_generation_just_recorded_stays_when_the_clock_went_back ["V12", "add_generation_to_history"];
    of_generations_of_one_moment_the_last_recorded_stays ["V12", "add_generation_to_history"];
    an_imported_generation_older_than_those_kept_goes ["V12", "M3"];
}

const DAY: i64 = 86_400;

/// How many were taken today, and how many are left.
async fn left(storage: &dyn Storage, user: UserId) -> Check<(u32, u64)> {
    let today = storage.get_user_free_generations_today(user).await?;
    Ok((today, storage.get_user_free_generations_remaining(user).await?))
}

async fn take(storage: &dyn Storage, user: UserId) -> Check<(QuotaSource, u64)> {
    let receipt = storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?;
    Ok((receipt.source, receipt.remaining_after))
}

fn day(date: &str) -> Check<QuotaSource> {
    Ok(QuotaSource::Day(date.parse()?))
}

/// The last one in the order of the ledger, whatever the clock said when it began. Many at once, so that a backend that gathers does.
async fn the_moment_of_a_user_is_that_of_the_last_change(context: Context) -> Check {
    let storage = context.open().await?;
    let start: Timestamp = "2026-01-15T10:00:00Z".parse()?;
    for round in 0..10 {
        let calls = together(64, |number| {
            let (storage, clock, alice) = (Arc::clone(&storage), Arc::clone(&context.clock), context.alice);
            async move {
                let back = i64::try_from(number).unwrap_or_default();
                clock.set(start.plus_micros(1_000_000 * (100 * round - back)));
                credit(&*storage, alice, "1").await
            }
        });
        for answer in calls.await? {
            answer?;
        }
        let user = present(storage.find_user(context.alice).await?, "the user")?;
        let newest = present(rows(&*storage, context.alice).await?.into_iter().max_by_key(|row| row.seq), "a row")?;
        ensure_eq!(user.updated_at, newest.at, "round {round}");
    }
    Ok(())
}

/// Counts what is drawn.
#[derive(Debug)]
struct Drawn(SequentialIds, AtomicU64);

impl IdSource for Drawn {
    fn next_id(&self) -> OperationId {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.next_id()
    }
}

async fn each_call_draws_one_id_and_a_look_draws_none(context: Context) -> Check {
    let drawn = Arc::new(Drawn(SequentialIds::lane(7_000), AtomicU64::new(0)));
    let storage = context.open_minting(Arc::<Drawn>::clone(&drawn)).await?;
    let (alice, bob) = (context.alice, context.bob);
    macro_rules! draws {
        ($count:literal, $what:literal, $call:expr) => {
            let before = drawn.1.load(Ordering::SeqCst);
            let answer = $call.await;
            ensure_eq!(drawn.1.load(Ordering::SeqCst) - before, $count, "{}: {:?}", $what, answer.is_ok());
        };
    }
    draws!(1, "a user's first call", storage.get_user(alice));
    draws!(0, "a look at a known user", storage.get_user(alice));
    draws!(0, "a read", storage.get_balance(alice));
    let add = AddBalance::new(alice, "5".parse()?).with_key("first".parse()?);
    draws!(1, "a credit", storage.add_balance(add.clone()));
    draws!(1, "its repetition", storage.add_balance(add));
    draws!(1, "a refusal", storage.subtract_balance(SubtractBalance::new(alice, "9".parse()?)));
    draws!(1, "a claim", storage.set_gift_claimed(SetGiftClaimed::new(alice)));
    draws!(1, "a payment without an id", storage.add_payment(AddPayment::new(alice, "5".parse()?, "card".parse()?)));
    draws!(0, "oneself as referrer", storage.set_referrer(SetReferrer::new(alice, alice)));
    draws!(1, "a referrer", storage.set_referrer(SetReferrer::new(alice, bob)));
    draws!(0, "the same referrer again", storage.set_referrer(SetReferrer::new(alice, bob)));
    draws!(0, "another referrer", storage.set_referrer(SetReferrer::new(alice, context.carol)));
    let keyed = SetReferrer { key: Some("again".parse()?), ..SetReferrer::new(alice, bob) };
    draws!(1, "the same referrer by a key", storage.set_referrer(keyed));
    let mut wrong = UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed);
    wrong.error_message = Some("no".parse()?);
    draws!(0, "a completed job with an error", storage.update_job_status(wrong));
    draws!(
        1,
        "a job that is not there",
        storage.update_job_status(UpdateJobStatus::new("job-1".parse()?, JobStatus::Failed))
    );
    let size = PageSize::DEFAULT;
    draws!(0, "a sweep of nothing", storage.release_expired_reserves(size));
    for name in ["one", "two"] {
        let expiring =
            ReserveBalance::new(alice, name.parse()?, "1".parse()?).expiring_at(context.now().plus_micros(1));
        storage.reserve_balance(expiring).await?;
    }
    context.clock.advance_secs(1);
    draws!(2, "a sweep of two holds", storage.release_expired_reserves(size));
    let nothing = |user| ImportRecord::Quota { user, date: None, used: 0, bank: 0 };
    draws!(3, "an import of three", storage.import_records(vec![nothing(alice), nothing(bob), nothing(context.carol)]));
    storage.close().await?;
    draws!(0, "a closed handle", storage.add_balance(AddBalance::new(alice, "1".parse()?)));
    Ok(())
}

async fn a_clock_that_goes_back_and_forward_gives_no_quota_twice(context: Context) -> Check {
    for back in [1, 2, 40, 20_000] {
        let context = context.elsewhere().await?;
        let storage = context.open().await?;
        let (alice, today) = (context.alice, day("2026-01-15")?);
        context.clock.set("2026-01-15T10:00:00Z".parse()?);
        for left_after in [4, 3, 2] {
            ensure_eq!(take(&*storage, alice).await?, (today, left_after));
        }
        context.clock.advance_secs(-back * DAY);
        ensure_eq!(left(&*storage, alice).await?, (3, 2), "{back} days back");
        ensure_eq!(take(&*storage, alice).await?, (today, 1), "{back} days back");
        ensure_eq!(left(&*storage, context.bob).await?, (0, 5), "who took nothing later has the whole day");
        context.clock.advance_secs(back * DAY);
        ensure_eq!(left(&*storage, alice).await?, (4, 1), "{back} days back and forward");
        ensure_eq!(take(&*storage, alice).await?, (today, 0));
        for step in [0, -back, back] {
            context.clock.advance_secs(step * DAY);
            let more = storage.increment_free_generations(IncrementFreeGenerations::new(alice));
            refused_without_trace!(storage, more, exhausted(5, 5));
        }
        // The bank is open whatever the clock says, and the next day comes.
        storage.add_referral_bonus(AddReferralBonus::new(alice)).await?;
        context.clock.advance_secs(-DAY);
        ensure_eq!(take(&*storage, alice).await?, (QuotaSource::Bank, 4));
        context.clock.advance_secs(2 * DAY);
        ensure_eq!(take(&*storage, alice).await?, (day("2026-01-16")?, 8));
    }
    Ok(())
}

async fn a_take_behind_the_last_day_belongs_to_that_day(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    take(&*storage, alice).await?;
    context.clock.advance_secs(-DAY);
    let keyed = IncrementFreeGenerations { user: alice, key: Some("job-1".parse()?) };
    let receipt = storage.increment_free_generations(keyed.clone()).await?;
    ensure_eq!((receipt.source, receipt.remaining_after), (day("2026-01-15")?, 3));
    ensure_eq!(storage.increment_free_generations(keyed).await?.replayed, true);
    let back = ReturnFreeGeneration { user: alice, take: "job-1".parse()? };
    let receipt = storage.return_free_generation(back).await?;
    ensure_eq!((receipt.source, receipt.remaining_after), (day("2026-01-15")?, 4));
    context.clock.advance_secs(DAY);
    ensure_eq!(left(&*storage, alice).await?, (1, 4));
    Ok(())
}

async fn a_day_that_was_imported_counts_like_one_taken_from(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, date) = (context.alice, Some("2026-01-16".parse()?));
    let tomorrow = ImportRecord::Quota { user: alice, date, used: 4, bank: 0 };
    ensure_eq!(storage.import_records(vec![tomorrow]).await?, [ImportOutcome::Added]);
    ensure_eq!(left(&*storage, alice).await?, (4, 1));
    ensure_eq!(take(&*storage, alice).await?, (day("2026-01-16")?, 0));
    context.clock.advance_secs(DAY);
    let more = storage.increment_free_generations(IncrementFreeGenerations::new(alice));
    refused_without_trace!(storage, more, exhausted(5, 5));
    Ok(())
}

async fn a_zone_behind_midnight_is_no_way_back(context: Context) -> Check {
    // Half an hour after midnight there the clock is set back by one hour.
    let storage = context.open_with(in_zone("Europe/Kyiv")?).await?;
    context.clock.set("2026-01-15T22:30:00Z".parse()?);
    for _ in 0..5 {
        take(&*storage, context.alice).await?;
    }
    context.clock.advance_secs(-3600);
    ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
    context.clock.advance_secs(3600);
    ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
    Ok(())
}

/// The same store opened anew, and a store that its dump was restored into.
async fn again(
    context: &Context,
    storage: Arc<dyn Storage>,
    policy: storage_core::Policy,
) -> Check<[Arc<dyn Storage>; 2]> {
    let before = dump_text(&*storage).await?;
    storage.close().await?;
    drop(storage);
    let reopened = context.open_with(policy.clone()).await?;
    ensure_eq!(dump_text(&*reopened).await?, before, "reopened");
    let restored = context.elsewhere().await?.open_with(policy).await?;
    restored.restore(&mut Cursor::new(before.as_bytes())).await?;
    ensure_eq!(dump_text(&*restored).await?, before, "restored");
    Ok([reopened, restored])
}

/// Alice takes all of a day, Bob gives back what he took, Carol has a bank and no day.
async fn a_day_is_like_others(context: &Context, policy: storage_core::Policy, date: &str) -> Check {
    let storage = context.open_with(policy.clone()).await?;
    for left_after in (0..5).rev() {
        ensure_eq!(take(&*storage, context.alice).await?, (day(date)?, left_after));
    }
    let keyed = IncrementFreeGenerations { user: context.bob, key: Some("job-1".parse()?) };
    storage.increment_free_generations(keyed).await?;
    storage.return_free_generation(ReturnFreeGeneration { user: context.bob, take: "job-1".parse()? }).await?;
    storage.add_referral_bonus(AddReferralBonus::new(context.carol)).await?;
    for storage in again(context, storage, policy).await? {
        ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
        let more = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice));
        refused_without_trace!(storage, more, exhausted(5, 5));
        ensure_eq!(left(&*storage, context.bob).await?, (0, 5));
        ensure_eq!(take(&*storage, context.carol).await?, (day(date)?, 9));
        context.clock.advance_secs(DAY);
        ensure_eq!(left(&*storage, context.alice).await?, (0, 5), "the next day");
        context.clock.advance_secs(-DAY);
        ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
    }
    Ok(())
}

async fn the_first_day_of_1970_is_a_day_like_others(context: Context) -> Check {
    context.clock.set(Timestamp::MIN);
    a_day_is_like_others(&context, storage_core::Policy::default(), "1970-01-01").await
}

async fn a_day_before_1970_is_a_day_like_others(context: Context) -> Check {
    // It is still the day before where the sun rises later.
    context.clock.set(Timestamp::MIN);
    a_day_is_like_others(&context, in_zone("America/New_York")?, "1969-12-31").await
}

async fn a_user_without_a_day_has_none_after_reopening(context: Context) -> Check {
    let storage = context.open().await?;
    storage.add_referral_bonus(AddReferralBonus::new(context.alice)).await?;
    for storage in again(&context, storage, storage_core::Policy::default()).await? {
        let dump = dump_text(&*storage).await?;
        ensure!(!dump.contains("quota_date"), "a day came from nowhere: {dump}");
        ensure_eq!(left(&*storage, context.alice).await?, (0, 10));
    }
    Ok(())
}

async fn what_was_written_at_the_first_moment_is_listed_whole(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    context.clock.set(Timestamp::MIN);
    credit(&*storage, alice, "10").await?;
    for id in ["a", "b", "c"] {
        record(&*storage, alice, id, "1").await?;
        order(&*storage, alice, id).await?;
        pay(&*storage, alice, id, "1").await?;
        hold(&*storage, alice, id, "1").await?;
    }
    for size in [1, 2, 3, 4] {
        let size = PageSize::new(size)?;
        let fetch = |page| storage.get_user_generations_history(GetUserGenerationsHistory { user: alice, page });
        let generations = all_pages(size, fetch).await?;
        let jobs = all_pages(size, |page| storage.list_jobs(ListJobs { page, ..ListJobs::default() })).await?;
        let fetch = |page| storage.list_payments(ListPayments { page, ..ListPayments::default() });
        let payments = all_pages(size, fetch).await?;
        let fetch = |page| storage.list_reserves(ListReserves { page, ..ListReserves::default() });
        let holds = all_pages(size, fetch).await?;
        ensure_eq!(generations.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
        ensure_eq!(jobs.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
        ensure_eq!(payments.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
        ensure_eq!(holds.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    }
    ensure_eq!(rows(&*storage, alice).await?.len(), 4);
    clean(&*storage).await
}

async fn a_hold_that_expires_at_the_first_moment_is_released(context: Context) -> Check {
    let storage = context.open().await?;
    context.clock.set(Timestamp::MIN);
    credit(&*storage, context.alice, "10").await?;
    let hold = ReserveBalance::new(context.alice, "job-1".parse()?, "4".parse()?).expiring_at(Timestamp::MIN);
    storage.reserve_balance(hold).await?;
    let released = storage.release_expired_reserves(PageSize::MAX).await?;
    ensure_eq!(released.iter().map(|hold| hold.name.as_str()).collect::<Vec<_>>(), ["job-1"]);
    ensure_eq!(balance(&*storage, context.alice).await?, "10.00");
    clean(&*storage).await
}

async fn history(storage: &dyn Storage, user: UserId) -> Check<Vec<String>> {
    let fetch = |page| storage.get_user_generations_history(GetUserGenerationsHistory { user, page });
    Ok(all_pages(PageSize::MAX, fetch).await?.iter().map(|entry| entry.id.to_string()).collect())
}

async fn the_generation_just_recorded_stays_when_the_clock_went_back(context: Context) -> Check {
    let storage = context.open_with(keeping(3)).await?;
    let alice = context.alice;
    for number in 1..=3 {
        record(&*storage, alice, &format!("g-{number}"), "1").await?;
        context.clock.advance_secs(1);
    }
    context.clock.advance_secs(-DAY);
    record(&*storage, alice, "back-1", "1").await?;
    ensure_eq!(history(&*storage, alice).await?, ["g-3", "g-2", "back-1"], "of the others the oldest goes");
    ensure_eq!(record(&*storage, alice, "back-1", "1").await?.replayed, true);
    context.clock.advance_secs(-1);
    record(&*storage, alice, "back-2", "1").await?;
    ensure_eq!(history(&*storage, alice).await?, ["g-3", "g-2", "back-2"]);
    context.clock.advance_secs(DAY + 60);
    record(&*storage, alice, "g-4", "1").await?;
    ensure_eq!(history(&*storage, alice).await?, ["g-4", "g-3", "g-2"], "and then the newest as ever");
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), "6.00");
    Ok(())
}

async fn of_generations_of_one_moment_the_last_recorded_stays(context: Context) -> Check {
    let storage = context.open_with(keeping(1)).await?;
    for id in ["b", "a", "c", "B"] {
        record(&*storage, context.alice, id, "1").await?;
        ensure_eq!(history(&*storage, context.alice).await?, [id]);
    }
    Ok(())
}

async fn an_imported_generation_older_than_those_kept_goes(context: Context) -> Check {
    let storage = context.open_with(keeping(2)).await?;
    let alice = context.alice;
    for id in ["g-1", "g-2"] {
        record(&*storage, alice, id, "1").await?;
        context.clock.advance_secs(1);
    }
    let add = generation(alice, "old", "7.50")?;
    let old = Generation {
        id: "old".parse()?,
        model_id: add.model_id,
        model_name: add.model_name,
        params: add.params,
        result_urls: add.result_urls,
        price: add.price,
        at: "2025-12-01T08:00:00Z".parse()?,
    };
    let import = vec![ImportRecord::Generation { user: alice, generation: old }];
    ensure_eq!(storage.import_records(import.clone()).await?, [ImportOutcome::Added]);
    ensure_eq!(history(&*storage, alice).await?, ["g-2", "g-1"]);
    ensure_eq!(storage.import_records(import).await?, [ImportOutcome::Same], "its id is used up");
    refused(
        storage.add_generation_to_history(generation(alice, "old", "1")?).await,
        &Expected::ConflictNaming("old".to_owned()),
    )
}
