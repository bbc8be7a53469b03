//! The store as a whole: keys, handles, concurrency, paging, dumps.

use super::Change::{Before, Replace};
use super::Mutant;

/// A write of one operation that is decided on what was seen before its transaction.
macro_rules! not_atomic {
    ($name:literal, $operation:literal, $defect:literal, $caught_by:literal) => {
        Mutant {
            name: $name,
            defect: $defect,
            caught_by: $caught_by,
            changes: &[Replace(
                "serial/mod.rs",
                "let work = «Work::change(move |unit| decided(&atom, unit, &environment.policy))»;",
                concat!(
                    "if atom.call().operation() == \"",
                    $operation,
                    "\" { let decided = Work::look(move |unit| decide(&atom, unit, &environment.policy).map_err(Halt::into_error)); \
                     let decision = self.queue.call(decided, None).await?; \
                     if switch::note(\"race of one\".to_owned()) < 12 { tokio::time::sleep(Duration::from_millis(15)).await; } \
                     Work::change(move |unit| { put(unit, decision.changes.clone())?; Ok(decision.reply.clone()) }) } \
                     else { Work::change(move |unit| decided(&atom, unit, &environment.policy)) }"
                ),
            )],
        }
    };
}

pub(super) const ALL: &[Mutant] = &[
    not_atomic!(
        "approvals-race",
        "mark_payment_status",
        "two approvals at once credit twice (W3)",
        "payments::fifty_approvals_at_once_credit_once"
    ),
    not_atomic!(
        "debits-race",
        "subtract_balance",
        "two debits at once spend the same money (W11)",
        "balances::fifty_debits_of_one_from_twenty_five_leave_nothing"
    ),
    not_atomic!(
        "credits-race",
        "add_balance",
        "of two credits at once one is lost (W14)",
        "rules::two_handles_lose_no_update"
    ),
    not_atomic!(
        "takes-race",
        "increment_free_generations",
        "two takes at once take the last free generation (W32)",
        "free_generations::fifty_takes_with_five_left_give_five"
    ),
    not_atomic!(
        "gifts-race",
        "set_gift_claimed",
        "two claims at once are both the first (W33)",
        "users::of_fifty_gift_claims_one_is_first"
    ),
    not_atomic!(
        "releases-race",
        "release_reserve",
        "two releases at once both pay back",
        "reserves::four_releases_at_once_refund_once"
    ),
    not_atomic!(
        "referrers-race",
        "set_referrer",
        "two calls at once close a circle (W38)",
        "referrals::racing_calls_cannot_close_a_circle"
    ),
    not_atomic!(
        "holds-race",
        "reserve_balance",
        "two holds at once set the same money aside (W11)",
        "reserves::fifty_holds_at_once_never_overdraw"
    ),
    not_atomic!(
        "generations-race",
        "add_generation_to_history",
        "the same generation at once is recorded twice (W30)",
        "history::the_same_generation_fifty_times_at_once_is_recorded_once"
    ),
    Mutant {
        name: "seen-and-gone",
        defect: "a change is seen, is gone, and is seen again (R4)",
        caught_by: "linear::calls_of_one_handle_have_one_order",
        changes: &[
            Before(
                "lib.rs",
                "*place = Arc::new(copy);",
                "switch::keep(Arc::as_ptr(&self.place) as usize, Arc::clone(&place));",
            ),
            Replace(
                "lib.rs",
                "let snapshot = «Arc::clone(&self.place.lock())»;",
                "let now = Arc::clone(&self.place.lock()); let earlier: Option<Arc<State>> = switch::kept(Arc::as_ptr(&self.place) as usize); earlier.filter(|_| switch::note(String::new()) % 4 != 0).unwrap_or(now)",
            ),
        ],
    },
    Mutant {
        name: "failure-half-done",
        defect: "what a failing call did before it failed stays (R3)",
        caught_by: "referrals::a_bonus_over_the_banks_limit_stores_nothing",
        changes: &[Replace(
            "serial/mod.rs",
            "let decision = «decide(atom, unit, policy).map_err(|halt| Halt::Refused(halt.into_error()))?»;",
            "match decide(atom, unit, policy) { Ok(decision) => decision, Err(halt) => { if let Call::SetReferrer(set) = atom.call() { let now = atom.stamp().now; let mut record = storage_core::AccountRecord::new(set.user, now); record.refer(set.referrer, now, None, now); let account = crate::kernel::Account { record, rows: 0 }; unit.put(Changes { accounts: [Some(account), None], ..Changes::default() })?; } return Err(Halt::Refused(halt.into_error())); } }",
        )],
    },
    Mutant {
        name: "operation-not-named",
        defect: "an error does not say which operation failed (E1)",
        caught_by: "errors::a_refusal_names_operation_record_and_figures",
        changes: &[Replace(
            "serial/mod.rs",
            "reply.await.map_err(|error| error.in_operation(operation))",
            "reply.await",
        )],
    },
    Mutant {
        name: "refusal-unknown",
        defect: "a refusal says that it may have been applied (R7)",
        caught_by: "rules::a_refusal_says_that_nothing_was_applied",
        changes: &[Replace(
            "serial/mod.rs",
            "reply.await.map_err(|error| error.in_operation(operation))",
            "reply.await.map_err(|error| error.in_operation(operation).unknown(None))",
        )],
    },
    Mutant {
        name: "busy-at-once",
        defect: "a call beside another one gives up at once (W12)",
        caught_by: "concurrency::ten_calls_at_once_do_not_hang",
        changes: &[Before(
            "serial/queue.rs",
            "let (to, answer) = oneshot::channel();",
            "static INSIDE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0); let others = INSIDE.fetch_add(1, Ordering::SeqCst); std::thread::sleep(std::time::Duration::from_micros(300)); INSIDE.fetch_sub(1, Ordering::SeqCst); if others > 0 { return Err(Error::new(ErrorKind::Busy { waited: Duration::ZERO })); }",
        )],
    },
    Mutant {
        name: "lost-wake-up",
        defect: "a call that waits for another one is not woken (R9)",
        caught_by: "concurrency::ten_calls_at_once_do_not_hang",
        changes: &[Before(
            "serial/queue.rs",
            "let (to, answer) = oneshot::channel();",
            "static INSIDE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0); let others = INSIDE.fetch_add(1, Ordering::SeqCst); std::thread::sleep(std::time::Duration::from_micros(300)); INSIDE.fetch_sub(1, Ordering::SeqCst); if others > 0 { std::thread::sleep(Duration::from_secs(5)); }",
        )],
    },
    Mutant {
        name: "reads-stale",
        defect: "a handle reads what it saw the last time (W14)",
        caught_by: "rules::a_second_handle_sees_every_write_at_once",
        changes: &[Replace(
            "lib.rs",
            "let snapshot = «Arc::clone(&self.place.lock())»;",
            "let now = Arc::clone(&self.place.lock()); switch::keep(std::ptr::from_mut(self) as usize, Arc::clone(&now)).unwrap_or(now)",
        )],
    },
    Mutant {
        name: "closed-answers",
        defect: "a closed handle goes on answering (R10)",
        caught_by: "rules::a_closed_handle_answers_closed_to_every_call",
        changes: &[
            Replace("serial/queue.rs", "if «self.closed.load(Ordering::SeqCst)» {", "false"),
            Replace(
                "serial/queue.rs",
                "if «self.sender.send(Message::Close(to)).await.is_ok()» {",
                "let _ = to; false",
            ),
        ],
    },
    Mutant {
        name: "closed-reopens",
        defect: "a closed handle reopens after its first `Closed` (W47)",
        caught_by: "rules::a_closed_handle_never_reopens",
        changes: &[
            Replace(
                "serial/queue.rs",
                "if «self.closed.load(Ordering::SeqCst)» {",
                "self.closed.swap(false, Ordering::SeqCst)",
            ),
            Replace(
                "serial/queue.rs",
                "if «self.sender.send(Message::Close(to)).await.is_ok()» {",
                "let _ = to; false",
            ),
        ],
    },
    Mutant {
        name: "close-closes-all",
        defect: "closing one handle closes every handle of the store (R10)",
        caught_by: "rules::a_closed_handle_leaves_the_others_open",
        changes: &[
            Before(
                "serial/queue.rs",
                "self.closed.store(true, Ordering::SeqCst);",
                "switch::note(\"closed\".to_owned());",
            ),
            Replace(
                "serial/queue.rs",
                "if «self.closed.load(Ordering::SeqCst)» {",
                "switch::remember(\"closed\".to_owned(), 0) > 0",
            ),
        ],
    },
    Mutant {
        name: "lost-without-close",
        defect: "what was acknowledged is lost when the handle is not closed (W41)",
        caught_by: "rules::what_was_acknowledged_is_there_without_a_close",
        changes: &[
            Before(
                "serial/queue.rs",
                "self.closed.store(true, Ordering::SeqCst);",
                "switch::note(\"closed\".to_owned());",
            ),
            Before(
                "lib.rs",
                "let info = BackendInfo {",
                "for _ in 0..200 { if Arc::strong_count(&place) > 2 { std::thread::sleep(std::time::Duration::from_millis(1)); } } if Arc::strong_count(&place) <= 2 && switch::remember(\"closed\".to_owned(), 0) == 0 { *place.lock() = Arc::default(); }",
            ),
        ],
    },
    Mutant {
        name: "lost-at-close",
        defect: "what was acknowledged is lost when the last handle is closed (R5)",
        caught_by: "rules::what_was_acknowledged_is_there_after_a_close",
        changes: &[Before(
            "lib.rs",
            "let info = BackendInfo {",
            "if Arc::strong_count(&place) <= 2 { *place.lock() = Arc::default(); }",
        )],
    },
    Mutant {
        name: "keys-lost-at-reopening",
        defect: "keys live as long as a handle, not as long as the store (R6)",
        caught_by: "keys::keys_survive_reopening",
        changes: &[Before("lib.rs", "let info = BackendInfo {", "Arc::make_mut(&mut place.lock()).keys.clear();")],
    },
    Mutant {
        name: "another-zone",
        defect: "a store opens with another time zone (V12)",
        caught_by: "store::another_time_zone_is_a_schema_mismatch",
        changes: &[Replace("serial/unit.rs", "if «self == wanted» {", "self.history == wanted.history")],
    },
    Mutant {
        name: "another-retention",
        defect: "a store opens with another retention of history (V12)",
        caught_by: "store::another_retention_is_a_schema_mismatch",
        changes: &[Replace("serial/unit.rs", "if «self == wanted» {", "self.time_zone == wanted.time_zone")],
    },
    Mutant {
        name: "key-without-arguments",
        defect: "a key is compared without its arguments (R6)",
        caught_by: "keys::a_key_with_other_arguments_is_a_conflict",
        changes: &[Replace("kernel/keys.rs", "used.arguments != atom.arguments()", "false")],
    },
    Mutant {
        name: "key-of-everybody",
        defect: "keys are one name space for all users (R6)",
        caught_by: "keys::keys_belong_to_one_user",
        changes: &[Replace(
            "state.rs",
            "Ok(«self.keys.get(&(user, space, key.clone()))».cloned())",
            "self.keys.iter().find(|((_, of, known), _)| *of == space && known == key).map(|(_, used)| used)",
        )],
    },
    Mutant {
        name: "key-conflict-not-found",
        defect: "a key with other arguments is `NotFound`, not `Conflict` (R8)",
        caught_by: "keys::a_key_with_other_arguments_is_a_conflict",
        changes: &[Replace(
            "kernel/keys.rs",
            "Error::conflict(\"operation key\", key, reason)",
            "Error::not_found(\"operation key\", key)",
        )],
    },
    Mutant {
        name: "keys-forgotten",
        defect: "keys are not looked up at all (R6)",
        caught_by: "keys::the_same_call_again_answers_the_first_receipt",
        changes: &[Replace("kernel/keys.rs", "if «!atom.may_be_known()» {", "true")],
    },
    Mutant {
        name: "no-minted-key",
        defect: "a call without a key leaves none behind (R6)",
        caught_by: "edges::a_minted_key_gives_a_take_back",
        changes: &[Replace(
            "kernel/decision.rs",
            "let key = «Some(KeyRecord { user, space: atom.space(), key: atom.key().clone(), used })»;",
            "atom.is_repeatable().then(|| KeyRecord { user, space: atom.space(), key: atom.key().clone(), used })",
        )],
    },
    Mutant {
        name: "small-page-gives-all",
        defect: "a list ignores the page's size and gives everything (W29)",
        caught_by: "paging::pages_of_any_size_give_the_same_rows",
        changes: &[Replace(
            "serial/page.rs",
            "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
            "let _ = position; Ok(Page { items: rows(after.as_ref(), usize::MAX)?, next: None })",
        )],
    },
    Mutant {
        name: "page-of-one-gives-all",
        defect: "a page of one gives everything, like a limit that is not set (W29)",
        caught_by: "paging::pages_of_any_size_give_the_same_rows",
        changes: &[Replace(
            "serial/page.rs",
            "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
            "if request.size.get() == 1 { return Ok(Page { items: rows(after.as_ref(), usize::MAX)?, next: None }); } Ok(Page::from_surplus(rows(after.as_ref(), request.size.get() + 1)?, request.size, filter, position))",
        )],
    },
    Mutant {
        name: "no-second-page",
        defect: "a list ends after its first page",
        caught_by: "paging::pages_of_any_size_give_the_same_rows",
        changes: &[Replace(
            "serial/page.rs",
            "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
            "Ok(Page::from_surplus(rows(after.as_ref(), request.size.get())?, request.size, filter, position))",
        )],
    },
    Mutant {
        name: "full-last-page-has-next",
        defect: "a full last page has a next one, which is empty",
        caught_by: "paging::a_full_last_page_has_no_next",
        changes: &[Replace(
            "serial/page.rs",
            "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
            "let items = rows(after.as_ref(), request.size.get())?; let full = items.last().filter(|_| items.len() == request.size.get()); let next = full.map(|row| storage_core::Cursor::encode(filter, &position(row).to_string())); Ok(Page { items, next })",
        )],
    },
    Mutant {
        name: "cursor-by-number",
        defect: "a cursor counts rows, and skips or repeats one when others come meanwhile (R11)",
        caught_by: "paging::rows_inserted_meanwhile_disturb_no_page",
        changes: &[
            Replace("serial/page.rs", "let after: Option<P> = «request.position(filter)?»;", "None"),
            Replace(
                "serial/page.rs",
                "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
                "let number = request.after.as_ref().map(|cursor| cursor.decode(filter)).transpose()?; let skip: usize = number.and_then(|text| text.parse().ok()).unwrap_or(0); let _ = position; let rows = rows(None, usize::MAX)?.into_iter().skip(skip).take(request.size.get() + 1).collect(); Ok(Page::from_surplus(rows, request.size, filter, |_| skip + request.size.get()))",
            ),
        ],
    },
    Mutant {
        name: "row-comes-twice",
        defect: "the last row of a page comes again on the next (R11)",
        caught_by: "paging::pages_of_any_size_give_the_same_rows",
        changes: &[Replace(
            "list.rs",
            "«position(row) > *after»",
            "let place = position(row); place > *after || (place == *after && most > 2)",
        )],
    },
    Mutant {
        name: "ties-ascending",
        defect: "of rows of one moment the smallest id comes first (R11)",
        caught_by: "paging::jobs_of_one_moment_go_by_descending_bytes",
        changes: &[Replace(
            "state.rs",
            "descending(jobs, after, most, |job| Newest::new(job.created_at, job.id.clone()))",
            "let mut rows: Vec<Arc<Job>> = jobs.filter(|job| after.is_none_or(|after| Newest::new(job.created_at, job.id.clone()) < *after)).cloned().collect(); rows.sort_by(|one, other| (other.created_at, &one.id).cmp(&(one.created_at, &other.id))); rows.truncate(most); rows",
        )],
    },
    Mutant {
        name: "ties-by-letters",
        defect: "ids are ordered by letters, not by bytes (R11)",
        caught_by: "paging::payments_of_one_moment_go_by_descending_bytes",
        changes: &[Replace(
            "state.rs",
            "descending(payments, after, most, |payment| Newest::new(payment.created_at, payment.id.clone()))",
            "let mut rows: Vec<Arc<Payment>> = payments.filter(|payment| after.is_none_or(|after| Newest::new(payment.created_at, payment.id.clone()) < *after)).cloned().collect(); rows.sort_by(|one, other| (other.created_at, other.id.as_str().to_lowercase()).cmp(&(one.created_at, one.id.as_str().to_lowercase()))); rows.truncate(most); rows",
        )],
    },
    Mutant {
        name: "by-id-alone",
        defect: "lists are ordered by id, not by time (R11)",
        caught_by: "paging::the_newest_come_first_whatever_their_ids",
        changes: &[Replace(
            "state.rs",
            "descending(jobs, after, most, |job| Newest::new(job.created_at, job.id.clone()))",
            "let mut rows: Vec<Arc<Job>> = jobs.filter(|job| after.is_none_or(|after| Newest::new(job.created_at, job.id.clone()) < *after)).cloned().collect(); rows.sort_by(|one, other| (&other.id, other.created_at).cmp(&(&one.id, one.created_at))); rows.truncate(most); rows",
        )],
    },
    Mutant {
        name: "cursor-of-another-filter",
        defect: "a cursor of another filter is taken (R11)",
        caught_by: "paging::a_cursor_of_another_filter_is_refused",
        changes: &[Replace(
            "serial/page.rs",
            "let after: Option<P> = «request.position(filter)?»;",
            "request.position(filter).or_else(|error| if error.to_string().contains(\"another\") { Ok(None) } else { Err(error) })?",
        )],
    },
    Mutant {
        name: "damaged-cursor-taken",
        defect: "a damaged cursor begins the list anew (R11)",
        caught_by: "paging::a_damaged_cursor_is_refused",
        changes: &[Replace(
            "serial/page.rs",
            "let after: Option<P> = «request.position(filter)?»;",
            "request.position(filter).or_else(|error| if error.to_string().contains(\"another\") { Err(error) } else { Ok(None) })?",
        )],
    },
    Mutant {
        name: "dump-out-of-order",
        defect: "a dump's records come as they are stored (M1)",
        caught_by: "store::a_dump_is_ordered_by_kind_user_and_key",
        changes: &[Replace("state.rs", "records.sort_by_cached_key(DumpRecord::place);", "")],
    },
    Mutant {
        name: "dump-without-keys",
        defect: "a dump holds no keys (M1)",
        caught_by: "keys::keys_survive_dump_and_restore",
        changes: &[Replace("state.rs", "records.push(DumpRecord::Key(record));", "drop(record);")],
    },
    Mutant {
        name: "dump-without-open-holds",
        defect: "a dump holds no holds (M1)",
        caught_by: "store::dump_restore_dump_gives_the_same_bytes",
        changes: &[Replace(
            "state.rs",
            "DumpRecord::Hold(hold) => «drop(self.holds.insert((hold.user, hold.name.clone()), Arc::new(hold)))»,",
            "drop(hold)",
        )],
    },
    Mutant {
        name: "restore-over-records",
        defect: "a dump is restored over what a store holds",
        caught_by: "store::restoring_into_a_store_with_records_is_a_conflict",
        changes: &[Replace("serial/store.rs", "if «!unit.is_empty()?» {", "false")],
    },
    Mutant {
        name: "cut-dump-taken",
        defect: "a dump that was cut is taken as far as it goes (W40)",
        caught_by: "store::a_cut_dump_is_refused_and_nothing_is_taken",
        changes: &[
            Replace(
                "serial/store.rs",
                "while let Some(record) = «dump.next().await?» {",
                "dump.next().await.unwrap_or_default()",
            ),
            Replace(
                "serial/store.rs",
                "let (header, summary) = «dump.finish()?»;",
                "let policy = &self.environment.policy; dump.finish().unwrap_or((storage_core::dump::DumpHeader { storage_dump: 1, time_zone: policy.time_zone.clone(), history: policy.history }, DumpSummary::default()))",
            ),
        ],
    },
    Mutant {
        name: "damaged-dump-taken",
        defect: "damaged lines of a dump are left out and the rest is taken (W40)",
        caught_by: "store::a_damaged_dump_is_refused_and_nothing_is_taken",
        changes: &[
            Replace(
                "serial/store.rs",
                "while let Some(record) = «dump.next().await?» {",
                "match dump.next().await { Ok(next) => next, Err(_) => dump.next().await.unwrap_or_default() }",
            ),
            Replace(
                "serial/store.rs",
                "let (header, summary) = «dump.finish()?»;",
                "let policy = &self.environment.policy; dump.finish().unwrap_or((storage_core::dump::DumpHeader { storage_dump: 1, time_zone: policy.time_zone.clone(), history: policy.history }, DumpSummary::default()))",
            ),
        ],
    },
    Mutant {
        name: "dump-of-another-policy",
        defect: "a dump of another policy is taken",
        caught_by: "store::a_dump_of_another_policy_is_refused",
        changes: &[Replace("serial/store.rs", "header.check_policy(&self.environment.policy)?;", "let _ = &header;")],
    },
    Mutant {
        name: "mark-without-effect",
        defect: "a store that is marked as moved goes on changing (M2)",
        caught_by: "store::a_moved_store_refuses_every_change",
        changes: &[Replace("serial/mod.rs", "match «unit.moved_to()?» {", "None::<storage_core::Destination>")],
    },
    Mutant {
        name: "mark-refuses-repeats",
        defect: "a store that is marked as moved refuses also what changes nothing (M2)",
        caught_by: "store::a_moved_store_answers_repeats",
        changes: &[Before("serial/mod.rs", "if changes.is_empty() {", "still_here(unit)?;")],
    },
    Mutant {
        name: "mark-overwritten",
        defect: "a second mark takes the place of the first (M2)",
        caught_by: "store::a_mark_is_lifted_by_name_alone",
        changes: &[Replace("serial/store.rs", "if «present != expected» {", "wanted.is_none() && present != expected")],
    },
    Mutant {
        name: "mark-lifted-by-any-name",
        defect: "a mark is lifted whatever place is named (M2)",
        caught_by: "store::a_mark_is_lifted_by_name_alone",
        changes: &[Replace("serial/store.rs", "if «present != expected» {", "wanted.is_some() && present != expected")],
    },
    Mutant {
        name: "mark-of-a-handle",
        defect: "a mark is gone when the store is opened anew (M2)",
        caught_by: "store::a_mark_lasts_and_every_handle_obeys_it",
        changes: &[Before("lib.rs", "let info = BackendInfo {", "Arc::make_mut(&mut place.lock()).moved = None;")],
    },
    Mutant {
        name: "id-before-closed",
        defect: "a closed handle draws an id (V11)",
        caught_by: "clocks::each_call_draws_one_id_and_a_look_draws_none",
        changes: &[Before("serial/mod.rs", "let operation = call.operation();", "let _ = self.environment.stamp();")],
    },
    Mutant {
        name: "id-for-a-look",
        defect: "a look at a known user draws an id (V11)",
        caught_by: "clocks::each_call_draws_one_id_and_a_look_draws_none",
        changes: &[Before(
            "serial/users.rs",
            "match self.known(\"get_user\", user).await? {",
            "let _ = self.environment.stamp();",
        )],
    },
    Mutant {
        name: "import-with-a-taken-task",
        defect: "an imported job takes another job's external task id (M3)",
        caught_by: "imports::a_task_or_provider_key_that_is_taken_refuses_its_record",
        changes: &[Replace("kernel/imports.rs", "task_is_free(job.external_task_id.as_ref(), &job.id, view)?;", "")],
    },
    Mutant {
        name: "import-with-a-taken-provider-key",
        defect: "an imported payment takes another payment's provider key (M3)",
        caught_by: "imports::a_task_or_provider_key_that_is_taken_refuses_its_record",
        changes: &[Replace(
            "kernel/imports.rs",
            "if let Some(provider) = &payment.provider_key\n        && let Some(other) = «view.payment_of(provider)?»",
            "None::<Arc<Payment>>",
        )],
    },
    Mutant {
        name: "nowhere",
        defect: "a backend does not say where it is",
        caught_by: "store::a_backend_says_which_and_where",
        changes: &[Replace("lib.rs", "\"this process\".to_owned()", "String::new()")],
    },
];
