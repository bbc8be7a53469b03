//! The store as a whole: asked how it is, dumped, restored, opened with another policy.

pub(crate) mod by_hand;
pub(crate) mod restores;

use std::io::Cursor;
use std::sync::Arc;

use serde_json::Value;
use storage_core::{
    AddBalance, Destination, DumpSummary, ErrorKind, HistoryRetention, ImportRecord, IncrementFreeGenerations, Policy,
    Storage, SubtractBalance,
};

use crate::calls::{Arguments, Keyed, Told, every_read, prepare};
use crate::check::{Check, Failure, ensure, ensure_eq, present};
use crate::context::{Context, in_zone, keeping};
use crate::expect::{Expected, insufficient, refused, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, credit, dump_text, generation, hold, ledger, record, together};

list_scenarios! {
    "store":
    an_open_store_answers_a_ping ["ping"];
    a_backend_says_which_and_where ["backend"];
    a_dump_has_header_records_and_footer ["dump", "M1"];
    a_dump_names_no_backend_and_no_time ["dump", "M1"];
    a_dump_is_ordered_by_kind_user_and_key ["dump", "M1"];
    equal_histories_give_equal_dumps ["dump", "M1", "R8"];
    dump_restore_dump_gives_the_same_bytes ["dump", "restore", "M1"];
    a_dump_is_the_same_after_reopening ["dump", "R5"] needs [Reopen];
    a_restored_store_is_the_same_after_reopening ["restore", "R5"] needs [Reopen];
    a_restored_store_goes_on_where_the_other_stood ["restore", "M1"];
    restoring_into_a_store_with_records_is_a_conflict ["restore", "R8"];
    a_damaged_dump_is_refused_and_nothing_is_taken ["restore", "W40", "R12"];
    a_cut_dump_is_refused_and_nothing_is_taken ["restore", "W40", "R12"];
    the_lowest_and_the_highest_user_are_dumped_and_restored ["dump", "restore", "M1", "V1"];
    a_dump_of_another_policy_is_refused ["restore", "V12"];
    an_empty_store_dumps_and_restores ["dump", "restore"];
    a_moved_store_refuses_every_change ["mark_moved", "M2"] needs [Mark];
    a_moved_store_answers_every_read ["mark_moved", "M2"] needs [Mark];
    a_moved_store_answers_repeats ["mark_moved", "R6"] needs [Mark];
    what_changes_nothing_is_answered_beside_a_change_that_a_mark_refuses ["mark_moved", "M2", "R6"] needs [Mark];
    a_mark_lasts_and_every_handle_obeys_it ["mark_moved", "moved_to", "R5"] needs [SecondHandle, Reopen, Mark];
    a_mark_is_lifted_by_name_alone ["lift_moved", "mark_moved", "M2"] needs [Mark];
    nothing_is_acknowledged_behind_a_mark ["mark_moved", "R3"] needs [SecondHandle, Mark];
    another_time_zone_is_a_schema_mismatch ["V12"] needs [Reopen, TimeZones];
    another_retention_is_a_schema_mismatch ["V12"] needs [Reopen];
    other_policies_may_change_between_openings ["V12"] needs [Reopen];
    history_stays_trimmed_after_reopening ["V12", "R5"] needs [Reopen];
}

async fn an_open_store_answers_a_ping(context: Context) -> Check {
    let storage = context.open().await?;
    storage.ping().await?;
    let before = dump_text(&*storage).await?;
    storage.ping().await?;
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_backend_says_which_and_where(context: Context) -> Check {
    let storage = context.open().await?;
    let info = storage.backend();
    for (what, text) in [("name", &info.name), ("reason", &info.reason), ("location", &info.location)] {
        ensure!(!text.trim().is_empty(), "the {what} says something");
    }
    storage.close().await?;
    ensure_eq!(storage.backend().name, info.name, "a closed handle still says what it was");
    Ok(())
}

/// A store with some of everything in it.
async fn filled(context: &Context, storage: &dyn Storage) -> Check {
    for user in [context.alice, context.bob, context.carol] {
        prepare(storage, user).await?;
    }
    for keyed in Keyed::ALL {
        context.clock.advance_micros(1);
        let key = Some(format!("key of {keyed:?}").parse()?);
        keyed.call(storage, context.alice, key, Arguments::Usual).await?;
    }
    for number in 1..=4 {
        record(storage, context.bob, &format!("g-{number}"), "1.25").await?;
    }
    let take = IncrementFreeGenerations { user: context.bob, key: Some("job-1".parse()?) };
    storage.increment_free_generations(take).await?;
    let give_back = storage_core::ReturnFreeGeneration { user: context.bob, take: "job-1".parse()? };
    storage.return_free_generation(give_back).await?;
    Ok(())
}

fn lines(dump: &str) -> Check<Vec<Value>> {
    dump.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

async fn a_dump_has_header_records_and_footer(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let mut bytes = Vec::new();
    let summary = storage.dump(&mut bytes).await?;
    let text = String::from_utf8(bytes).map_err(|error| Failure::new(error.to_string()))?;
    let lines = lines(&text)?;
    ensure_eq!(lines[0]["storage_dump"], 1);
    ensure_eq!(lines[0]["time_zone"], "UTC");
    let footer: DumpSummary = serde_json::from_value(present(lines.last(), "the footer")?["end"].clone())?;
    ensure_eq!(footer, summary);
    let kinds = ["account", "generation", "hold", "job", "key", "ledger", "payment"];
    for kind in kinds {
        let counted = lines.iter().filter(|line| line["record"] == kind).count() as u64;
        ensure!(counted > 0, "no {kind} in the dump");
        ensure_eq!(summary.count(kind), counted, "{kind}");
    }
    ensure_eq!(summary.counts.len(), kinds.len());
    let report = storage.audit(storage_core::AuditScope::Everyone).await?;
    ensure_eq!((summary.balances, summary.held), (report.balances, report.held));
    ensure_eq!(summary.ledger, summary.balances);
    Ok(())
}

async fn a_dump_names_no_backend_and_no_time(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let before = dump_text(&*storage).await?;
    context.clock.advance_secs(1000);
    ensure_eq!(dump_text(&*storage).await?, before, "the time of the dump shows in it");
    let info = storage.backend();
    let header = present(before.lines().next(), "the header")?;
    ensure!(!header.contains(&info.name) && !header.contains(&info.location), "{header}");
    Ok(())
}

async fn a_dump_is_ordered_by_kind_user_and_key(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let records = lines(&dump_text(&*storage).await?)?;
    let records = &records[1..records.len() - 1];
    let mut places = Vec::new();
    for record in records {
        let kind = present(record["record"].as_str(), "the kind")?.to_owned();
        let text = |field: &str| record[field].as_str().map(ToOwned::to_owned);
        let key = match (record["seq"].as_u64(), text("space")) {
            (Some(seq), _) => format!("{seq:020}"),
            (None, Some(space)) => format!("{space}/{}", present(text("key"), "the key")?),
            (None, None) => text("id").or_else(|| text("name")).unwrap_or_default(),
        };
        places.push((kind, present(record["user"].as_i64(), "the user")?, key));
    }
    let mut sorted = places.clone();
    sorted.sort();
    ensure_eq!(places, sorted);
    Ok(())
}

async fn equal_histories_give_equal_dumps(context: Context) -> Check {
    let mut dumps = Vec::new();
    for _ in 0..2 {
        let context = context.elsewhere().await?;
        context.clock.set("2026-01-15T10:00:00Z".parse()?);
        // One lane for both, so that clock and ids are the same.
        let ids: std::sync::Arc<dyn storage_core::IdSource> = std::sync::Arc::new(storage_core::SequentialIds::lane(7));
        let storage = context.open_minting(ids).await?;
        filled(&context, &*storage).await?;
        dumps.push(dump_text(&*storage).await?);
    }
    ensure_eq!(dumps[0], dumps[1]);
    Ok(())
}

async fn dump_restore_dump_gives_the_same_bytes(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let (mut dump, mut again) = (Vec::new(), Vec::new());
    let summary = storage.dump(&mut dump).await?;
    let restored = context.elsewhere().await?.open().await?;
    ensure_eq!(restored.restore(&mut Cursor::new(dump.as_slice())).await?, summary);
    ensure_eq!(restored.dump(&mut again).await?, summary);
    ensure!(dump == again, "{}", first_difference(&dump, &again));
    clean(&*restored).await
}

fn first_difference(one: &[u8], other: &[u8]) -> String {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    differing.map_or_else(|| "one is longer".to_owned(), |(one, other)| format!("\n  {one}\n  {other}"))
}

async fn reopened(context: &Context, storage: std::sync::Arc<dyn Storage>) -> Check<std::sync::Arc<dyn Storage>> {
    storage.close().await?;
    drop(storage);
    context.open().await
}

async fn a_dump_is_the_same_after_reopening(context: Context) -> Check {
    let mut storage = context.open().await?;
    filled(&context, &*storage).await?;
    let before = dump_text(&*storage).await?;
    for _ in 0..3 {
        storage = reopened(&context, storage).await?;
        let after = dump_text(&*storage).await?;
        ensure!(after == before, "{}", first_difference(before.as_bytes(), after.as_bytes()));
    }
    clean(&*storage).await
}

async fn a_restored_store_is_the_same_after_reopening(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let dump = dump_text(&*storage).await?;
    let there = context.elsewhere().await?;
    let restored = there.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    let restored = reopened(&there, restored).await?;
    let after = dump_text(&*restored).await?;
    ensure!(after == dump, "{}", first_difference(dump.as_bytes(), after.as_bytes()));
    clean(&*restored).await
}

async fn a_restored_store_goes_on_where_the_other_stood(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    record(&*storage, context.alice, "g-1", "1").await?;
    let dump = dump_text(&*storage).await?;
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    for storage in [&storage, &restored] {
        let storage = &**storage;
        storage.commit_reserve(storage_core::CommitReserve::new(context.alice, "job-1".parse()?)).await?;
        ensure_eq!(record(storage, context.alice, "g-1", "1").await?.replayed, true);
        credit(storage, context.alice, "1").await?;
    }
    ensure_eq!(ledger(&*restored, context.alice).await?, ledger(&*storage, context.alice).await?);
    ensure_eq!(restored.find_user(context.alice).await?, storage.find_user(context.alice).await?);
    ensure_eq!(balance(&*restored, context.alice).await?, "7.00");
    clean(&*restored).await
}

async fn restoring_into_a_store_with_records_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    filled(&context, &*storage).await?;
    let dump = dump_text(&*storage).await?;
    let mut bytes = Cursor::new(dump.as_bytes());
    refused_without_trace!(storage, storage.restore(&mut bytes), Expected::Kind("Conflict"));
    let there = context.elsewhere().await?.open().await?;
    there.get_user(context.alice).await?;
    let mut bytes = Cursor::new(dump.as_bytes());
    refused_without_trace!(there, there.restore(&mut bytes), Expected::Kind("Conflict"));
    Ok(())
}

/// Proves that a broken dump is refused as damaged, and that the store takes the whole one afterwards.
async fn refuses(context: &Context, broken: &[Vec<u8>], whole: &str) -> Check {
    let storage = context.elsewhere().await?.open().await?;
    for (number, bytes) in broken.iter().enumerate() {
        let answer = storage.restore(&mut Cursor::new(bytes.as_slice())).await;
        ensure!(answer.is_err(), "broken dump {number} was taken: {}", String::from_utf8_lossy(bytes));
        refused(answer, &Expected::Kind("Corrupt"))?;
        ensure_eq!(dump_text(&*storage).await?.lines().count(), 2, "broken dump {number} left something");
    }
    storage.restore(&mut Cursor::new(whole.as_bytes())).await?;
    ensure_eq!(dump_text(&*storage).await?, whole);
    Ok(())
}

async fn a_damaged_dump_is_refused_and_nothing_is_taken(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    let dump = dump_text(&*storage).await?;
    let lines: Vec<&str> = dump.split_inclusive('\n').collect();
    let mut broken: Vec<Vec<u8>> = Vec::new();
    broken.push(dump.replace("\"10.00\"", "\"11.00\"").into_bytes());
    broken.push(dump.replace("\"balance\":\"6.00\"", "\"balance\":\"60.0\"").into_bytes());
    broken.push([&lines[..1], &lines[2..]].concat().concat().into_bytes());
    broken.push([&lines[..2], &lines[1..]].concat().concat().into_bytes());
    broken.push([&lines[..1], &lines[2..3], &lines[1..2], &lines[3..]].concat().concat().into_bytes());
    broken.push(format!("{dump}{}", lines[1]).into_bytes());
    broken.push(dump.replacen('{', "[", 1).into_bytes());
    broken.push(dump.replacen(':', ": ", 5).into_bytes());
    let mut invalid = dump.clone().into_bytes();
    invalid.insert(lines[0].len() + 2, 0xff);
    broken.push(invalid);
    broken.push(format!("\u{feff}{dump}").into_bytes());
    refuses(&context, &broken, &dump).await
}

async fn a_cut_dump_is_refused_and_nothing_is_taken(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let dump = dump_text(&*storage).await?;
    let mut ends: Vec<usize> = dump.match_indices('\n').map(|(at, _)| at + 1).collect();
    ends.pop();
    ends.extend([0, 1, dump.len() / 2, dump.len() - 1]);
    let broken: Vec<Vec<u8>> = ends.into_iter().map(|end| dump.as_bytes()[..end].to_vec()).collect();
    refuses(&context, &broken, &dump).await
}

async fn the_lowest_and_the_highest_user_are_dumped_and_restored(context: Context) -> Check {
    let storage = context.open().await?;
    let (lowest, highest) = (context.user(i64::MIN)?, context.user(i64::MAX)?);
    for user in [lowest, context.alice, highest] {
        prepare(&*storage, user).await?;
        record(&*storage, user, "g-1", "1").await?;
    }
    let dump = dump_text(&*storage).await?;
    ensure_eq!(lines(&dump)?.iter().filter(|line| line["record"] == "account").count(), 3);
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    ensure_eq!(dump_text(&*restored).await?, dump);
    for user in [lowest, highest] {
        ensure_eq!(restored.find_user(user).await?, storage.find_user(user).await?);
        ensure_eq!(ledger(&*restored, user).await?, ledger(&*storage, user).await?);
        ensure_eq!(balance(&*restored, user).await?, "90.00");
    }
    clean(&*restored).await
}

async fn a_dump_of_another_policy_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let dump = dump_text(&*storage).await?;
    let other = context.elsewhere().await?.open_with(keeping(7)).await?;
    let mut bytes = Cursor::new(dump.as_bytes());
    refused_without_trace!(other, other.restore(&mut bytes), Expected::Kind("SchemaMismatch"));
    ensure_eq!(other.find_user(context.alice).await?, None);
    Ok(())
}

async fn an_empty_store_dumps_and_restores(context: Context) -> Check {
    let storage = context.open().await?;
    let dump = dump_text(&*storage).await?;
    ensure_eq!(dump.lines().count(), 2, "header and footer");
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    ensure_eq!(dump_text(&*restored).await?, dump);
    credit(&*restored, context.alice, "1").await?;
    clean(&*restored).await
}

async fn mismatch(context: &Context, founded: Policy, other: Policy) -> Check {
    let context = context.elsewhere().await?;
    let storage = context.open_with(founded.clone()).await?;
    credit(&*storage, context.alice, "10").await?;
    let before = dump_text(&*storage).await?;
    storage.close().await?;
    drop(storage);
    match context.try_open(other).await {
        Err(error) => match error.kind() {
            storage_core::ErrorKind::SchemaMismatch { found, wanted, run } => {
                ensure!(found != wanted && !run.is_empty(), "found {found}, wanted {wanted}, run {run}");
            }
            _ => return Err(error.into()),
        },
        Ok(_) => return Err(Failure::new("the store opened with another policy")),
    }
    let storage = context.open_with(founded).await?;
    ensure_eq!(dump_text(&*storage).await?, before, "the refused opening changed something");
    Ok(())
}

async fn another_time_zone_is_a_schema_mismatch(context: Context) -> Check {
    mismatch(&context, Policy::default(), in_zone("Europe/Kyiv")?).await?;
    mismatch(&context, in_zone("Europe/Kyiv")?, Policy::default()).await?;
    // The same offset today is not the same zone.
    mismatch(&context, in_zone("Europe/Kyiv")?, in_zone("Europe/Helsinki")?).await
}

async fn another_retention_is_a_schema_mismatch(context: Context) -> Check {
    let everything = Policy { history: HistoryRetention::Everything, ..Policy::default() };
    mismatch(&context, Policy::default(), keeping(99)).await?;
    mismatch(&context, keeping(101), Policy::default()).await?;
    mismatch(&context, Policy::default(), everything).await
}

async fn other_policies_may_change_between_openings(context: Context) -> Check {
    let storage = context.open().await?;
    storage.get_user(context.alice).await?;
    storage.close().await?;
    drop(storage);
    let policy = Policy {
        default_language: "en".parse()?,
        daily_free_generations: 9,
        default_admin_limit: "7".parse()?,
        main_admin: Some(context.bob),
        ..Policy::default()
    };
    let storage = context.open_with(policy).await?;
    ensure_eq!(storage.get_user(context.alice).await?.language.as_str(), "en", "no language was chosen");
    ensure_eq!(storage.get_user_free_generations_remaining(context.alice).await?, 9);
    ensure_eq!(storage.get_admin_limit(context.alice).await?.to_string(), "7.00");
    ensure_eq!(storage.get_admin_limit(context.bob).await?.to_string(), "unlimited");
    storage.add_balance(AddBalance::new(context.alice, "1".parse()?)).await?;
    clean(&*storage).await
}

async fn history_stays_trimmed_after_reopening(context: Context) -> Check {
    let storage = context.open_with(keeping(2)).await?;
    for number in 1..=5 {
        record(&*storage, context.alice, &format!("g-{number}"), "1").await?;
        context.clock.advance_secs(1);
    }
    let before = dump_text(&*storage).await?;
    storage.close().await?;
    drop(storage);
    let storage = context.open_with(keeping(2)).await?;
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(record(&*storage, context.alice, "g-1", "1").await?.replayed, true);
    ensure_eq!(storage.get_admin_spent(context.alice).await?.to_string(), "5.00");
    Ok(())
}

fn elsewhere() -> Check<Destination> {
    Ok("postgresql://db.example.org/bot".parse()?)
}

async fn a_moved_store_refuses_every_change(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob) = (context.alice, context.bob);
    prepare(&*storage, alice).await?;
    let whole = dump_text(&*storage).await?;
    storage.mark_moved(elsewhere()?).await?;
    let moved = || Expected::Kind("Moved");
    for keyed in Keyed::ALL {
        // Each would be done without the mark.
        let key = Some(format!("key of {keyed:?}").parse()?);
        let answer = keyed.call(&*storage, alice, key, Arguments::Usual).await;
        ensure!(answer.is_err(), "{keyed:?} was done: {answer:?}");
        refused(answer, &moved())?;
    }
    refused(storage.get_user(bob).await, &moved())?;
    refused(storage.add_generation_to_history(generation(alice, "g-1", "1")?).await, &moved())?;
    let balance = ImportRecord::Balance { user: bob, balance: "1".parse()?, created_at: None };
    refused(storage.import_records(vec![balance]).await, &moved())?;
    ensure_eq!(dump_text(&*storage).await?, whole);
    let empty = context.elsewhere().await?.open().await?;
    empty.mark_moved(elsewhere()?).await?;
    refused(empty.restore(&mut Cursor::new(whole.as_bytes())).await, &moved())?;
    ensure_eq!(dump_text(&*empty).await?.lines().count(), 2);
    clean(&*storage).await
}

async fn a_moved_store_answers_every_read(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    ensure_eq!(storage.moved_to().await?, None);
    storage.mark_moved(elsewhere()?).await?;
    ensure_eq!(storage.moved_to().await?, Some(elsewhere()?));
    for (operation, answer) in every_read(&*storage, context.alice).await? {
        ensure!(
            !matches!(&answer, Err(error) if matches!(error.kind(), ErrorKind::Moved { .. })),
            "{operation}: {answer:?}"
        );
    }
    ensure_eq!(storage.get_user(context.alice).await?.balance.to_string(), "90.00");
    ensure_eq!(dump_text(&*storage).await?, before, "a mark is no record");
    Ok(())
}

/// They may share a batch or a statement; each has an answer of its own.
async fn what_changes_nothing_is_answered_beside_a_change_that_a_mark_refuses(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob) = (context.alice, context.bob);
    let first = AddBalance::new(alice, "5".parse()?).with_key("first".parse()?);
    storage.add_balance(first.clone()).await?;
    storage.mark_moved(elsewhere()?).await?;
    let too_much = SubtractBalance::new(bob, "1".parse()?);
    let change = AddBalance::new(bob, "1".parse()?);
    let answers = together(60, |number| {
        let (storage, first) = (Arc::clone(&storage), first.clone());
        let (too_much, change) = (too_much.clone(), change.clone());
        async move {
            match number % 3 {
                0 => storage.add_balance(first).await,
                1 => storage.subtract_balance(too_much).await,
                _ => storage.add_balance(change).await,
            }
        }
    });
    for (number, answer) in answers.await?.into_iter().enumerate() {
        match (number % 3, answer) {
            (0, Ok(receipt)) => ensure!(receipt.replayed, "{receipt:?}"),
            (1, answer) => refused(answer, &insufficient("0", "1")?)?,
            (2, answer) => refused(answer, &Expected::Kind("Moved"))?,
            (_, answer) => return Err(Failure::new(format!("a repeat was answered {answer:?}"))),
        }
    }
    Ok(())
}

async fn a_moved_store_answers_repeats(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    let key = |keyed: Keyed| Ok::<_, storage_core::Error>(Some(format!("key of {keyed:?}").parse()?));
    let mut first = Vec::new();
    for keyed in Keyed::ALL {
        first.push(keyed.call(&*storage, context.alice, key(keyed)?, Arguments::Usual).await?);
    }
    storage.mark_moved(elsewhere()?).await?;
    for (keyed, told) in Keyed::ALL.into_iter().zip(first) {
        let again = keyed.call(&*storage, context.alice, key(keyed)?, Arguments::Usual).await;
        ensure_eq!(again.map_err(|error| error.to_string()), Ok(Told { replayed: true, ..told }), "{keyed:?}");
    }
    ensure_eq!(storage.release_expired_reserves(storage_core::PageSize::DEFAULT).await?.len(), 0);
    Ok(())
}

async fn a_mark_lasts_and_every_handle_obeys_it(context: Context) -> Check {
    let (one, other) = (context.open().await?, context.open().await?);
    credit(&*one, context.alice, "10").await?;
    credit(&*other, context.alice, "1").await?;
    one.mark_moved(elsewhere()?).await?;
    let add = AddBalance::new(context.alice, "1".parse()?);
    refused(other.add_balance(add.clone()).await, &Expected::Kind("Moved"))?;
    ensure_eq!(other.moved_to().await?, Some(elsewhere()?));
    other.close().await?;
    let one = reopened(&context, one).await?;
    refused(one.add_balance(add).await, &Expected::Kind("Moved"))?;
    ensure_eq!(balance(&*one, context.alice).await?, "11.00");
    let other = context.open().await?;
    other.lift_moved(elsewhere()?).await?;
    credit(&*one, context.alice, "5").await?;
    let other = reopened(&context, other).await?;
    ensure_eq!(other.moved_to().await?, None);
    ensure_eq!(balance(&*other, context.alice).await?, "16.00");
    clean(&*one).await
}

async fn a_mark_is_lifted_by_name_alone(context: Context) -> Check {
    let storage = context.open().await?;
    let other: Destination = "another place".parse()?;
    // Nothing to lift is nothing to do.
    storage.lift_moved(other.clone()).await?;
    storage.mark_moved(elsewhere()?).await?;
    storage.mark_moved(elsewhere()?).await?;
    let marked = || crate::expect::conflict("mark", "postgresql://db.example.org/bot");
    refused(storage.mark_moved(other.clone()).await, &marked())?;
    refused(storage.lift_moved(other.clone()).await, &marked())?;
    ensure_eq!(storage.moved_to().await?, Some(elsewhere()?));
    storage.lift_moved(elsewhere()?).await?;
    storage.lift_moved(elsewhere()?).await?;
    credit(&*storage, context.alice, "1").await?;
    storage.mark_moved(other.clone()).await?;
    ensure_eq!(storage.moved_to().await?, Some(other));
    Ok(())
}

async fn nothing_is_acknowledged_behind_a_mark(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let (alice, bob) = (context.alice, context.bob);
    credit(&*handles[0], alice, "1").await?;
    let answers = together(61, |number| {
        let handle = std::sync::Arc::clone(&handles[number % 2]);
        async move {
            if number == 20 {
                handle.mark_moved("elsewhere".parse()?).await?;
                return Ok::<_, Failure>(Some(dump_text(&*handle).await?));
            }
            let user = if number % 3 == 0 { bob } else { alice };
            let add = AddBalance { key: Some(format!("k-{number}").parse()?), ..AddBalance::new(user, "1".parse()?) };
            match handle.add_balance(add).await {
                Ok(_) => Ok(None),
                Err(error) if matches!(error.kind(), ErrorKind::Moved { .. }) => Ok(Some(String::new())),
                Err(error) => Err(error.into()),
            }
        }
    })
    .await?;
    let mut acknowledged = 0;
    let mut at_mark = String::new();
    for answer in answers {
        match answer? {
            None => acknowledged += 1,
            Some(dump) if !dump.is_empty() => at_mark = dump,
            Some(_) => {}
        }
    }
    for handle in &handles {
        ensure_eq!(dump_text(&**handle).await?, at_mark, "what is here is what was here when the mark was answered");
    }
    let rows = at_mark.lines().filter(|line| line.starts_with("{\"record\":\"ledger\"")).count();
    ensure_eq!(rows, acknowledged + 1);
    clean(&*handles[1]).await
}
