//! Lists and their pages (R11): newest first, ties by bytes, every row once, whatever is written meanwhile.

use std::fmt::Debug;
use std::sync::Arc;

use storage_core::{
    Cursor, Error, Fingerprint, GetReferrals, GetUserGenerationsHistory, JobStatus, ListJobs, ListOperations,
    ListPayments, ListReserves, Page, PageRequest, PageSize, PaymentStatus, Result, Storage, Timestamp,
    UpdateJobStatus, UserId,
};

use crate::check::{Check, Failure, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, refused};
use crate::scenario::list_scenarios;
use crate::steps::{all_different, all_pages, approve, credit, hold, job, order, pay, record};

list_scenarios! {
    "paging":
    jobs_of_one_moment_go_by_descending_bytes ["R11", "list_jobs"];
    payments_of_one_moment_go_by_descending_bytes ["R11", "list_payments"];
    holds_of_one_moment_go_by_descending_bytes_and_user ["R11", "list_reserves"];
    the_newest_come_first_whatever_their_ids ["R11", "list_jobs", "list_payments", "list_reserves"];
    pages_of_any_size_give_the_same_rows ["R11", "V10"];
    rows_inserted_meanwhile_disturb_no_page ["R11"];
    a_row_that_stops_matching_is_left_out_and_the_others_come_once ["R11"];
    users_inserted_meanwhile_disturb_no_page ["R11", "list_users"];
    a_full_last_page_has_no_next ["R11"];
    a_cursor_of_another_filter_is_refused ["R11", "R8"];
    a_cursor_of_another_list_is_refused ["R11", "R8"];
    a_damaged_cursor_is_refused ["R11", "R8"];
    a_damaged_cursor_of_any_list_is_refused_in_the_same_words ["R11", "R8", "V3", "V9"];
    lists_begin_with_the_lowest_user_at_the_first_moment ["R11", "V1", "V9", "list_users", "get_referrals"];
    rows_of_people_and_groups_come_once ["R11", "V1", "list_jobs", "list_payments", "list_reserves"];
    a_cursor_works_in_another_handle ["R11"] needs [SecondHandle];
    the_order_of_states_in_a_filter_does_not_matter ["R11", "list_jobs"];
    an_update_does_not_move_a_row ["R11", "list_jobs", "list_payments"];
}

const IDS: [&str; 9] = ["a", "B", "é", "z", "a1", "a 1", "10", "9", "🐈"];

fn by_bytes(ids: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.sort();
    ids.reverse();
    ids
}

async fn jobs(storage: &dyn Storage, size: u32) -> Check<Vec<String>> {
    let fetch = |page| storage.list_jobs(ListJobs { page, ..ListJobs::default() });
    Ok(all_pages(PageSize::new(size)?, fetch).await?.iter().map(|job| job.id.to_string()).collect())
}

async fn payments(storage: &dyn Storage, size: u32) -> Check<Vec<String>> {
    let fetch = |page| storage.list_payments(ListPayments { page, ..ListPayments::default() });
    Ok(all_pages(PageSize::new(size)?, fetch).await?.iter().map(|payment| payment.id.to_string()).collect())
}

async fn holds(storage: &dyn Storage, size: u32) -> Check<Vec<String>> {
    let fetch = |page| storage.list_reserves(ListReserves { page, ..ListReserves::default() });
    let all = all_pages(PageSize::new(size)?, fetch).await?;
    Ok(all.iter().map(|hold| format!("{} {}", hold.name, hold.user)).collect())
}

async fn jobs_of_one_moment_go_by_descending_bytes(context: Context) -> Check {
    let storage = context.open().await?;
    for id in IDS {
        order(&*storage, context.alice, id).await?;
    }
    for size in [1, 2, 8, 9, 10, 1000] {
        ensure_eq!(jobs(&*storage, size).await?, by_bytes(&IDS), "pages of {size}");
    }
    Ok(())
}

async fn payments_of_one_moment_go_by_descending_bytes(context: Context) -> Check {
    let storage = context.open().await?;
    for id in IDS {
        pay(&*storage, context.alice, id, "1").await?;
    }
    for size in [1, 2, 8, 9, 10, 1000] {
        ensure_eq!(payments(&*storage, size).await?, by_bytes(&IDS), "pages of {size}");
    }
    Ok(())
}

async fn holds_of_one_moment_go_by_descending_bytes_and_user(context: Context) -> Check {
    let storage = context.open().await?;
    let users = [-7, 30, 4].map(|number| context.user(number));
    for user in users {
        let user = user?;
        credit(&*storage, user, "10").await?;
        for name in ["a", "a:1", "a 1", "é"] {
            hold(&*storage, user, name, "1").await?;
        }
    }
    let expected: Vec<String> =
        ["é", "a:1", "a 1", "a"].iter().flat_map(|name| [30, 4, -7].map(|user| format!("{name} {user}"))).collect();
    for size in [1, 2, 5, 11, 12, 13] {
        ensure_eq!(holds(&*storage, size).await?, expected, "pages of {size}");
    }
    Ok(())
}

async fn the_newest_come_first_whatever_their_ids(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    for (micros, id) in [(0, "m"), (1, "a"), (1, "z"), (-10, "q"), (0, "b")] {
        context.clock.advance_micros(micros);
        order(&*storage, context.alice, id).await?;
        pay(&*storage, context.alice, id, "1").await?;
        hold(&*storage, context.alice, id, "1").await?;
    }
    let expected = ["z", "a", "m", "q", "b"];
    ensure_eq!(jobs(&*storage, 2).await?, expected);
    ensure_eq!(payments(&*storage, 2).await?, expected);
    ensure_eq!(holds(&*storage, 2).await?, expected.map(|name| format!("{name} {}", context.alice)));
    Ok(())
}

async fn pages_of_any_size_give_the_same_rows(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "100").await?;
    for number in 0..30 {
        context.clock.advance_secs(i64::from(number % 4 == 0));
        let id = format!("{}", number * 7 % 30);
        order(&*storage, context.alice, &id).await?;
        pay(&*storage, context.alice, &id, "1").await?;
        hold(&*storage, context.alice, &id, "1").await?;
    }
    let whole = (jobs(&*storage, 1000).await?, payments(&*storage, 1000).await?, holds(&*storage, 1000).await?);
    ensure_eq!((whole.0.len(), whole.1.len(), whole.2.len()), (30, 30, 30));
    for size in [1, 3, 7, 29, 30, 31] {
        let paged = (jobs(&*storage, size).await?, payments(&*storage, size).await?, holds(&*storage, size).await?);
        ensure_eq!(paged, whole, "pages of {size}");
    }
    Ok(())
}

/// Walks through a list in pages of two, and writes something after each page.
async fn walk<T, F, G, W>(fetch: impl Fn(PageRequest) -> F, write: G) -> Check<Vec<Arc<T>>>
where
    F: Future<Output = Result<Page<T>>>,
    G: Fn(usize) -> W,
    W: Future<Output = Check>,
{
    let (mut rows, mut request) = (Vec::new(), PageRequest::first(PageSize::new(2)?));
    for number in 0..1000 {
        let page = fetch(request).await?;
        rows.extend(page.items);
        let Some(next) = page.next else { break };
        write(number).await?;
        request = PageRequest::after(PageSize::new(2)?, next);
    }
    Ok(rows)
}

async fn rows_inserted_meanwhile_disturb_no_page(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "100").await?;
    let old: Vec<String> = (0..11).map(|number| format!("old-{number:02}")).collect();
    for id in &old {
        order(&*storage, alice, id).await?;
        record(&*storage, alice, id, "1").await?;
    }
    let insert = |label: &'static str| {
        let (storage, clock) = (&storage, &context.clock);
        move |number: usize| async move {
            // Newer ones, and ones of the very same moment on both sides of where the page stands.
            for id in [format!("{label}-zz-{number}"), format!("{label}-aa-{number}")] {
                storage.add_generation_job(job(alice, &id)?).await?;
                record(&**storage, alice, &id, "1").await?;
                credit(&**storage, alice, "1").await?;
            }
            clock.advance_secs(1);
            order(&**storage, alice, &format!("{label}-new-{number}")).await?;
            Ok(())
        }
    };
    let of_old = |seen: Vec<String>| -> Check<Vec<String>> {
        all_different(&seen)?;
        let mut mine: Vec<String> = seen.into_iter().filter(|id| id.starts_with("old-")).collect();
        mine.reverse();
        Ok(mine)
    };
    let seen = walk(|page| storage.list_jobs(ListJobs { page, ..ListJobs::default() }), insert("j")).await?;
    ensure_eq!(of_old(seen.iter().map(|job| job.id.to_string()).collect())?, old);
    let fetch = |page| storage.get_user_generations_history(GetUserGenerationsHistory { user: alice, page });
    let seen = walk(fetch, insert("h")).await?;
    ensure_eq!(of_old(seen.iter().map(|entry| entry.id.to_string()).collect())?, old);
    let before = crate::steps::rows(&*storage, alice).await?;
    let seen = walk(|page| storage.list_operations(ListOperations { user: alice, page }), insert("o")).await?;
    ensure_eq!(seen, before, "rows above the cursor do not come later");
    Ok(())
}

async fn a_row_that_stops_matching_is_left_out_and_the_others_come_once(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 0..10 {
        pay(&*storage, context.alice, &format!("p-{number}"), "1").await?;
    }
    // Approving what was seen, and some of what was not, while walking down the pending ones.
    let pending = |page| {
        storage.list_payments(ListPayments { status: Some(PaymentStatus::Pending), page, ..ListPayments::default() })
    };
    let approve_some = |number: usize| {
        let storage = &storage;
        async move {
            let ids: &[&str] = match number {
                0 => &["p-9", "p-8", "p-5"],
                1 => &["p-7"],
                _ => &[],
            };
            for id in ids {
                approve(&**storage, id).await?;
            }
            Ok(())
        }
    };
    let seen = walk(pending, approve_some).await?;
    let seen: Vec<&str> = seen.iter().map(|payment| payment.id.as_str()).collect();
    ensure_eq!(seen, ["p-9", "p-8", "p-7", "p-6", "p-4", "p-3", "p-2", "p-1", "p-0"]);
    Ok(())
}

async fn users_inserted_meanwhile_disturb_no_page(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 1..=9 {
        storage.get_user(context.user(number * 10)?).await?;
    }
    let add = |number: usize| {
        let (storage, context) = (&storage, &context);
        async move {
            for user in
                [context.numbered(-100, number), context.numbered(25, number * 20), context.numbered(1000, number)]
            {
                storage.get_user(user?).await?;
            }
            Ok(())
        }
    };
    let seen = walk(|page| storage.list_users(page), add).await?;
    let seen: Vec<i64> = seen.iter().map(|user| user.id.get()).collect();
    all_different(&seen)?;
    ensure!(seen.is_sorted(), "{seen:?}");
    for number in 1..=9 {
        ensure!(seen.contains(&(number * 10)), "user {} is missing from {seen:?}", number * 10);
    }
    Ok(())
}

async fn a_full_last_page_has_no_next(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 0..4 {
        order(&*storage, context.alice, &format!("job-{number}")).await?;
    }
    let page = |size| Ok::<_, storage_core::Error>(PageRequest::first(PageSize::new(size)?));
    let list = |page| storage.list_jobs(ListJobs { page, ..ListJobs::default() });
    ensure_eq!(list(page(4)?).await?.next, None);
    ensure_eq!(list(page(5)?).await?.next, None);
    let next = present(list(page(3)?).await?.next, "the next page")?;
    let rest = list(PageRequest::after(PageSize::new(3)?, next)).await?;
    ensure_eq!((rest.items.len(), rest.next), (1, None));
    Ok(())
}

/// Two jobs, two payments, two holds, two generations, two users: one page of one row leaves a cursor.
async fn two_of_each(context: &Context, storage: &dyn Storage) -> Check {
    for user in [context.alice, context.bob] {
        credit(storage, user, "10").await?;
        for number in 0..2 {
            let id = format!("{user}-{number}");
            order(storage, user, &id).await?;
            pay(storage, user, &id, "1").await?;
            hold(storage, user, &id, "1").await?;
            record(storage, user, &id, "1").await?;
        }
    }
    for number in 1..=2 {
        let friend = context.user(number)?;
        storage.set_referrer(storage_core::SetReferrer::new(friend, context.alice)).await?;
    }
    Ok(())
}

fn one(after: Option<Cursor>) -> Result<PageRequest> {
    Ok(PageRequest { size: PageSize::new(1)?, after })
}

#[track_caller]
fn foreign<T: Debug>(answer: Result<Page<T>>) -> Check {
    refused(answer, &Expected::Invalid("cursor"))
}

async fn a_cursor_of_another_filter_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    two_of_each(&context, &*storage).await?;
    let alice = Some(context.alice);

    let list = ListJobs { user: alice, page: one(None)?, ..ListJobs::default() };
    let next = storage.list_jobs(list.clone()).await?.next;
    ensure!(next.is_some(), "another job follows");
    let page = one(next)?;
    storage.list_jobs(ListJobs { page: page.clone(), ..list.clone() }).await?;
    foreign(storage.list_jobs(ListJobs { user: Some(context.bob), page: page.clone(), ..list.clone() }).await)?;
    foreign(storage.list_jobs(ListJobs { user: None, page: page.clone(), ..list.clone() }).await)?;
    foreign(storage.list_jobs(ListJobs { statuses: vec![JobStatus::Pending], page, ..list }).await)?;

    let list = ListPayments { status: Some(PaymentStatus::Pending), page: one(None)?, ..ListPayments::default() };
    let page = one(storage.list_payments(list.clone()).await?.next)?;
    storage.list_payments(ListPayments { page: page.clone(), ..list.clone() }).await?;
    foreign(storage.list_payments(ListPayments { status: None, page: page.clone(), ..list.clone() }).await)?;
    foreign(storage.list_payments(ListPayments { user: alice, page, ..list }).await)?;

    let list = ListReserves { user: alice, page: one(None)?, ..ListReserves::default() };
    let page = one(storage.list_reserves(list.clone()).await?.next)?;
    storage.list_reserves(ListReserves { page: page.clone(), ..list.clone() }).await?;
    let later = Some(context.now().plus_micros(1));
    foreign(storage.list_reserves(ListReserves { older_than: later, page: page.clone(), ..list.clone() }).await)?;
    foreign(storage.list_reserves(ListReserves { user: None, page, ..list }).await)
}

async fn a_cursor_of_another_list_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    two_of_each(&context, &*storage).await?;
    let user: UserId = context.alice;
    let cursors = [
        storage.list_users(one(None)?).await?.next,
        storage.list_jobs(ListJobs { page: one(None)?, ..ListJobs::default() }).await?.next,
        storage.list_payments(ListPayments { page: one(None)?, ..ListPayments::default() }).await?.next,
        storage.list_reserves(ListReserves { page: one(None)?, ..ListReserves::default() }).await?.next,
        storage.list_operations(ListOperations { user, page: one(None)? }).await?.next,
        storage.get_user_generations_history(GetUserGenerationsHistory { user, page: one(None)? }).await?.next,
        storage.get_referrals(GetReferrals { referrer: user, page: one(None)? }).await?.next,
    ];
    for (number, cursor) in cursors.into_iter().enumerate() {
        ensure!(cursor.is_some(), "list {number} has a second row");
        let page = one(cursor)?;
        let answers = [
            storage.list_users(page.clone()).await.map(drop),
            storage.list_jobs(ListJobs { page: page.clone(), ..ListJobs::default() }).await.map(drop),
            storage.list_payments(ListPayments { page: page.clone(), ..ListPayments::default() }).await.map(drop),
            storage.list_reserves(ListReserves { page: page.clone(), ..ListReserves::default() }).await.map(drop),
            storage.list_operations(ListOperations { user, page: page.clone() }).await.map(drop),
            storage
                .get_user_generations_history(GetUserGenerationsHistory { user, page: page.clone() })
                .await
                .map(drop),
            storage.get_referrals(GetReferrals { referrer: user, page }).await.map(drop),
        ];
        for (list, answer) in answers.into_iter().enumerate() {
            if list == number {
                answer?;
            } else {
                refused(answer, &Expected::Invalid("cursor"))?;
            }
        }
    }
    Ok(())
}

async fn a_damaged_cursor_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    two_of_each(&context, &*storage).await?;
    for bad in ["", "zz", "0123456789abcde", &"a".repeat(5000)] {
        refused(bad.parse::<Cursor>(), &Expected::Invalid("cursor"))?;
    }
    let list = |page| storage.list_jobs(ListJobs { page, ..ListJobs::default() });
    let next = present(list(one(None)?).await?.next, "the next page")?.to_string();
    for damaged in [format!("{next}f"), next[..next.len() - 1].to_owned(), next[..16].to_owned(), "0".repeat(40)] {
        foreign(list(one(Some(damaged.parse()?))?).await)?;
    }
    Ok(())
}

const LISTS: [&str; 7] = [
    "list_users",
    "list_jobs",
    "list_payments",
    "list_reserves",
    "list_operations",
    "get_user_generations_history",
    "get_referrals",
];

/// Asks a list for the page of one row behind `after`; answers the next page's cursor.
async fn turn(storage: &dyn Storage, list: &str, user: UserId, after: Option<Cursor>) -> Result<Option<Cursor>> {
    let page = one(after)?;
    Ok(match list {
        "list_users" => storage.list_users(page).await?.next,
        "list_jobs" => storage.list_jobs(ListJobs { page, ..ListJobs::default() }).await?.next,
        "list_payments" => storage.list_payments(ListPayments { page, ..ListPayments::default() }).await?.next,
        "list_reserves" => storage.list_reserves(ListReserves { page, ..ListReserves::default() }).await?.next,
        "list_operations" => storage.list_operations(ListOperations { user, page }).await?.next,
        "get_user_generations_history" => {
            storage.get_user_generations_history(GetUserGenerationsHistory { user, page }).await?.next
        }
        _ => storage.get_referrals(GetReferrals { referrer: user, page }).await?.next,
    })
}

fn filter(list: &str, user: UserId) -> Fingerprint {
    match list {
        "list_users" => Fingerprint::of("list_users", &[]),
        "list_jobs" => ListJobs::default().filter(),
        "list_payments" => ListPayments::default().filter(),
        "list_reserves" => ListReserves::default().filter(),
        "list_operations" => ListOperations::of(user).filter(),
        "get_user_generations_history" => GetUserGenerationsHistory::of(user).filter(),
        _ => GetReferrals::of(user).filter(),
    }
}

/// What no list's cursor holds: no position, a time out of range, an id that breaks V3, a user that nobody is.
fn no_positions() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "x", ":", "@", "@1", "1@", "1.5", "99999999999999999999", "17:", ":a", "x:a", "é"]
            .map(ToOwned::to_owned)
            .to_vec();
    let latest = Timestamp::MAX.micros();
    for time in [format!("{}", latest + 1), format!("{}", i64::MAX), "9".repeat(20), "-1".to_owned(), "+1".to_owned()] {
        texts.extend([format!("{time}:a"), format!("{time}:1"), format!("{time}:1:a")]);
    }
    texts.push("17: a".to_owned());
    for id in ["a ", "a\n", "a\0", "\0", "a\u{7f}", &"a".repeat(201), &"é".repeat(101)] {
        texts.extend([format!("17:{id}"), format!("17:1:{id}")]);
    }
    texts
}

async fn a_damaged_cursor_of_any_list_is_refused_in_the_same_words(context: Context) -> Check {
    let storage = context.open().await?;
    two_of_each(&context, &*storage).await?;
    let user = context.alice;
    let damaged = Expected::Exactly(Error::invalid("cursor", "must come from a page of the same list").kind().clone());
    let foreign = Expected::Exactly(Error::invalid("cursor", "belongs to another list or filter").kind().clone());
    for list in LISTS {
        let next = present(turn(&*storage, list, user, None).await?, list)?;
        turn(&*storage, list, user, Some(next.clone())).await?;
        let next = next.to_string();
        let answer = async |text: &str| match text.parse::<Cursor>() {
            Ok(cursor) => turn(&*storage, list, user, Some(cursor)).await,
            Err(error) => Err(error),
        };
        for cut in 0..next.len() {
            refused(answer(&next[..cut]).await, &damaged)?;
        }
        for at in 0..next.len() {
            let other = if &next[at..=at] == "0" { "1" } else { "0" };
            let flipped = format!("{}{other}{}", &next[..at], &next[at + 1..]);
            refused(answer(&flipped).await, if at < 16 { &foreign } else { &damaged })?;
        }
        for text in no_positions() {
            let forged = Cursor::encode(filter(list, user), &text);
            let answer = turn(&*storage, list, user, Some(forged)).await;
            refused(answer, &damaged).map_err(|failure| Failure::new(format!("{list} behind {text:?}: {failure}")))?;
        }
    }
    Ok(())
}

async fn lists_begin_with_the_lowest_user_at_the_first_moment(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    context.clock.set(Timestamp::MIN);
    let numbers = [i64::MIN, i64::MIN + 1, -1, 1, i64::MAX - 1, i64::MAX];
    for number in numbers {
        storage.set_referrer(storage_core::SetReferrer::new(context.user(number)?, alice)).await?;
    }
    for size in [1, 2, 6, 7] {
        let size = PageSize::new(size)?;
        let brought = all_pages(size, |page| storage.get_referrals(GetReferrals { referrer: alice, page })).await?;
        ensure_eq!(brought.iter().map(|row| row.user.get()).collect::<Vec<_>>(), numbers, "pages of {size:?}");
        let users = all_pages(size, |page| storage.list_users(page)).await?;
        let listed: Vec<i64> = users.iter().map(|user| user.id.get()).filter(|id| *id != alice.get()).collect();
        ensure_eq!(listed, numbers, "pages of {size:?}");
    }
    Ok(())
}

async fn rows_of_people_and_groups_come_once(context: Context) -> Check {
    let storage = context.open().await?;
    let numbers = [i64::MIN, -100, -1, 1, 100, i64::MAX];
    let mut ids = Vec::new();
    for (place, number) in numbers.into_iter().enumerate() {
        let (user, id) = (context.user(number)?, format!("id-{place}"));
        credit(&*storage, user, "10").await?;
        order(&*storage, user, &id).await?;
        pay(&*storage, user, &id, "1").await?;
        // One name for all of them.
        hold(&*storage, user, "job", "1").await?;
        ids.insert(0, id);
    }
    let held: Vec<String> = numbers.into_iter().rev().map(|number| format!("job {number}")).collect();
    for size in [1, 2, 5, 6, 7] {
        ensure_eq!(jobs(&*storage, size).await?, ids, "pages of {size}");
        ensure_eq!(payments(&*storage, size).await?, ids, "pages of {size}");
        ensure_eq!(holds(&*storage, size).await?, held, "pages of {size}");
    }
    Ok(())
}

async fn a_cursor_works_in_another_handle(context: Context) -> Check {
    let (here, there) = (context.open().await?, context.open().await?);
    for number in 0..5 {
        order(&*here, context.alice, &format!("job-{number}")).await?;
    }
    let whole = jobs(&*here, 1000).await?;
    let (mut seen, mut request) = (Vec::new(), one(None)?);
    for handle in [&here, &there, &here, &there, &here] {
        let page = handle.list_jobs(ListJobs { page: request, ..ListJobs::default() }).await?;
        seen.extend(page.items.iter().map(|job| job.id.to_string()));
        request = one(page.next)?;
    }
    ensure_eq!((seen, request.after), (whole, None));
    Ok(())
}

async fn the_order_of_states_in_a_filter_does_not_matter(context: Context) -> Check {
    let storage = context.open().await?;
    two_of_each(&context, &*storage).await?;
    let list = |statuses: &[JobStatus], page| {
        storage.list_jobs(ListJobs { statuses: statuses.to_vec(), page, ..ListJobs::default() })
    };
    let (pending, running) = (JobStatus::Pending, JobStatus::Running);
    let next = list(&[pending, running], one(None)?).await?.next;
    let one_way = list(&[running, pending, running], one(next.clone())?).await?;
    ensure_eq!(one_way, list(&[pending, running], one(next)?).await?);
    Ok(())
}

async fn an_update_does_not_move_a_row(context: Context) -> Check {
    let storage = context.open().await?;
    for id in ["a", "b", "c"] {
        order(&*storage, context.alice, id).await?;
        pay(&*storage, context.alice, id, "1").await?;
        context.clock.advance_secs(1);
    }
    storage.update_job_status(UpdateJobStatus::new("a".parse()?, JobStatus::Running)).await?;
    approve(&*storage, "a").await?;
    ensure_eq!(jobs(&*storage, 10).await?, ["c", "b", "a"]);
    ensure_eq!(payments(&*storage, 10).await?, ["c", "b", "a"]);
    Ok(())
}
