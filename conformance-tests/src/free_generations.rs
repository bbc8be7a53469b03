//! Free generations: a daily quota, and a bank that bonuses fill.

use storage_core::{
    AddReferralBonus, BonusCount, IncrementFreeGenerations, MAX_BANK, Policy, QuotaReceipt, QuotaSource,
    ReturnFreeGeneration, Storage, UserId,
};

use crate::check::{Check, Failure, ensure_eq};
use crate::context::{Context, in_zone};
use crate::expect::{Expected, exhausted, key_conflict, not_found, refused, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{clean, count, dump_text, together};

list_scenarios! {
    "free_generations":
    an_unknown_user_has_todays_quota ["get_user_free_generations_remaining", "get_user_free_generations_today", "R1"];
    the_quota_follows_the_policy ["V12", "get_user_free_generations_remaining"];
    quota_first_then_bank_then_exhausted ["increment_free_generations"];
    the_sixth_of_five_is_refused_and_leaves_nothing ["W32", "increment_free_generations"];
    a_bank_take_is_not_counted_as_todays ["get_user_free_generations_today"];
    fifty_takes_with_five_left_give_five ["W32", "increment_free_generations", "R4"];
    a_take_creates_the_user ["increment_free_generations", "R2", "W18"];
    the_quota_comes_back_at_midnight ["increment_free_generations", "V11"];
    the_bank_stays_over_midnight ["W34", "add_referral_bonus"];
    today_is_the_date_in_the_policys_zone ["W35", "V11"] needs [TimeZones];
    a_day_of_summer_time_is_one_day ["W35", "V11"] needs [TimeZones];
    a_clock_that_goes_back_gives_no_second_quota_of_a_later_day ["V11"];
    a_keyed_take_is_counted_once ["increment_free_generations", "R6"];
    a_take_is_given_back_once ["return_free_generation", "R6"];
    a_bank_take_goes_back_to_the_bank ["return_free_generation"];
    a_full_bank_refuses_what_is_given_back_until_there_is_room ["return_free_generation", "R6", "R8"];
    a_take_of_yesterday_changes_nothing_today ["return_free_generation"];
    the_key_of_a_returned_take_is_used_up_for_good ["return_free_generation", "increment_free_generations"];
    returning_an_unknown_take_is_not_found ["return_free_generation"];
    returning_another_operations_key_is_a_conflict ["return_free_generation", "R6"];
    ten_returns_at_once_give_back_one ["return_free_generation", "R4"];
    a_bonus_fills_the_bank ["add_referral_bonus"];
    a_bonus_is_five_unless_said_otherwise ["add_referral_bonus"];
    a_keyed_bonus_is_granted_once ["add_referral_bonus", "W39", "R6"];
    the_first_bonuses_of_a_user_at_once_are_all_there ["add_referral_bonus", "R4", "R2"];
    a_bank_has_a_limit ["add_referral_bonus", "V2"];
    zero_free_generations_a_day_leaves_the_bank ["V12", "increment_free_generations"];
}

async fn left(storage: &dyn Storage, user: UserId) -> Check<(u32, u64)> {
    let today = storage.get_user_free_generations_today(user).await?;
    Ok((today, storage.get_user_free_generations_remaining(user).await?))
}

async fn take(storage: &dyn Storage, user: UserId) -> Check<QuotaReceipt> {
    Ok(storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?)
}

fn keyed(user: UserId, key: &str) -> Check<IncrementFreeGenerations> {
    Ok(IncrementFreeGenerations { user, key: Some(key.parse()?) })
}

fn give_back(user: UserId, key: &str) -> Check<ReturnFreeGeneration> {
    Ok(ReturnFreeGeneration { user, take: key.parse()? })
}

async fn bonus(storage: &dyn Storage, user: UserId, count: u32) -> Check<QuotaReceipt> {
    let bonus = AddReferralBonus { count: BonusCount::new(count)?, ..AddReferralBonus::new(user) };
    Ok(storage.add_referral_bonus(bonus).await?)
}

fn day(date: &str) -> Check<QuotaSource> {
    Ok(QuotaSource::Day(date.parse()?))
}

/// The first calls of a user race with the user's creation: whoever sees the user must not undo what others add.
async fn the_first_bonuses_of_a_user_at_once_are_all_there(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 1..=60 {
        let user = context.numbered(5000, number)?;
        let answers = together(12, |_| {
            let storage = storage.clone();
            async move { storage.add_referral_bonus(AddReferralBonus::new(user)).await }
        })
        .await?;
        let mut after = Vec::new();
        for answer in answers {
            after.push(answer?.remaining_after);
        }
        after.sort_unstable();
        ensure_eq!(after, (1..=12).map(|grants| 5 + 5 * grants).collect::<Vec<u64>>(), "each answers what it made");
        ensure_eq!(left(&*storage, user).await?, (0, 65), "user {user}");
    }
    clean(&*storage).await
}

async fn an_unknown_user_has_todays_quota(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(left(&*storage, context.alice).await?, (0, 5));
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}

async fn the_quota_follows_the_policy(context: Context) -> Check {
    let storage = context.open_with(Policy { daily_free_generations: 2, ..Policy::default() }).await?;
    ensure_eq!(left(&*storage, context.alice).await?, (0, 2));
    take(&*storage, context.alice).await?;
    take(&*storage, context.alice).await?;
    let third = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice));
    refused_without_trace!(storage, third, exhausted(2, 2));
    Ok(())
}

async fn quota_first_then_bank_then_exhausted(context: Context) -> Check {
    let storage = context.open().await?;
    bonus(&*storage, context.alice, 2).await?;
    for (left, source) in (0..7).rev().zip([day("2026-01-15")?; 5].into_iter().chain([QuotaSource::Bank; 2])) {
        let receipt = take(&*storage, context.alice).await?;
        ensure_eq!((receipt.source, receipt.remaining_after, receipt.replayed), (source, left, false));
    }
    let eighth = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice));
    refused_without_trace!(storage, eighth, exhausted(5, 5));
    Ok(())
}

async fn the_sixth_of_five_is_refused_and_leaves_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    for _ in 0..5 {
        take(&*storage, context.alice).await?;
    }
    let sixth = storage.increment_free_generations(keyed(context.alice, "job-6")?);
    refused_without_trace!(storage, sixth, exhausted(5, 5));
    ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
    bonus(&*storage, context.alice, 1).await?;
    let receipt = storage.increment_free_generations(keyed(context.alice, "job-6")?).await?;
    ensure_eq!((receipt.source, receipt.replayed), (QuotaSource::Bank, false), "a refusal is judged anew");
    Ok(())
}

async fn a_bank_take_is_not_counted_as_todays(context: Context) -> Check {
    let storage = context.open().await?;
    bonus(&*storage, context.alice, 3).await?;
    for _ in 0..7 {
        take(&*storage, context.alice).await?;
    }
    ensure_eq!(left(&*storage, context.alice).await?, (5, 1));
    Ok(())
}

async fn fifty_takes_with_five_left_give_five(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { storage.increment_free_generations(IncrementFreeGenerations::new(alice)).await }
    })
    .await?;
    let mut after: Vec<u64> = answers.iter().flatten().map(|receipt| receipt.remaining_after).collect();
    after.sort_unstable();
    ensure_eq!(after, [0, 1, 2, 3, 4]);
    for refusal in answers.into_iter().filter(Result::is_err) {
        refused(refusal, &exhausted(5, 5))?;
    }
    ensure_eq!(left(&*storage, alice).await?, (5, 0));
    Ok(())
}

async fn a_take_creates_the_user(context: Context) -> Check {
    let storage = context.open().await?;
    take(&*storage, context.alice).await?;
    ensure_eq!(storage.find_user(context.alice).await?.map(|user| user.created_at), Some(context.now()));
    Ok(())
}

async fn the_quota_comes_back_at_midnight(context: Context) -> Check {
    let storage = context.open().await?;
    context.clock.set("2026-01-15T23:59:59.999999Z".parse()?);
    for _ in 0..5 {
        take(&*storage, context.alice).await?;
    }
    ensure_eq!(left(&*storage, context.alice).await?, (5, 0));
    context.clock.advance_micros(1);
    ensure_eq!(left(&*storage, context.alice).await?, (0, 5));
    let receipt = take(&*storage, context.alice).await?;
    ensure_eq!((receipt.source, receipt.remaining_after), (day("2026-01-16")?, 4));
    Ok(())
}

async fn the_bank_stays_over_midnight(context: Context) -> Check {
    let storage = context.open().await?;
    bonus(&*storage, context.alice, 5).await?;
    for _ in 0..7 {
        take(&*storage, context.alice).await?;
    }
    ensure_eq!(left(&*storage, context.alice).await?, (5, 3));
    context.clock.advance_secs(86_400);
    ensure_eq!(left(&*storage, context.alice).await?, (0, 8), "3 of the bank are left, once");
    for _ in 0..8 {
        take(&*storage, context.alice).await?;
    }
    context.clock.advance_secs(86_400);
    ensure_eq!(left(&*storage, context.alice).await?, (0, 5), "the bank does not come back");
    Ok(())
}

async fn today_is_the_date_in_the_policys_zone(context: Context) -> Check {
    // When the day ends there, in UTC.
    for (zone, midnight, date) in [
        ("Europe/Kyiv", "2026-01-15T22:00:00Z", "2026-01-16"),
        ("America/New_York", "2026-01-16T05:00:00Z", "2026-01-16"),
        ("Asia/Kolkata", "2026-01-15T18:30:00Z", "2026-01-16"),
        ("Pacific/Kiritimati", "2026-01-15T10:00:00Z", "2026-01-16"),
        ("Pacific/Pago_Pago", "2026-01-15T11:00:00Z", "2026-01-15"),
    ] {
        let context = context.elsewhere().await?;
        let storage = context.open_with(in_zone(zone)?).await?;
        context.clock.set(midnight.parse()?);
        context.clock.advance_micros(-1);
        for _ in 0..5 {
            take(&*storage, context.alice).await?;
        }
        ensure_eq!(left(&*storage, context.alice).await?, (5, 0), "{zone}");
        context.clock.advance_micros(1);
        ensure_eq!(left(&*storage, context.alice).await?, (0, 5), "{zone}");
        ensure_eq!(take(&*storage, context.alice).await?.source, day(date)?, "{zone}");
    }
    Ok(())
}

async fn a_day_of_summer_time_is_one_day(context: Context) -> Check {
    // 2026-03-29 has 23 hours in Berlin, 2026-10-25 has 25.
    for (start, hours) in [("2026-03-28T23:00:00Z", 23), ("2026-10-24T22:00:00Z", 25)] {
        let context = context.elsewhere().await?;
        let storage = context.open_with(in_zone("Europe/Berlin")?).await?;
        context.clock.set(start.parse()?);
        take(&*storage, context.alice).await?;
        context.clock.advance_micros(hours * 3_600_000_000 - 1);
        ensure_eq!(left(&*storage, context.alice).await?, (1, 4), "{start}");
        context.clock.advance_micros(1);
        ensure_eq!(left(&*storage, context.alice).await?, (0, 5), "{start}");
    }
    Ok(())
}

async fn a_clock_that_goes_back_gives_no_second_quota_of_a_later_day(context: Context) -> Check {
    let storage = context.open().await?;
    for _ in 0..5 {
        take(&*storage, context.alice).await?;
    }
    context.clock.advance_secs(-3600);
    ensure_eq!(left(&*storage, context.alice).await?, (5, 0), "the same day");
    context.clock.advance_secs(3600);
    let sixth = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice));
    refused_without_trace!(storage, sixth, exhausted(5, 5));
    Ok(())
}

async fn a_keyed_take_is_counted_once(context: Context) -> Check {
    let storage = context.open().await?;
    let first = storage.increment_free_generations(keyed(context.alice, "job-1")?).await?;
    take(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    let again = storage.increment_free_generations(keyed(context.alice, "job-1")?).await?;
    ensure_eq!(again, QuotaReceipt { replayed: true, ..first }, "the first receipt, not today's count");
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(left(&*storage, context.alice).await?, (2, 3));
    Ok(())
}

async fn a_take_is_given_back_once(context: Context) -> Check {
    let storage = context.open().await?;
    storage.increment_free_generations(keyed(context.alice, "job-1")?).await?;
    take(&*storage, context.alice).await?;
    let first = storage.return_free_generation(give_back(context.alice, "job-1")?).await?;
    ensure_eq!((first.source, first.remaining_after, first.replayed), (day("2026-01-15")?, 4, false));
    ensure_eq!(left(&*storage, context.alice).await?, (1, 4));
    take(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    let again = storage.return_free_generation(give_back(context.alice, "job-1")?).await?;
    ensure_eq!(again, QuotaReceipt { replayed: true, ..first });
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_bank_take_goes_back_to_the_bank(context: Context) -> Check {
    let storage = context.open().await?;
    bonus(&*storage, context.alice, 1).await?;
    for _ in 0..5 {
        take(&*storage, context.alice).await?;
    }
    storage.increment_free_generations(keyed(context.alice, "job-6")?).await?;
    context.clock.advance_secs(86_400);
    let receipt = storage.return_free_generation(give_back(context.alice, "job-6")?).await?;
    ensure_eq!((receipt.source, receipt.remaining_after), (QuotaSource::Bank, 6));
    ensure_eq!(left(&*storage, context.alice).await?, (0, 6));
    Ok(())
}

async fn a_full_bank_refuses_what_is_given_back_until_there_is_room(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, date) = (context.alice, Some("2026-01-15".parse()?));
    let full = storage_core::ImportRecord::Quota { user: alice, date, used: 5, bank: MAX_BANK };
    ensure_eq!(storage.import_records(vec![full]).await?, vec![storage_core::ImportOutcome::Added]);
    storage.increment_free_generations(keyed(alice, "job-1")?).await?;
    bonus(&*storage, alice, 1).await?;
    ensure_eq!(left(&*storage, alice).await?, (5, MAX_BANK));
    let back = storage.return_free_generation(give_back(alice, "job-1")?);
    refused_without_trace!(storage, back, Expected::Invalid("bank"));
    let again = storage.increment_free_generations(keyed(alice, "job-1")?).await?;
    ensure_eq!(again.replayed, true, "the take stands");
    take(&*storage, alice).await?;
    let receipt = storage.return_free_generation(give_back(alice, "job-1")?).await?;
    ensure_eq!((receipt.source, receipt.remaining_after, receipt.replayed), (QuotaSource::Bank, MAX_BANK, false));
    clean(&*storage).await
}

async fn a_take_of_yesterday_changes_nothing_today(context: Context) -> Check {
    let storage = context.open().await?;
    storage.increment_free_generations(keyed(context.alice, "job-1")?).await?;
    context.clock.advance_secs(86_400);
    take(&*storage, context.alice).await?;
    let receipt = storage.return_free_generation(give_back(context.alice, "job-1")?).await?;
    ensure_eq!((receipt.source, receipt.remaining_after), (day("2026-01-15")?, 4));
    ensure_eq!(left(&*storage, context.alice).await?, (1, 4));
    Ok(())
}

async fn the_key_of_a_returned_take_is_used_up_for_good(context: Context) -> Check {
    let storage = context.open().await?;
    storage.increment_free_generations(keyed(context.alice, "job-1")?).await?;
    storage.return_free_generation(give_back(context.alice, "job-1")?).await?;
    for _ in 0..2 {
        let again = storage.increment_free_generations(keyed(context.alice, "job-1")?);
        refused_without_trace!(storage, again, Expected::Kind("InvalidTransition"));
        context.clock.advance_secs(86_400);
    }
    storage.increment_free_generations(keyed(context.bob, "job-1")?).await?;
    Ok(())
}

async fn returning_an_unknown_take_is_not_found(context: Context) -> Check {
    let storage = context.open().await?;
    let unknown = not_found("operation key", "job-1");
    refused_without_trace!(storage, storage.return_free_generation(give_back(context.alice, "job-1")?), unknown);
    storage.increment_free_generations(keyed(context.bob, "job-1")?).await?;
    refused_without_trace!(storage, storage.return_free_generation(give_back(context.alice, "job-1")?), unknown);
    ensure_eq!(storage.find_user(context.alice).await?, None);
    Ok(())
}

async fn returning_another_operations_key_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    let bonus = AddReferralBonus { key: Some("key-1".parse()?), ..AddReferralBonus::new(context.alice) };
    storage.add_referral_bonus(bonus).await?;
    let back = storage.return_free_generation(give_back(context.alice, "key-1")?);
    refused_without_trace!(storage, back, key_conflict("key-1"));
    Ok(())
}

async fn ten_returns_at_once_give_back_one(context: Context) -> Check {
    let storage = context.open().await?;
    for key in ["job-1", "job-2", "job-3"] {
        storage.increment_free_generations(keyed(context.alice, key)?).await?;
    }
    let back = give_back(context.alice, "job-2")?;
    let answers = together(10, |_| {
        let (storage, back) = (storage.clone(), back.clone());
        async move { storage.return_free_generation(back).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 1);
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| receipt.replayed)), 9);
    ensure_eq!(left(&*storage, context.alice).await?, (2, 3));
    Ok(())
}

async fn a_bonus_fills_the_bank(context: Context) -> Check {
    let storage = context.open().await?;
    let receipt = bonus(&*storage, context.alice, 7).await?;
    ensure_eq!((receipt.source, receipt.remaining_after, receipt.replayed), (QuotaSource::Bank, 12, false));
    ensure_eq!(left(&*storage, context.alice).await?, (0, 12));
    ensure_eq!(bonus(&*storage, context.alice, 1_000_000).await?.remaining_after, 1_000_012);
    clean(&*storage).await
}

async fn a_bonus_is_five_unless_said_otherwise(context: Context) -> Check {
    let storage = context.open().await?;
    storage.add_referral_bonus(AddReferralBonus::new(context.alice)).await?;
    ensure_eq!(left(&*storage, context.alice).await?, (0, 10));
    Ok(())
}

async fn a_keyed_bonus_is_granted_once(context: Context) -> Check {
    let storage = context.open().await?;
    let bonus = AddReferralBonus { key: Some("friend-1002".parse()?), ..AddReferralBonus::new(context.alice) };
    let first = storage.add_referral_bonus(bonus.clone()).await?;
    take(&*storage, context.alice).await?;
    let again = storage.add_referral_bonus(bonus.clone()).await?;
    ensure_eq!(again, QuotaReceipt { replayed: true, ..first });
    ensure_eq!(left(&*storage, context.alice).await?, (1, 9));
    let other = AddReferralBonus { count: BonusCount::new(6)?, ..bonus };
    refused_without_trace!(storage, storage.add_referral_bonus(other), key_conflict("friend-1002"));
    Ok(())
}

async fn a_bank_has_a_limit(context: Context) -> Check {
    let storage = context.open().await?;
    let full = storage_core::ImportRecord::Quota { user: context.alice, date: None, used: 0, bank: MAX_BANK - 1 };
    ensure_eq!(storage.import_records(vec![full]).await?, [storage_core::ImportOutcome::Added]);
    ensure_eq!(bonus(&*storage, context.alice, 1).await?.remaining_after, MAX_BANK + 5);
    let one_more = AddReferralBonus { count: BonusCount::new(1)?, ..AddReferralBonus::new(context.alice) };
    refused_without_trace!(storage, storage.add_referral_bonus(one_more), Expected::Invalid("bank"));
    Ok(())
}

async fn zero_free_generations_a_day_leaves_the_bank(context: Context) -> Check {
    let storage = context.open_with(Policy { daily_free_generations: 0, ..Policy::default() }).await?;
    let none = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice));
    refused_without_trace!(storage, none, exhausted(0, 0));
    bonus(&*storage, context.alice, 1).await?;
    ensure_eq!(take(&*storage, context.alice).await?.source, QuotaSource::Bank);
    ensure_eq!(left(&*storage, context.alice).await?, (0, 0));
    match storage.increment_free_generations(IncrementFreeGenerations::new(context.alice)).await {
        Err(error) if *error.kind() == (storage_core::ErrorKind::QuotaExhausted { used: 0, limit: 0 }) => Ok(()),
        other => Err(Failure::new(format!("{other:?}"))),
    }
}
