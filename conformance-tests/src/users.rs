//! Users: who there is, which language they speak, whether they had their gift.

use storage_core::{Language, PageRequest, Policy, SetGiftClaimed, SetReferrer, SetUserLanguage};

use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::Context;
use crate::scenario::list_scenarios;
use crate::steps::{all_pages, clean, count, credit, debit, dump_text, hold, together};

list_scenarios! {
    "users":
    a_new_user_has_nothing_but_a_birthday ["get_user", "V12"];
    created_at_is_stored_and_not_invented_at_each_read ["W20", "get_user", "find_user"];
    getting_a_user_again_changes_nothing ["get_user"];
    fifty_first_calls_create_one_user ["get_user", "R4"];
    finding_a_user_creates_nothing ["find_user", "R1", "W19"];
    a_user_shows_balance_language_gift_and_referrer ["get_user", "find_user"];
    updated_at_moves_exactly_when_a_field_changes ["get_user"];
    held_money_spent_does_not_move_updated_at ["get_user", "commit_reserve"];
    users_are_listed_by_ascending_number ["list_users"];
    an_unknown_user_speaks_the_default_language ["get_user_language", "V12", "R1"];
    the_default_language_follows_the_policy ["get_user_language", "V12"];
    a_chosen_language_is_kept_as_written ["set_user_language", "get_user_language", "V7"];
    choosing_a_language_creates_the_user ["set_user_language", "W18", "R2"];
    choosing_the_same_language_again_changes_nothing ["set_user_language"];
    a_gift_is_claimed_once ["set_gift_claimed", "has_claimed_gift"];
    of_fifty_gift_claims_one_is_first ["set_gift_claimed", "W33", "R4"];
    claiming_a_gift_creates_the_user ["set_gift_claimed", "W18", "R2"];
    gifts_of_two_users_are_two_gifts ["set_gift_claimed"];
    a_group_is_a_user ["V1", "get_user"];
}

async fn a_new_user_has_nothing_but_a_birthday(context: Context) -> Check {
    let storage = context.open().await?;
    let user = storage.get_user(context.alice).await?;
    ensure_eq!(user.id, context.alice);
    ensure_eq!(user.balance.to_string(), "0.00");
    ensure_eq!(user.language.as_str(), "ru");
    ensure_eq!(user.gift_claimed, false);
    ensure_eq!(user.referrer, None);
    ensure_eq!(user.created_at, context.now());
    ensure_eq!(user.updated_at, context.now());
    ensure_eq!(dump_text(&*storage).await?.lines().count(), 3, "header, one account, footer");
    Ok(())
}

async fn created_at_is_stored_and_not_invented_at_each_read(context: Context) -> Check {
    let storage = context.open().await?;
    let born = context.now();
    storage.get_user(context.alice).await?;
    context.clock.advance_secs(3600);
    ensure_eq!(storage.get_user(context.alice).await?.created_at, born);
    let found = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((found.created_at, found.updated_at), (born, born));
    Ok(())
}

async fn getting_a_user_again_changes_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let first = storage.get_user(context.alice).await?;
    let before = dump_text(&*storage).await?;
    context.clock.advance_secs(60);
    ensure_eq!(storage.get_user(context.alice).await?, first);
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn fifty_first_calls_create_one_user(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { storage.get_user(user).await }
    })
    .await?;
    let found = present(storage.find_user(user).await?, "the user")?;
    for answer in answers {
        ensure_eq!(answer?, found);
    }
    ensure_eq!(storage.list_users(PageRequest::default()).await?.items.len(), 1);
    Ok(())
}

async fn finding_a_user_creates_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.find_user(context.alice).await?, None);
    ensure_eq!(storage.list_users(PageRequest::default()).await?.items.len(), 0);
    Ok(())
}

async fn a_user_shows_balance_language_gift_and_referrer(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob) = (context.alice, context.bob);
    credit(&*storage, alice, "12.5").await?;
    hold(&*storage, alice, "job-1", "2.50").await?;
    storage.set_user_language(SetUserLanguage::new(alice, "pt-br".parse()?)).await?;
    storage.set_gift_claimed(SetGiftClaimed::new(alice)).await?;
    storage.set_referrer(SetReferrer::new(alice, bob)).await?;
    let user = present(storage.find_user(alice).await?, "the user")?;
    ensure_eq!(user.balance.to_string(), "10.00", "held money is not in it");
    ensure_eq!(user.language.as_str(), "pt-br");
    ensure_eq!(user.gift_claimed, true);
    ensure_eq!(user.referrer, Some(bob));
    ensure_eq!(storage.get_user(alice).await?, user);
    ensure_eq!(storage.list_users(PageRequest::default()).await?.items.first(), Some(&user));
    Ok(())
}

async fn updated_at_moves_exactly_when_a_field_changes(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let born = storage.get_user(alice).await?.created_at;
    for change in 0..6 {
        context.clock.advance_secs(10);
        match change {
            0 => drop(credit(&*storage, alice, "10").await?),
            1 => drop(debit(&*storage, alice, "1").await?),
            2 => drop(hold(&*storage, alice, "job-1", "1").await?),
            3 => drop(storage.set_user_language(SetUserLanguage::new(alice, "en".parse()?)).await?),
            4 => drop(storage.set_gift_claimed(SetGiftClaimed::new(alice)).await?),
            _ => drop(storage.set_referrer(SetReferrer::new(alice, context.bob)).await?),
        }
        let moved = context.now();
        let user = present(storage.find_user(alice).await?, "the user")?;
        ensure_eq!((user.created_at, user.updated_at), (born, moved), "change {change}");
        context.clock.advance_secs(10);
        match change {
            0 => drop(storage.get_balance(alice).await?),
            1 => drop(storage.get_user(alice).await?),
            3 => drop(storage.set_user_language(SetUserLanguage::new(alice, "en".parse()?)).await?),
            4 => drop(storage.set_gift_claimed(SetGiftClaimed::new(alice)).await?),
            5 => drop(storage.set_referrer(SetReferrer::new(alice, context.bob)).await?),
            _ => {}
        }
        let user = present(storage.find_user(alice).await?, "the user")?;
        ensure_eq!(user.updated_at, moved, "nothing changed after change {change}");
    }
    Ok(())
}

async fn held_money_spent_does_not_move_updated_at(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    let moved = context.now();
    context.clock.advance_secs(10);
    storage.commit_reserve(storage_core::CommitReserve::new(alice, "job-1".parse()?)).await?;
    let user = present(storage.find_user(alice).await?, "the user")?;
    ensure_eq!((user.balance.to_string().as_str(), user.updated_at), ("6.00", moved));
    Ok(())
}

async fn users_are_listed_by_ascending_number(context: Context) -> Check {
    let storage = context.open().await?;
    let numbers = [10, 9, -1, i64::MAX, 100, i64::MIN, 2, -10];
    for number in numbers {
        storage.get_user(context.user(number)?).await?;
    }
    let users = all_pages("3".parse()?, |page| storage.list_users(page)).await?;
    let listed: Vec<i64> = users.iter().map(|user| user.id.get()).collect();
    ensure_eq!(listed, [i64::MIN, -10, -1, 2, 9, 10, 100, i64::MAX]);
    Ok(())
}

async fn an_unknown_user_speaks_the_default_language(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.get_user_language(context.alice).await?.as_str(), "ru");
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}

async fn the_default_language_follows_the_policy(context: Context) -> Check {
    let policy = Policy { default_language: "en".parse()?, ..Policy::default() };
    let storage = context.open_with(policy).await?;
    ensure_eq!(storage.get_user_language(context.alice).await?.as_str(), "en");
    ensure_eq!(storage.get_user(context.alice).await?.language.as_str(), "en");
    Ok(())
}

async fn a_chosen_language_is_kept_as_written(context: Context) -> Check {
    let storage = context.open().await?;
    for tag in ["uk", "pt-BR", "zh-Hant-TW", &"a".repeat(35)] {
        let acknowledged = storage.set_user_language(SetUserLanguage::new(context.alice, tag.parse()?)).await?;
        ensure_eq!(acknowledged.replayed, false);
        ensure_eq!(storage.get_user_language(context.alice).await?, tag.parse::<Language>()?);
        ensure_eq!(storage.get_user(context.alice).await?.language, tag.parse::<Language>()?);
    }
    Ok(())
}

async fn choosing_a_language_creates_the_user(context: Context) -> Check {
    let storage = context.open().await?;
    storage.set_user_language(SetUserLanguage::new(context.alice, "en".parse()?)).await?;
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.created_at, user.balance.to_string().as_str()), (context.now(), "0.00"));
    Ok(())
}

async fn choosing_the_same_language_again_changes_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    storage.set_user_language(SetUserLanguage::new(context.alice, "en".parse()?)).await?;
    let before = present(storage.find_user(context.alice).await?, "the user")?;
    context.clock.advance_secs(60);
    storage.set_user_language(SetUserLanguage::new(context.alice, "en".parse()?)).await?;
    ensure_eq!(present(storage.find_user(context.alice).await?, "the user")?, before);
    Ok(())
}

async fn a_gift_is_claimed_once(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.has_claimed_gift(context.alice).await?, false);
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    let first = storage.set_gift_claimed(SetGiftClaimed::new(context.alice)).await?;
    ensure_eq!((first.first, first.replayed), (true, false));
    ensure_eq!(storage.has_claimed_gift(context.alice).await?, true);
    for _ in 0..3 {
        ensure_eq!(storage.set_gift_claimed(SetGiftClaimed::new(context.alice)).await?.first, false);
    }
    Ok(())
}

async fn of_fifty_gift_claims_one_is_first(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { storage.set_gift_claimed(SetGiftClaimed::new(user)).await }
    })
    .await?;
    ensure!(answers.iter().all(Result::is_ok), "a claim failed: {answers:?}");
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|claim| claim.first)), 1);
    clean(&*storage).await
}

async fn claiming_a_gift_creates_the_user(context: Context) -> Check {
    let storage = context.open().await?;
    storage.set_gift_claimed(SetGiftClaimed::new(context.alice)).await?;
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.gift_claimed, user.created_at), (true, context.now()));
    Ok(())
}

async fn gifts_of_two_users_are_two_gifts(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.set_gift_claimed(SetGiftClaimed::new(context.alice)).await?.first, true);
    ensure_eq!(storage.has_claimed_gift(context.bob).await?, false);
    ensure_eq!(storage.set_gift_claimed(SetGiftClaimed::new(context.bob)).await?.first, true);
    Ok(())
}

async fn a_group_is_a_user(context: Context) -> Check {
    let storage = context.open().await?;
    for number in [i64::MIN, -1, 1, i64::MAX] {
        let user = context.user(number)?;
        credit(&*storage, user, "1").await?;
        ensure_eq!(storage.get_user(user).await?.id.get(), number);
    }
    clean(&*storage).await
}
