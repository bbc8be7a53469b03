//! Referrals: who brought whom.

use storage_core::{
    AddBalance, Amount, BonusCount, GetReferrals, ImportOutcome, ImportRecord, MAX_REFERRAL_CHAIN, PageSize, Referral,
    SetReferrer, Storage, UserId,
};

use crate::check::{Check, ensure, ensure_eq};
use crate::context::Context;
use crate::expect::{Expected, refused, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{all_pages, clean, count, dump_text, together};

list_scenarios! {
    "referrals":
    a_referrer_is_stored_with_its_time ["set_referrer", "get_referrer", "get_referrals"];
    both_users_are_created ["set_referrer", "R2", "W18"];
    the_same_referrer_again_is_a_replay ["set_referrer", "R6"];
    the_first_referrer_stays ["set_referrer"];
    nobody_brings_themselves ["W38", "set_referrer"];
    circles_of_any_length_are_refused ["W38", "set_referrer"];
    racing_calls_cannot_close_a_circle ["W38", "set_referrer", "R4"];
    of_two_racing_referrers_one_stays ["set_referrer", "R4"];
    a_chain_has_at_most_a_thousand_edges ["set_referrer"];
    joining_two_chains_counts_both ["set_referrer"];
    the_bonus_is_granted_once_and_at_once ["W39", "set_referrer", "R3"];
    a_refused_referrer_gets_no_bonus ["W39", "set_referrer"];
    fifty_equal_calls_grant_one_bonus ["W39", "set_referrer", "R4"];
    credits_beside_a_new_users_referrer_are_all_there ["set_referrer", "add_balance", "R4"];
    a_bonus_over_the_banks_limit_stores_nothing ["set_referrer", "R3"];
    a_list_of_referrals_is_never_stale ["W37", "get_referrals"];
    referrals_come_in_order_of_arrival ["get_referrals"];
    unknown_users_have_no_referrals ["get_referrer", "get_referrals", "R1"];
}

async fn link(storage: &dyn Storage, user: UserId, referrer: UserId) -> Check {
    ensure_eq!(storage.set_referrer(SetReferrer::new(user, referrer)).await?.replayed, false);
    Ok(())
}

async fn brought(storage: &dyn Storage, referrer: UserId) -> Check<Vec<i64>> {
    let rows = all_pages(PageSize::MAX, |page| storage.get_referrals(GetReferrals { referrer, page })).await?;
    Ok(rows.iter().map(|referral| referral.user.get()).collect())
}

async fn bank(storage: &dyn Storage, user: UserId) -> Check<u64> {
    Ok(storage.get_user_free_generations_remaining(user).await? - 5)
}

async fn a_referrer_is_stored_with_its_time(context: Context) -> Check {
    let storage = context.open().await?;
    let stored = storage.set_referrer(SetReferrer::new(context.alice, context.bob)).await?;
    let expected = Referral { user: context.alice, referrer: context.bob, since: context.now(), bonus: 0 };
    ensure_eq!((stored.replayed, &*stored.record), (false, &expected));
    context.clock.advance_secs(60);
    ensure_eq!(storage.get_referrer(context.alice).await?, Some(context.bob));
    ensure_eq!(storage.get_referrals(GetReferrals::of(context.bob)).await?.items, [stored.record]);
    ensure_eq!(bank(&*storage, context.bob).await?, 0, "no bonus was asked for");
    Ok(())
}

async fn both_users_are_created(context: Context) -> Check {
    let storage = context.open().await?;
    link(&*storage, context.alice, context.bob).await?;
    for user in [context.alice, context.bob] {
        ensure_eq!(storage.find_user(user).await?.map(|user| user.created_at), Some(context.now()));
    }
    Ok(())
}

async fn the_same_referrer_again_is_a_replay(context: Context) -> Check {
    let storage = context.open().await?;
    let first = storage.set_referrer(SetReferrer::new(context.alice, context.bob)).await?;
    context.clock.advance_secs(60);
    let before = dump_text(&*storage).await?;
    let again = storage.set_referrer(SetReferrer::new(context.alice, context.bob)).await?;
    ensure_eq!((again.replayed, again.record), (true, first.record));
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn the_first_referrer_stays(context: Context) -> Check {
    let storage = context.open().await?;
    link(&*storage, context.alice, context.bob).await?;
    let other = storage.set_referrer(SetReferrer::new(context.alice, context.carol));
    refused_without_trace!(storage, other, Expected::ConflictNaming(context.bob.to_string()));
    ensure_eq!(storage.get_referrer(context.alice).await?, Some(context.bob));
    ensure_eq!(storage.find_user(context.carol).await?, None, "a refusal created a user");
    Ok(())
}

async fn nobody_brings_themselves(context: Context) -> Check {
    let storage = context.open().await?;
    let oneself = storage.set_referrer(SetReferrer::new(context.alice, context.alice));
    refused_without_trace!(storage, oneself, Expected::Invalid("referrer"));
    ensure_eq!(storage.find_user(context.alice).await?, None);
    Ok(())
}

async fn circles_of_any_length_are_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for length in [2, 3, 10] {
        let user = |number: i64| context.user(length * 1000 + number);
        for number in 1..length {
            link(&*storage, user(number)?, user(number + 1)?).await?;
        }
        let closing = storage.set_referrer(SetReferrer::new(user(length)?, user(1)?));
        refused_without_trace!(storage, closing, Expected::Invalid("referrer"));
    }
    Ok(())
}

async fn racing_calls_cannot_close_a_circle(context: Context) -> Check {
    let storage = context.open().await?;
    for round in 1..=10 {
        // Each of four users names the next one: at most three can succeed.
        let answers = together(4, |number| {
            let storage = storage.clone();
            let user = context.numbered(round * 10, number);
            let next = context.numbered(round * 10, (number + 1) % 4);
            async move { Check::Ok(storage.set_referrer(SetReferrer::new(user?, next?)).await) }
        })
        .await?;
        let answers = answers.into_iter().collect::<Check<Vec<_>>>()?;
        ensure_eq!(count(&answers, Result::is_ok), 3, "round {round}: {answers:?}");
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, &Expected::Invalid("referrer"))?;
        }
    }
    Ok(())
}

async fn of_two_racing_referrers_one_stays(context: Context) -> Check {
    let storage = context.open().await?;
    for round in 1..=20 {
        let user = context.user(round)?;
        let pair = [context.bob, context.carol];
        let answers = together(2, |number| {
            let storage = storage.clone();
            async move { storage.set_referrer(SetReferrer::new(user, pair[number])).await }
        })
        .await?;
        ensure_eq!(count(&answers, Result::is_ok), 1);
        let winner = pair[usize::from(answers[0].is_err())];
        ensure_eq!(storage.get_referrer(user).await?, Some(winner));
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, &Expected::ConflictNaming(winner.to_string()))?;
        }
    }
    let all = [brought(&*storage, context.bob).await?, brought(&*storage, context.carol).await?].concat();
    ensure_eq!(all.len(), 20);
    Ok(())
}

/// The chain `first + edges -> ... -> first`. Nearly all of it by import, which is faster.
async fn chain(context: &Context, storage: &dyn Storage, first: i64, edges: i64) -> Check {
    let edge = |number| Check::Ok((context.user(first + number)?, context.user(first + number - 1)?));
    let mut imported = Vec::new();
    // Pairs first, then pairs of those: an edge is judged by the chains that it joins, and so most of them stay short.
    let mut numbers: Vec<i64> = (1..edges).collect();
    numbers.sort_by_key(|number| number.trailing_zeros());
    for number in numbers {
        let (user, referrer) = edge(number)?;
        imported.push(ImportRecord::Referral { user, referrer, since: None });
    }
    let expected = vec![ImportOutcome::Added; imported.len()];
    ensure_eq!(storage.import_records(imported).await?, expected);
    let (user, referrer) = edge(edges)?;
    link(storage, user, referrer).await
}

async fn a_chain_has_at_most_a_thousand_edges(context: Context) -> Check {
    let storage = context.open().await?;
    let longest = i64::try_from(MAX_REFERRAL_CHAIN).unwrap_or(i64::MAX);
    chain(&context, &*storage, 1, longest).await?;
    let too_long = storage.set_referrer(SetReferrer::new(context.user(longest + 2)?, context.user(longest + 1)?));
    refused_without_trace!(storage, too_long, Expected::Invalid("referrer"));
    let above = storage.set_referrer(SetReferrer::new(context.user(1)?, context.user(-1)?));
    refused_without_trace!(storage, above, Expected::Invalid("referrer"));
    link(&*storage, context.user(longest + 2)?, context.user(longest)?).await
}

async fn joining_two_chains_counts_both(context: Context) -> Check {
    let storage = context.open().await?;
    chain(&context, &*storage, 1, 500).await?;
    chain(&context, &*storage, 10_001, 500).await?;
    // 500 edges above, 500 below, and one between them: 1,001.
    let joined = storage.set_referrer(SetReferrer::new(context.user(10_001)?, context.user(501)?));
    refused_without_trace!(storage, joined, Expected::Invalid("referrer"));
    link(&*storage, context.user(10_001)?, context.user(500)?).await
}

fn with_bonus(user: UserId, referrer: UserId, bonus: u32) -> Check<SetReferrer> {
    Ok(SetReferrer { bonus: Some(BonusCount::new(bonus)?), ..SetReferrer::new(user, referrer) })
}

async fn the_bonus_is_granted_once_and_at_once(context: Context) -> Check {
    let storage = context.open().await?;
    let set = with_bonus(context.alice, context.bob, 7)?;
    let stored = storage.set_referrer(set.clone()).await?;
    ensure_eq!((stored.replayed, stored.record.bonus), (false, 7));
    ensure_eq!(bank(&*storage, context.bob).await?, 7);
    for _ in 0..3 {
        let again = storage.set_referrer(set.clone()).await?;
        ensure_eq!((again.replayed, again.record.bonus), (true, 7));
    }
    ensure_eq!(bank(&*storage, context.bob).await?, 7, "granted once");
    ensure_eq!(bank(&*storage, context.alice).await?, 0);
    storage.set_referrer(with_bonus(context.carol, context.bob, 5)?).await?;
    ensure_eq!(bank(&*storage, context.bob).await?, 12, "for another friend again");
    Ok(())
}

async fn a_refused_referrer_gets_no_bonus(context: Context) -> Check {
    let storage = context.open().await?;
    storage.set_referrer(with_bonus(context.alice, context.bob, 5)?).await?;
    let late = storage.set_referrer(with_bonus(context.alice, context.carol, 5)?);
    refused_without_trace!(storage, late, Expected::ConflictNaming(context.bob.to_string()));
    let circle = storage.set_referrer(with_bonus(context.bob, context.alice, 5)?);
    refused_without_trace!(storage, circle, Expected::Invalid("referrer"));
    ensure_eq!((bank(&*storage, context.carol).await?, bank(&*storage, context.alice).await?), (0, 0));
    Ok(())
}

async fn fifty_equal_calls_grant_one_bonus(context: Context) -> Check {
    let storage = context.open().await?;
    let set = with_bonus(context.alice, context.bob, 5)?;
    let answers = together(50, |_| {
        let (storage, set) = (storage.clone(), set.clone());
        async move { storage.set_referrer(set).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| stored.replayed)), 49);
    ensure_eq!(bank(&*storage, context.bob).await?, 5);
    Ok(())
}

/// The first calls of a user race with the user's creation: whoever sees the user must not undo what others add.
async fn credits_beside_a_new_users_referrer_are_all_there(context: Context) -> Check {
    let storage = context.open().await?;
    let one: Amount = "1".parse()?;
    for number in 1..=150 {
        let (user, referrer) = (context.numbered(5000, number)?, context.numbered(6000, number)?);
        // With a key, so that no look at what stands comes first, and the call meets the others in the middle of its work.
        let key = Some(format!("r-{number}").parse()?);
        let set = SetReferrer { key, ..SetReferrer::new(user, referrer) };
        let answers = together(7, |nth| {
            let (storage, set, clock) = (storage.clone(), set.clone(), context.clock.clone());
            async move {
                // No two at the same moment: what they write differs.
                clock.advance_secs(1);
                match nth {
                    0 => storage.set_referrer(set).await.map(drop),
                    1 => storage.add_balance(AddBalance::new(referrer, one)).await.map(drop),
                    _ => {
                        // Some come later than others, so that one meets each step of the call.
                        for _ in 0..(number + nth) % 5 {
                            storage.get_balance(user).await?;
                        }
                        storage.add_balance(AddBalance::new(user, one)).await.map(drop)
                    }
                }
            }
        })
        .await?;
        for answer in answers {
            answer?;
        }
        ensure_eq!(storage.get_balance(user).await?.to_string(), "5.00", "user {user}");
        ensure_eq!(storage.get_balance(referrer).await?.to_string(), "1.00", "referrer {referrer}");
    }
    clean(&*storage).await
}

async fn a_bonus_over_the_banks_limit_stores_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let bank = storage_core::MAX_BANK;
    let full = storage_core::ImportRecord::Quota { user: context.bob, date: None, used: 0, bank };
    storage.import_records(vec![full]).await?;
    let over = storage.set_referrer(with_bonus(context.alice, context.bob, 1)?);
    refused_without_trace!(storage, over, Expected::Invalid("bank"));
    ensure_eq!(storage.get_referrer(context.alice).await?, None);
    ensure_eq!(storage.find_user(context.alice).await?, None);
    Ok(())
}

async fn a_list_of_referrals_is_never_stale(context: Context) -> Check {
    let storage = context.open().await?;
    let mut expected = Vec::new();
    for number in 1..=20 {
        link(&*storage, context.user(number)?, context.bob).await?;
        expected.push(number);
        ensure_eq!(brought(&*storage, context.bob).await?, expected);
        ensure_eq!(storage.get_user(context.user(number)?).await?.referrer, Some(context.bob));
    }
    Ok(())
}

async fn referrals_come_in_order_of_arrival(context: Context) -> Check {
    let storage = context.open().await?;
    for (seconds, user) in [(0, 30), (0, 4), (0, -7), (10, 1), (-20, 9)] {
        context.clock.advance_secs(seconds);
        link(&*storage, context.user(user)?, context.bob).await?;
    }
    let expected = [9, -7, 4, 30, 1];
    ensure_eq!(brought(&*storage, context.bob).await?, expected);
    for size in [1, 2, 4, 5] {
        let referrer = context.bob;
        let fetch = |page| storage.get_referrals(GetReferrals { referrer, page });
        let rows = all_pages(PageSize::new(size)?, fetch).await?;
        ensure_eq!(rows.iter().map(|row| row.user.get()).collect::<Vec<_>>(), expected, "pages of {size}");
    }
    let two = storage_core::PageRequest::first(PageSize::new(2)?);
    let next = storage.get_referrals(GetReferrals { referrer: context.bob, page: two }).await?.next;
    ensure!(next.is_some(), "three more follow");
    let page = storage_core::PageRequest { size: PageSize::DEFAULT, after: next };
    let foreign = storage.get_referrals(GetReferrals { referrer: context.alice, page }).await;
    refused(foreign, &Expected::Invalid("cursor"))
}

async fn unknown_users_have_no_referrals(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.get_referrer(context.alice).await?, None);
    ensure_eq!(brought(&*storage, context.alice).await?, Vec::<i64>::new());
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}
