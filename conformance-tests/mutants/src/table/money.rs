//! Balances, holds and the ledger.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "balance-inserts",
        defect: "reading a balance creates the user (W19)",
        caught_by: "balances::an_unknown_user_has_nothing_and_stays_unknown",
        changes: &[Replace(
            "serial/balances.rs",
            "self.look(\"get_balance\", move |unit, _| Ok(unit.known(user)?.map_or(Money::ZERO, balance))).await",
            "self.apply::<std::sync::Arc<storage_core::User>>(crate::kernel::Call::GetUser(user)).await.map(|user| user.balance)",
        )],
    },
    Mutant {
        name: "held-money-shown",
        defect: "the balance that is shown counts held money",
        caught_by: "balances::held_money_cannot_be_spent",
        changes: &[Replace(
            "serial/balances.rs",
            "|account: AccountRecord| «account.balance»;",
            "account.balance.checked_add(account.held).unwrap_or(account.balance)",
        )],
    },
    Mutant {
        name: "row-for-no-change",
        defect: "setting the present balance writes a ledger row",
        caught_by: "balances::setting_the_same_balance_writes_no_row",
        changes: &[Replace("kernel/balances.rs", "account.record.balance == *balance", "false")],
    },
    Mutant {
        name: "last-penny-kept",
        defect: "the last of a balance cannot be spent",
        caught_by: "balances::a_debit_to_exactly_zero_is_allowed",
        changes: &[Replace(
            "kernel/post.rs",
            "available.checked_sub(amount)",
            "available.checked_sub(amount).filter(|left| !left.is_zero())",
        )],
    },
    Mutant {
        name: "figures-swapped",
        defect: "`InsufficientFunds` says its two figures the wrong way round",
        caught_by: "balances::a_debit_of_too_much_names_both_figures_and_changes_nothing",
        changes: &[Replace(
            "kernel/post.rs",
            "Error::insufficient_funds(available, amount)",
            "Error::insufficient_funds(amount, available)",
        )],
    },
    Mutant {
        name: "refusal-uses-key-up",
        defect: "a debit that was refused uses its key up (R6)",
        caught_by: "balances::a_failed_debit_is_judged_anew",
        changes: &[Before(
            "kernel/balances.rs",
            "let SubtractBalance { user, amount, memo, key: _ } = subtract;",
            "if atom.may_be_known() && switch::note(format!(\"{} {}\", subtract.user, atom.key())) > 0 { return Err(storage_core::Error::conflict(\"operation key\", atom.key(), \"it was used\").into()); }",
        )],
    },
    Mutant {
        name: "funds-before-key",
        defect: "the replay of a debit asks for the money again (R8)",
        caught_by: "keys::a_replayed_debit_asks_for_no_money",
        changes: &[Before(
            "kernel/balances.rs",
            "let SubtractBalance { user, amount, memo, key: _ } = subtract;",
            "spend(account_or_new(atom, subtract.user, view)?.record.balance, subtract.amount.money())?;",
        )],
    },
    Mutant {
        name: "debit-rounded",
        defect: "a debit is rounded to hundredths (W16)",
        caught_by: "balances::the_smallest_amount_is_charged_and_not_rounded_away",
        changes: &[Replace(
            "kernel/balances.rs",
            "let balance = «spend(account.record.balance, amount.money())?»;",
            "spend(account.record.balance, Money::from_micros(amount.money().micros() / 10_000 * 10_000)?)?",
        )],
    },
    Mutant {
        name: "credit-by-float",
        defect: "a credit is added as a float (W15)",
        caught_by: "balances::a_tenth_and_two_tenths_are_three_tenths",
        changes: &[Replace(
            "kernel/balances.rs",
            "let balance = «account.record.balance.checked_add(amount.money())?»;",
            "let sum = account.record.balance.micros() as f64 / 1e6 + amount.money().micros() as f64 / 1e6; Money::from_micros((sum * 1e6).ceil() as i64)?",
        )],
    },
    Mutant {
        name: "balance-before-in-receipt",
        defect: "a receipt holds the balance before the operation (W13)",
        caught_by: "balances::a_credit_answers_the_balance_it_made",
        changes: &[Replace(
            "kernel/balances.rs",
            "let (user, receipt) = «(account.record.user, receipt(atom, &account))»;",
            "let change = row.balance_change.micros(); let receipt = receipt(atom, &account); (account.record.user, storage_core::Receipt { balance_after: Money::from_micros(receipt.balance_after.micros() - change)?, ..receipt })",
        )],
    },
    Mutant {
        name: "balance-of-somebody-else",
        defect: "a receipt holds the first user's balance (W13)",
        caught_by: "edges::a_receipt_is_about_its_own_user",
        changes: &[Replace(
            "kernel/post.rs",
            "Receipt { operation: atom.stamp().operation, balance_after: «account.record.balance», replayed: false }",
            "let first = switch::remember(String::new(), usize::try_from(account.record.balance.micros()).unwrap_or(0)); Money::from_micros(first as i64).unwrap_or(account.record.balance)",
        )],
    },
    Mutant {
        name: "replay-answers-new-balance",
        defect: "a replay answers the present balance, not the first receipt (R6)",
        caught_by: "keys::the_same_call_again_answers_the_first_receipt",
        changes: &[Replace(
            "kernel/balances.rs",
            "if let Some(first) = first(atom, *user, view)? {\n        return Ok(Changes::default().answering(«first_receipt(&first)?»));\n    }\n    let account = account_or_new(atom, *user, view)?;\n    let balance = account.record.balance.checked_add",
            "storage_core::Receipt { balance_after: account_or_new(atom, *user, view)?.record.balance, ..first_receipt(&first)? }",
        )],
    },
    Mutant {
        name: "replay-not-marked",
        defect: "a replay does not say that it is one (R6)",
        caught_by: "keys::the_same_call_again_answers_the_first_receipt",
        changes: &[Replace("kernel/post.rs", "Receipt { replayed: repeats, ..receipt }", "receipt")],
    },
    Mutant {
        name: "no-maximum",
        defect: "balance and held money together may exceed the maximum (V2)",
        caught_by: "balances::balance_and_held_money_never_exceed_the_maximum",
        changes: &[Replace("kernel/post.rs", "balance.checked_add(held)?;", "")],
    },
    Mutant {
        name: "maximum-one-less",
        defect: "the largest balance is refused (V2)",
        caught_by: "balances::balance_and_held_money_never_exceed_the_maximum",
        changes: &[Replace(
            "kernel/post.rs",
            "balance.checked_add(held)?;",
            "balance.checked_add(held)?.checked_add(Money::STEP)?;",
        )],
    },
    Mutant {
        name: "rows-from-zero",
        defect: "ledger rows are numbered from 0",
        caught_by: "operations::rows_are_numbered_without_gaps_for_each_user",
        changes: &[Replace("kernel/post.rs", "seq: «*rows + 1»,", "*rows")],
    },
    Mutant {
        name: "commit-moves-updated-at",
        defect: "spending held money moves `updated_at`",
        caught_by: "users::held_money_spent_does_not_move_updated_at",
        changes: &[Replace("kernel/post.rs", "balance != record.balance", "true")],
    },
    Mutant {
        name: "reason-lost",
        defect: "the ledger does not keep why a change was made",
        caught_by: "balances::a_memo_stands_in_the_ledger",
        changes: &[Replace("kernel/post.rs", "reason: «memo.reason»,", "drop(memo.reason); None")],
    },
    Mutant {
        name: "row-time-lost",
        defect: "a ledger row has the time of the user's creation",
        caught_by: "edges::a_row_has_the_time_of_its_own_operation",
        changes: &[Replace("kernel/post.rs", "at: «now»,", "record.created_at")],
    },
    Mutant {
        name: "ledger-oldest-first",
        defect: "the ledger is listed oldest first",
        caught_by: "operations::the_newest_row_comes_first",
        changes: &[Replace(
            "state.rs",
            "descending(rows, after.as_ref(), most, |row| row.seq)",
            "ascending(rows.cloned(), after.as_ref(), most, |row| row.seq)",
        )],
    },
    Mutant {
        name: "audit-sees-nothing",
        defect: "an audit of everybody looks at nobody",
        caught_by: "operations::an_audit_adds_everything_up",
        changes: &[Replace(
            "serial/operations.rs",
            "audit.see(&record);",
            "if whose.is_some() { audit.see(&record); }",
        )],
    },
    Mutant {
        name: "audit-forgets-holds",
        defect: "an audit does not know of open holds",
        caught_by: "operations::every_kind_of_change_keeps_the_audit_clean",
        changes: &[Replace("serial/operations.rs", "hold.status == HoldStatus::Open", "false && hold.user == user")],
    },
    Mutant {
        name: "hold-not-held",
        defect: "held money is taken from the balance and counted nowhere",
        caught_by: "reserves::a_hold_moves_money_aside",
        changes: &[Replace(
            "kernel/reserves.rs",
            "let held = «account.record.held.checked_add(amount.money())?»;",
            "account.record.held",
        )],
    },
    Mutant {
        name: "hold-names-shared",
        defect: "hold names are one name space for all users",
        caught_by: "reserves::names_belong_to_one_user",
        changes: &[Replace(
            "state.rs",
            "Ok(«self.holds.get(&(user, name.clone()))».cloned())",
            "let _ = user; self.holds.values().find(|hold| hold.name == *name)",
        )],
    },
    Mutant {
        name: "used-name-is-a-replay",
        defect: "a used hold name with other arguments is answered like a replay",
        caught_by: "reserves::a_used_name_with_other_arguments_is_refused",
        changes: &[Replace(
            "kernel/reserves.rs",
            "hold.status == HoldStatus::Open && hold.amount == *amount && hold.expires_at == *expires_at",
            "true",
        )],
    },
    Mutant {
        name: "natural-replay-keeps-key",
        defect: "a hold that is a replay by its name does not use its key up (R6)",
        caught_by: "keys::a_replay_by_nature_uses_its_key_up",
        changes: &[Replace(
            "kernel/reserves.rs",
            "Changes::default().settled_unchanged(atom, user, Answer::Money(receipt)).answering(receipt)",
            "Changes::default().answering(receipt)",
        )],
    },
    Mutant {
        name: "hold-released-twice",
        defect: "every release of a hold pays it back",
        caught_by: "reserves::a_repeated_release_is_a_replay_of_the_first_receipt",
        changes: &[Before(
            "kernel/reserves.rs",
            "let hold = standing(view, *user, name)?;\n    match (hold.status, hold.ended) {\n        (HoldStatus::Open, _) => {\n            let",
            "let hold = standing(view, *user, name)?; if hold.status == HoldStatus::Released { let mut account = account_or_new(atom, *user, view)?; let balance = account.record.balance.checked_add(hold.amount.money())?; let held = account.record.held; let row = post(atom, &mut account, Posting { kind: OperationKind::Release, balance, held, memo: Memo::default() })?; let receipt = receipt(atom, &account); return Ok(Changes { rows: vec![row], ..Changes::of(account) }.settled(atom, *user, Answer::Money(receipt)).answering(receipt)); }",
        )],
    },
    Mutant {
        name: "commit-after-release",
        defect: "a released hold can be committed",
        caught_by: "reserves::commit_after_release_and_the_reverse_are_refused",
        changes: &[Before(
            "kernel/reserves.rs",
            "let amount = amount.unwrap_or(hold.amount);",
            "if hold.status == HoldStatus::Released && let Some(first) = hold.ended { return Ok(replayed(atom, *user, first)); }",
        )],
    },
    Mutant {
        name: "commit-of-any-amount",
        defect: "a repeated commit of another amount is answered like a replay",
        caught_by: "reserves::a_commit_of_another_amount_is_no_replay",
        changes: &[Replace(
            "kernel/reserves.rs",
            "(HoldStatus::Committed, Some(ended)) if «hold.committed == amount.money()» => Ok(replayed(atom, *user, ended)),",
            "true",
        )],
    },
    Mutant {
        name: "rest-stays-held",
        defect: "the rest of a partly spent hold stays held (R3)",
        caught_by: "reserves::a_commit_of_a_part_gives_the_rest_back",
        changes: &[Replace(
            "kernel/reserves.rs",
            "let rest = «hold.amount.money().checked_sub(spent)»",
            "Some(if spent.is_zero() { hold.amount.money() } else { Money::ZERO })",
        )],
    },
    Mutant {
        name: "end-not-stored",
        defect: "the money of a hold is spent, and the hold stays open (W17)",
        caught_by: "reserves::a_commit_spends_the_hold",
        changes: &[Replace("kernel/reserves.rs", "let record = «Some(Record::Hold(Arc::clone(&ended)))»;", "None")],
    },
    Mutant {
        name: "unknown-hold-conflict",
        defect: "ending an unknown hold is `Conflict`, not `NotFound` (R8)",
        caught_by: "reserves::ending_an_unknown_hold_is_not_found",
        changes: &[Replace(
            "kernel/reserves.rs",
            "Error::not_found(\"hold\", name)",
            "Error::conflict(\"hold\", name, \"it is unknown\")",
        )],
    },
    Mutant {
        name: "expiry-a-moment-late",
        defect: "a hold is not swept at the very moment of its expiry",
        caught_by: "reserves::an_expired_hold_is_released_at_its_moment_and_not_before",
        changes: &[Replace(
            "kernel/reserves.rs",
            "hold.expires_at.is_some_and(|at| «at <= atom.stamp().now»)",
            "at < atom.stamp().now",
        )],
    },
    Mutant {
        name: "expired-hold-not-committed",
        defect: "an expired hold that was not swept cannot be committed",
        caught_by: "reserves::an_expired_hold_can_be_committed_until_it_is_swept",
        changes: &[Before(
            "kernel/reserves.rs",
            "let amount = amount.unwrap_or(hold.amount);",
            "if hold.status == HoldStatus::Open && hold.expires_at.is_some_and(|at| at <= atom.stamp().now) { return Err(Error::transition(\"hold\", name, \"expired\", \"committed\").into()); }",
        )],
    },
    Mutant {
        name: "sweep-one-too-many",
        defect: "a sweep releases one more than its limit",
        caught_by: "reserves::a_sweep_takes_the_longest_expired_first_and_keeps_its_limit",
        changes: &[
            Replace("serial/reserves.rs", "let (seen, most) = (after.clone(), «sweep.lacks()»);", "sweep.lacks() + 1"),
            Replace(
                "serial/reserves.rs",
                "!sweep.took(self.release(ReleaseExpired { user, name }).await)",
                "let outcome = self.release(ReleaseExpired { user, name }).await; sweep.lacks() == 0 || { sweep.took(outcome); false }",
            ),
        ],
    },
    Mutant {
        name: "sweep-newest-first",
        defect: "a sweep begins with the hold that expired last",
        caught_by: "reserves::a_sweep_takes_the_longest_expired_first_and_keeps_its_limit",
        changes: &[Replace(
            "state.rs",
            "ascending(due, after, most, Due::clone)",
            "let mut due: Vec<Due> = due.collect(); due.sort_by(|one, other| (other.0, one.1, &one.2).cmp(&(one.0, other.1, &other.2))); due.truncate(most); due",
        )],
    },
    Mutant {
        name: "sweep-takes-all",
        defect: "a sweep releases holds that expire later, too",
        caught_by: "reserves::a_sweep_leaves_other_holds_alone",
        changes: &[
            Replace(
                "kernel/reserves.rs",
                "hold.expires_at.is_some_and(|at| «at <= atom.stamp().now»)",
                "let _ = at; true",
            ),
            Replace("state.rs", "open.filter_map(place).filter(|(at, ..)| «*at <= now»)", "let _ = at; true"),
        ],
    },
    Mutant {
        name: "age-ignored",
        defect: "a list of holds older than a time has all of them",
        caught_by: "reserves::holds_are_listed_by_user_status_and_age",
        changes: &[Replace(
            "state.rs",
            "list.matches(hold)",
            "ListReserves { older_than: None, ..list.clone() }.matches(hold)",
        )],
    },
    Mutant {
        name: "holds-of-two-users-tie",
        defect: "of two users' holds alike in time and name one is left out of the second page (R11)",
        caught_by: "paging::holds_of_one_moment_go_by_descending_bytes_and_user",
        changes: &[Replace(
            "state.rs",
            "descending(holds, after, most, Hold::position)",
            "let other = |hold: &&Arc<Hold>| after.is_none_or(|after| (hold.created_at, &hold.name) != (after.at, &after.id.name)); descending(holds.filter(other), after, most, Hold::position)",
        )],
    },
    Mutant {
        name: "sweep-by-name",
        defect: "holds that expire together are released by name, whoever's they are",
        caught_by: "edges::holds_that_expire_together_are_released_by_user_and_name",
        changes: &[Replace(
            "state.rs",
            "ascending(due, after, most, Due::clone)",
            "ascending(due, after.map(|(at, _, name)| (*at, name.clone())).as_ref(), most, |(at, _, name)| (*at, name.clone()))",
        )],
    },
    Mutant {
        name: "committed-part-lost",
        defect: "a hold that ended does not say what was spent of it",
        caught_by: "reserves::a_commit_spends_the_hold",
        changes: &[Replace("kernel/reserves.rs", "committed: «spent»,", "Money::ZERO")],
    },
    Mutant {
        name: "rest-is-spent-in-the-ledger",
        defect: "the rest that is given back stands in the ledger as spent",
        caught_by: "reserves::a_commit_of_a_part_gives_the_rest_back",
        changes: &[Replace("kernel/reserves.rs", "(«OperationKind::Release», rest, rest)", "OperationKind::Commit")],
    },
    Mutant {
        name: "hold-names-no-job",
        defect: "the row of a hold does not name it",
        caught_by: "reserves::a_hold_moves_money_aside",
        changes: &[Replace(
            "kernel/reserves.rs",
            "let memo = «referring_to(Reference::from(name), memo)»;",
            "memo.clone()",
        )],
    },
];
