//! The history of delivered generations.

use std::io::Cursor;
use std::sync::Arc;

use storage_core::{
    AddGenerationToHistory, Generation, GenerationId, GetUserGenerationsHistory, HistoryRetention, OperationId,
    PageRequest, PageSize, Params, Policy, ResultUrls, Storage, UserId,
};

use crate::check::{Check, ensure, ensure_eq};
use crate::context::{Context, keeping};
use crate::expect::{Expected, refused, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{all_different, all_pages, count, dump_text, generation, record, together};

list_scenarios! {
    "history":
    a_generation_is_kept_whole ["add_generation_to_history", "get_user_generations_history", "W28"];
    recording_creates_the_user ["add_generation_to_history", "R2", "W18"];
    an_unknown_users_history_is_empty ["get_user_generations_history", "R1"];
    the_newest_comes_first_and_ties_go_by_bytes ["W27", "get_user_generations_history", "R11"];
    the_same_id_again_is_recorded_once ["W30", "add_generation_to_history", "R6"];
    the_same_id_with_other_arguments_is_a_conflict ["W30", "add_generation_to_history"];
    ids_belong_to_one_user ["add_generation_to_history"];
    a_generation_without_id_gets_a_minted_one ["add_generation_to_history", "V11"];
    the_newest_hundred_are_kept ["V12", "add_generation_to_history"];
    retention_follows_the_policy_for_each_user ["V12", "add_generation_to_history"];
    everything_can_be_kept ["V12", "add_generation_to_history"];
    what_was_spent_has_a_limit ["add_generation_to_history", "get_admin_spent", "V2", "R8"];
    ids_outlive_the_trimming ["W30", "add_generation_to_history"];
    a_page_of_zero_cannot_be_asked_for_and_ten_is_the_default ["W29", "V10", "get_user_generations_history"];
    long_params_come_back_whole ["W31", "V8", "get_user_generations_history"];
    the_same_generation_fifty_times_at_once_is_recorded_once ["W30", "W36", "R4"];
    a_history_is_paged_without_gap_or_repeat ["get_user_generations_history", "R11"];
}

async fn history(storage: &dyn Storage, user: UserId) -> Check<Vec<Arc<Generation>>> {
    all_pages(PageSize::MAX, |page| storage.get_user_generations_history(GetUserGenerationsHistory { user, page }))
        .await
}

async fn ids(storage: &dyn Storage, user: UserId) -> Check<Vec<String>> {
    Ok(history(storage, user).await?.iter().map(|generation| generation.id.to_string()).collect())
}

async fn a_generation_is_kept_whole(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddGenerationToHistory {
        model_id: "z image/v2\n".parse()?,
        model_name: "Зет 🐈".parse()?,
        result_urls: ResultUrls::new(["https://example.org/1.png?a=b&c=\"d\"", "https://example.org/2.png"])?,
        ..generation(context.alice, "g-1", "7.123456")?
    };
    let receipt = storage.add_generation_to_history(add.clone()).await?;
    ensure_eq!((receipt.id.as_str(), receipt.replayed), ("g-1", false));
    let expected = Generation {
        id: "g-1".parse()?,
        model_id: add.model_id,
        model_name: add.model_name,
        params: add.params,
        result_urls: add.result_urls,
        price: add.price,
        at: context.now(),
    };
    context.clock.advance_secs(60);
    ensure_eq!(history(&*storage, context.alice).await?, [Arc::new(expected)]);
    Ok(())
}

async fn recording_creates_the_user(context: Context) -> Check {
    let storage = context.open().await?;
    record(&*storage, context.alice, "g-1", "0").await?;
    ensure_eq!(storage.find_user(context.alice).await?.map(|user| user.created_at), Some(context.now()));
    Ok(())
}

async fn an_unknown_users_history_is_empty(context: Context) -> Check {
    let storage = context.open().await?;
    let page = storage.get_user_generations_history(GetUserGenerationsHistory::of(context.alice)).await?;
    ensure_eq!((page.items.len(), page.next), (0, None));
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}

async fn the_newest_comes_first_and_ties_go_by_bytes(context: Context) -> Check {
    let storage = context.open().await?;
    for id in ["g-2", "g-10", "g-1"] {
        record(&*storage, context.alice, id, "1").await?;
    }
    context.clock.advance_micros(1);
    for id in ["a", "B", "é", "z"] {
        record(&*storage, context.alice, id, "1").await?;
    }
    context.clock.advance_secs(-60);
    record(&*storage, context.alice, "older", "1").await?;
    ensure_eq!(ids(&*storage, context.alice).await?, ["é", "z", "a", "B", "g-2", "g-10", "g-1", "older"]);
    Ok(())
}

async fn the_same_id_again_is_recorded_once(context: Context) -> Check {
    let storage = context.open().await?;
    record(&*storage, context.alice, "g-1", "7.50").await?;
    context.clock.advance_secs(60);
    let before = dump_text(&*storage).await?;
    let again = record(&*storage, context.alice, "g-1", "7.50").await?;
    ensure_eq!((again.id.as_str(), again.replayed), ("g-1", true));
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "7.50");
    Ok(())
}

async fn the_same_id_with_other_arguments_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    record(&*storage, context.alice, "g-1", "7.50").await?;
    let base = || generation(context.alice, "g-1", "7.50");
    for other in [
        AddGenerationToHistory { price: "7.51".parse()?, ..base()? },
        AddGenerationToHistory { model_id: "other".parse()?, ..base()? },
        AddGenerationToHistory { model_name: "Other".parse()?, ..base()? },
        AddGenerationToHistory { params: Params::from_json("[]")?, ..base()? },
        AddGenerationToHistory { result_urls: ResultUrls::default(), ..base()? },
    ] {
        let call = storage.add_generation_to_history(other);
        refused_without_trace!(storage, call, Expected::ConflictNaming("g-1".to_owned()));
    }
    Ok(())
}

async fn ids_belong_to_one_user(context: Context) -> Check {
    let storage = context.open().await?;
    record(&*storage, context.alice, "g-1", "1").await?;
    ensure_eq!(record(&*storage, context.bob, "g-1", "2").await?.replayed, false);
    ensure_eq!(history(&*storage, context.alice).await?[0].price, "1".parse()?);
    ensure_eq!(history(&*storage, context.bob).await?[0].price, "2".parse()?);
    Ok(())
}

async fn a_generation_without_id_gets_a_minted_one(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddGenerationToHistory { id: None, ..generation(context.alice, "unused", "1")? };
    let first = storage.add_generation_to_history(add.clone()).await?;
    let second = storage.add_generation_to_history(add).await?;
    ensure!(first.id != second.id, "two generations got one id: {}", first.id);
    first.id.as_str().parse::<OperationId>()?;
    let mut expected: Vec<GenerationId> = vec![first.id, second.id];
    expected.sort_by(|one, other| other.cmp(one));
    let listed: Vec<_> = history(&*storage, context.alice).await?.iter().map(|entry| entry.id.clone()).collect();
    ensure_eq!(listed, expected);
    Ok(())
}

async fn the_newest_hundred_are_kept(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 1..=103 {
        record(&*storage, context.alice, &format!("g-{number:03}"), "1").await?;
        context.clock.advance_secs(1);
    }
    let kept = ids(&*storage, context.alice).await?;
    ensure_eq!(kept, (4..=103).rev().map(|number| format!("g-{number:03}")).collect::<Vec<_>>());
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "103.00");
    Ok(())
}

async fn retention_follows_the_policy_for_each_user(context: Context) -> Check {
    let storage = context.open_with(keeping(2)).await?;
    for number in 1..=4 {
        record(&*storage, context.alice, &format!("g-{number}"), "1").await?;
        context.clock.advance_secs(1);
    }
    record(&*storage, context.bob, "g-1", "1").await?;
    ensure_eq!(ids(&*storage, context.alice).await?, ["g-4", "g-3"]);
    ensure_eq!(ids(&*storage, context.bob).await?, ["g-1"]);
    Ok(())
}

async fn everything_can_be_kept(context: Context) -> Check {
    let storage = context.open_with(Policy { history: HistoryRetention::Everything, ..Policy::default() }).await?;
    for number in 1..=130 {
        record(&*storage, context.alice, &format!("g-{number}"), "1").await?;
    }
    let kept = ids(&*storage, context.alice).await?;
    ensure_eq!(kept.len(), 130);
    all_different(&kept)
}

async fn ids_outlive_the_trimming(context: Context) -> Check {
    let storage = context.open_with(keeping(2)).await?;
    for number in 1..=5 {
        record(&*storage, context.alice, &format!("g-{number}"), "1").await?;
        context.clock.advance_secs(1);
    }
    let before = dump_text(&*storage).await?;
    ensure_eq!(record(&*storage, context.alice, "g-1", "1").await?.replayed, true, "trimmed long ago");
    ensure_eq!(dump_text(&*storage).await?, before);
    let other = storage.add_generation_to_history(generation(context.alice, "g-1", "2")?);
    refused_without_trace!(storage, other, Expected::ConflictNaming("g-1".to_owned()));
    Ok(())
}

async fn what_was_spent_has_a_limit(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let almost = "999999999999999999999999999999.999998";
    let spent = storage_core::ImportRecord::Spent { user: alice, spent: almost.parse()? };
    ensure_eq!(storage.import_records(vec![spent]).await?, vec![storage_core::ImportOutcome::Added]);
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), almost);
    let too_much = storage.add_generation_to_history(generation(alice, "g-1", "0.000002")?);
    refused_without_trace!(storage, too_much, Expected::Invalid("spent"));
    record(&*storage, alice, "g-1", "0.000001").await?;
    let most = "999999999999999999999999999999.999999";
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), most);
    record(&*storage, alice, "g-2", "0").await?;
    let dump = dump_text(&*storage).await?;
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    ensure_eq!(restored.get_admin_spent(alice).await?.to_string(), most);
    Ok(())
}

async fn a_page_of_zero_cannot_be_asked_for_and_ten_is_the_default(context: Context) -> Check {
    let storage = context.open().await?;
    refused(PageSize::new(0), &Expected::Invalid("page size"))?;
    refused(PageSize::new(1001), &Expected::Invalid("page size"))?;
    for number in 1..=12 {
        record(&*storage, context.alice, &format!("g-{number:02}"), "1").await?;
    }
    let page = storage.get_user_generations_history(GetUserGenerationsHistory::of(context.alice)).await?;
    ensure_eq!((page.items.len(), page.next.is_some()), (10, true));
    let one = GetUserGenerationsHistory { user: context.alice, page: PageRequest::first(PageSize::new(1)?) };
    ensure_eq!(storage.get_user_generations_history(one).await?.items.len(), 1);
    Ok(())
}

async fn long_params_come_back_whole(context: Context) -> Check {
    let storage = context.open().await?;
    let longest = Params::new(&serde_json::json!("п".repeat(32 * 1024 - 1)))?;
    ensure_eq!(longest.as_json().len(), 64 * 1024);
    let deepest = Params::from_json(&format!("{}1{}", "[".repeat(32), "]".repeat(32)))?;
    for (id, params) in [("deepest", &deepest), ("longest", &longest)] {
        let add = AddGenerationToHistory { params: params.clone(), ..generation(context.alice, id, "1")? };
        storage.add_generation_to_history(add).await?;
    }
    let kept: Vec<_> = history(&*storage, context.alice).await?.iter().map(|entry| entry.params.clone()).collect();
    ensure_eq!(kept, [longest, deepest]);
    Ok(())
}

async fn the_same_generation_fifty_times_at_once_is_recorded_once(context: Context) -> Check {
    let storage = context.open().await?;
    let add = generation(context.alice, "g-1", "7.50")?;
    let answers = together(50, |_| {
        let (storage, add) = (storage.clone(), add.clone());
        async move { storage.add_generation_to_history(add).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 1);
    ensure_eq!(count(&answers, Result::is_ok), 50);
    ensure_eq!(ids(&*storage, context.alice).await?, ["g-1"]);
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "7.50");
    Ok(())
}

async fn a_history_is_paged_without_gap_or_repeat(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 1..=17 {
        record(&*storage, context.alice, &format!("g-{number:02}"), "1").await?;
        context.clock.advance_secs(i64::from(number % 3 == 0));
    }
    let whole = ids(&*storage, context.alice).await?;
    ensure_eq!(whole.len(), 17);
    for size in [1, 2, 5, 16, 17, 18] {
        let pages = all_pages(PageSize::new(size)?, |page| {
            storage.get_user_generations_history(GetUserGenerationsHistory { user: context.alice, page })
        })
        .await?;
        let listed: Vec<_> = pages.iter().map(|entry| entry.id.to_string()).collect();
        ensure_eq!(listed, whole, "pages of {size}");
    }
    let first = GetUserGenerationsHistory { user: context.alice, page: PageRequest::first(PageSize::new(3)?) };
    let next = storage.get_user_generations_history(first).await?.next;
    let foreign =
        GetUserGenerationsHistory { user: context.bob, page: PageRequest { size: PageSize::DEFAULT, after: next } };
    refused(storage.get_user_generations_history(foreign).await, &Expected::Invalid("cursor"))
}
