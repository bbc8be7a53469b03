//! Balances, holds and the ledger.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "balance-inserts",
        defect: "reading a balance creates the user (W19)",
        caught_by: "balances::an_unknown_user_has_nothing_and_stays_unknown",
        changes: &[Replace(
            "balances.rs",
            "self.read(\"get_balance\", |state| Ok(state.balance(user)))",
            "self.write(\"get_balance\", |state, stamp| Ok(state.account(user, stamp.now).balance))",
        )],
    },
    Mutant {
        name: "held-money-shown",
        defect: "the balance that is shown counts held money",
        caught_by: "balances::held_money_cannot_be_spent",
        changes: &[Replace(
            "balances.rs",
            "self.read(\"get_balance\", |state| Ok(state.balance(user)))",
            "self.read(\"get_balance\", |state| { let held = state.accounts.get(&user).map_or(Money::ZERO, |a| a.held); \
             state.balance(user).checked_add(held) })",
        )],
    },
    Mutant {
        name: "row-for-no-change",
        defect: "setting the present balance writes a ledger row",
        caught_by: "balances::setting_the_same_balance_writes_no_row",
        changes: &[Replace("balances.rs", "before == balance", "false && before == balance")],
    },
    Mutant {
        name: "last-penny-kept",
        defect: "the last of a balance cannot be spent",
        caught_by: "balances::a_debit_to_exactly_zero_is_allowed",
        changes: &[Replace("balances.rs", "available < amount.money()", "available <= amount.money()")],
    },
    Mutant {
        name: "figures-swapped",
        defect: "`InsufficientFunds` says its two figures the wrong way round",
        caught_by: "balances::a_debit_of_too_much_names_both_figures_and_changes_nothing",
        changes: &[Replace(
            "balances.rs",
            "Error::insufficient_funds(available, amount.money())",
            "Error::insufficient_funds(amount.money(), available)",
        )],
    },
    Mutant {
        name: "refusal-uses-key-up",
        defect: "a debit that was refused uses its key up (R6)",
        caught_by: "balances::a_failed_debit_is_judged_anew",
        changes: &[Before(
            "balances.rs",
            "let available = state.balance(user);",
            "if let Some(key) = &key { if switch::note(format!(\"{user} {key}\")) > 0 { \
             return Err(Error::conflict(\"operation key\", key, \"it was used\")); } }",
        )],
    },
    Mutant {
        name: "funds-before-key",
        defect: "the replay of a debit asks for the money again (R8)",
        caught_by: "keys::a_replayed_debit_asks_for_no_money",
        changes: &[Before(
            "balances.rs",
            "let SubtractBalance { user, amount, memo, key } = subtract;",
            "let available = state.balance(subtract.user); if available < subtract.amount.money() { \
             return Err(Error::insufficient_funds(available, subtract.amount.money())); }",
        )],
    },
    Mutant {
        name: "debit-rounded",
        defect: "a debit is rounded to hundredths (W16)",
        caught_by: "balances::the_smallest_amount_is_charged_and_not_rounded_away",
        changes: &[Replace(
            "balances.rs",
            "SignedMoney::minus(amount.money())",
            "SignedMoney::minus(Money::from_micros(amount.money().micros() / 10_000 * 10_000)?)",
        )],
    },
    Mutant {
        name: "credit-by-float",
        defect: "a credit is added as a float (W15)",
        caught_by: "balances::a_tenth_and_two_tenths_are_three_tenths",
        changes: &[Replace(
            "balances.rs",
            "SignedMoney::plus(amount.money())",
            "let before = state.balance(user).micros(); let sum = before as f64 / 1e6 + amount.money().micros() as f64 / 1e6; \
             Money::from_micros((sum * 1e6).ceil() as i64)?.change_since(Money::from_micros(before)?)",
        )],
    },
    Mutant {
        name: "balance-before-in-receipt",
        defect: "a receipt holds the balance before the operation (W13)",
        caught_by: "balances::a_credit_answers_the_balance_it_made",
        changes: &[Replace(
            "state.rs",
            "Ok(Receipt { operation: stamp.operation, balance_after, replayed: false })",
            "Ok(Receipt { operation: stamp.operation, replayed: false, \
             balance_after: Money::from_micros(balance_after.micros() - balance.micros())? })",
        )],
    },
    Mutant {
        name: "balance-of-somebody-else",
        defect: "a receipt holds the first user's balance (W13)",
        caught_by: "edges::a_receipt_is_about_its_own_user",
        changes: &[Replace(
            "state.rs",
            "Ok(Receipt { operation: stamp.operation, balance_after, replayed: false })",
            "let first = self.accounts.values().next().map_or(balance_after, |account| account.balance); \
             Ok(Receipt { operation: stamp.operation, balance_after: first, replayed: false })",
        )],
    },
    Mutant {
        name: "replay-answers-new-balance",
        defect: "a replay answers the present balance, not the first receipt (R6)",
        caught_by: "keys::the_same_call_again_answers_the_first_receipt",
        changes: &[Replace(
            "state.rs",
            "Some(Receipt { replayed: true, ..first })",
            "Some(Receipt { replayed: true, balance_after: self.balance(user), ..first })",
        )],
    },
    Mutant {
        name: "replay-not-marked",
        defect: "a replay does not say that it is one (R6)",
        caught_by: "keys::the_same_call_again_answers_the_first_receipt",
        changes: &[Replace("state.rs", "Some(Receipt { replayed: true, ..first })", "Some(first)")],
    },
    Mutant {
        name: "no-maximum",
        defect: "balance and held money together may exceed the maximum (V2)",
        caught_by: "balances::balance_and_held_money_never_exceed_the_maximum",
        changes: &[Replace("state.rs", "account.balance.checked_add(account.held)?;", "")],
    },
    Mutant {
        name: "maximum-one-less",
        defect: "the largest balance is refused (V2)",
        caught_by: "balances::balance_and_held_money_never_exceed_the_maximum",
        changes: &[Replace(
            "state.rs",
            "account.balance.checked_add(account.held)?;",
            "account.balance.checked_add(account.held)?.checked_add(Money::STEP)?;",
        )],
    },
    Mutant {
        name: "rows-from-zero",
        defect: "ledger rows are numbered from 0",
        caught_by: "operations::rows_are_numbered_without_gaps_for_each_user",
        changes: &[Replace("state.rs", "rows.len() as u64 + 1", "rows.len() as u64")],
    },
    Mutant {
        name: "commit-moves-updated-at",
        defect: "spending held money moves `updated_at`",
        caught_by: "users::held_money_spent_does_not_move_updated_at",
        changes: &[Replace("state.rs", "balance != SignedMoney::ZERO", "true")],
    },
    Mutant {
        name: "reason-lost",
        defect: "the ledger does not keep why a change was made",
        caught_by: "balances::a_memo_stands_in_the_ledger",
        changes: &[Replace("state.rs", "reason: «memo.reason»,", "drop(memo.reason); None")],
    },
    Mutant {
        name: "row-time-lost",
        defect: "a ledger row has the time of the user's creation",
        caught_by: "edges::a_row_has_the_time_of_its_own_operation",
        changes: &[Replace(
            "state.rs",
            "at: «stamp.now»,\n        }));",
            "self.accounts.get(&user).map_or(stamp.now, |account| account.created_at)",
        )],
    },
    Mutant {
        name: "ledger-oldest-first",
        defect: "the ledger is listed oldest first",
        caught_by: "operations::the_newest_row_comes_first",
        changes: &[Replace(
            "operations.rs",
            "page(rows, &list.page, list.filter(), «Order::Descending», |row| row.seq)",
            "Order::Ascending",
        )],
    },
    Mutant {
        name: "audit-sees-nothing",
        defect: "an audit of everybody looks at nobody",
        caught_by: "operations::an_audit_adds_everything_up",
        changes: &[Replace(
            "operations.rs",
            "state.accounts.keys().for_each(|user| audit_user(state, *user, &mut report));",
            "",
        )],
    },
    Mutant {
        name: "audit-forgets-holds",
        defect: "an audit does not know of open holds",
        caught_by: "operations::every_kind_of_change_keeps_the_audit_clean",
        changes: &[Replace(
            "operations.rs",
            "hold.user == user && hold.status == HoldStatus::Open",
            "false && hold.user == user",
        )],
    },
    Mutant {
        name: "hold-not-held",
        defect: "held money is taken from the balance and counted nowhere",
        caught_by: "reserves::a_hold_moves_money_aside",
        changes: &[Replace("reserves.rs", "held: «SignedMoney::plus(amount.money())»,", "SignedMoney::ZERO")],
    },
    Mutant {
        name: "hold-names-shared",
        defect: "hold names are one name space for all users",
        caught_by: "reserves::names_belong_to_one_user",
        changes: &[Replace(
            "reserves.rs",
            "state.holds.get(&(reserve.user, reserve.name.clone()))",
            "state.holds.values().find(|hold| hold.name == reserve.name)",
        )],
    },
    Mutant {
        name: "used-name-is-a-replay",
        defect: "a used hold name with other arguments is answered like a replay",
        caught_by: "reserves::a_used_name_with_other_arguments_is_refused",
        changes: &[Replace(
            "reserves.rs",
            "hold.judge_reserve(&reserve)?",
            "Receipt { replayed: true, ..hold.opened }",
        )],
    },
    Mutant {
        name: "natural-replay-keeps-key",
        defect: "a hold that is a replay by its name does not use its key up (R6)",
        caught_by: "keys::a_replay_by_nature_uses_its_key_up",
        changes: &[Replace(
            "reserves.rs",
            "state.settle_unchanged(reserve.user, reserve.key, arguments, Answer::Money(again), stamp);",
            "",
        )],
    },
    Mutant {
        name: "hold-released-twice",
        defect: "every release of a hold pays it back",
        caught_by: "reserves::a_repeated_release_is_a_replay_of_the_first_receipt",
        changes: &[Before(
            "reserves.rs",
            "match hold.judge_release()? {",
            "if hold.status == HoldStatus::Released { let posting = Posting { kind: OperationKind::Release, \
             balance: SignedMoney::plus(hold.amount.money()), held: SignedMoney::ZERO, key: stamp.operation.to_key(), \
             memo: Memo::default() }; return state.post(user, posting, stamp); }",
        )],
    },
    Mutant {
        name: "commit-after-release",
        defect: "a released hold can be committed",
        caught_by: "reserves::commit_after_release_and_the_reverse_are_refused",
        changes: &[Replace(
            "reserves.rs",
            "hold.judge_commit(amount)?",
            "match hold.ended { Some(first) => HoldStep::Replay(first), None => hold.judge_commit(amount)? }",
        )],
    },
    Mutant {
        name: "commit-of-any-amount",
        defect: "a repeated commit of another amount is answered like a replay",
        caught_by: "reserves::a_commit_of_another_amount_is_no_replay",
        changes: &[Replace(
            "reserves.rs",
            "hold.judge_commit(amount)?",
            "match hold.status { HoldStatus::Committed => hold.judge_commit(storage_core::Amount::new(hold.committed).ok())?, \
             _ => hold.judge_commit(amount)? }",
        )],
    },
    Mutant {
        name: "rest-stays-held",
        defect: "the rest of a partly spent hold stays held (R3)",
        caught_by: "reserves::a_commit_of_a_part_gives_the_rest_back",
        changes: &[Replace(
            "reserves.rs",
            "Money::from_micros(hold.amount.money().micros() - spent.micros())?",
            "if spent.is_zero() { hold.amount.money() } else { Money::ZERO }",
        )],
    },
    Mutant {
        name: "end-not-stored",
        defect: "the money of a hold is spent, and the hold stays open (W17)",
        caught_by: "reserves::a_commit_spends_the_hold",
        changes: &[Replace(
            "reserves.rs",
            "state.holds.insert((hold.user, hold.name.clone()), Arc::new(ended));",
            "drop(ended);",
        )],
    },
    Mutant {
        name: "unknown-hold-conflict",
        defect: "ending an unknown hold is `Conflict`, not `NotFound` (R8)",
        caught_by: "reserves::ending_an_unknown_hold_is_not_found",
        changes: &[Replace(
            "reserves.rs",
            "Error::not_found(\"hold\", name)",
            "Error::conflict(\"hold\", name, \"it is unknown\")",
        )],
    },
    Mutant {
        name: "expiry-a-moment-late",
        defect: "a hold is not swept at the very moment of its expiry",
        caught_by: "reserves::an_expired_hold_is_released_at_its_moment_and_not_before",
        changes: &[Replace(
            "reserves.rs",
            "hold.expires_at.is_some_and(|at| at <= now)",
            "hold.expires_at.is_some_and(|at| at < now)",
        )],
    },
    Mutant {
        name: "expired-hold-not-committed",
        defect: "an expired hold that was not swept cannot be committed",
        caught_by: "reserves::an_expired_hold_can_be_committed_until_it_is_swept",
        changes: &[Replace(
            "reserves.rs",
            "hold.judge_commit(amount)?",
            "if hold.status == HoldStatus::Open && hold.expires_at.is_some_and(|at| at <= stamp.now) { \
             return Err(Error::transition(\"hold\", &name, \"expired\", \"committed\")); } hold.judge_commit(amount)?",
        )],
    },
    Mutant {
        name: "sweep-one-too-many",
        defect: "a sweep releases one more than its limit",
        caught_by: "reserves::a_sweep_takes_the_longest_expired_first_and_keeps_its_limit",
        changes: &[Replace(
            "reserves.rs",
            "!sweep.took(outcome)",
            "sweep.lacks() == 0 || { sweep.took(outcome); false }",
        )],
    },
    Mutant {
        name: "sweep-newest-first",
        defect: "a sweep begins with the hold that expired last",
        caught_by: "reserves::a_sweep_takes_the_longest_expired_first_and_keeps_its_limit",
        changes: &[Replace(
            "reserves.rs",
            "(hold.expires_at, hold.user, hold.name.clone())",
            "(hold.expires_at.map(|at| at.plus_micros(2 * (1_800_000_000_000_000 - at.micros()))), hold.user, hold.name.clone())",
        )],
    },
    Mutant {
        name: "sweep-takes-all",
        defect: "a sweep releases holds that expire later, too",
        caught_by: "reserves::a_sweep_leaves_other_holds_alone",
        changes: &[Replace("reserves.rs", "hold.expires_at.is_some_and(|at| at <= now)", "hold.user.get() != 0")],
    },
    Mutant {
        name: "age-ignored",
        defect: "a list of holds older than a time has all of them",
        caught_by: "reserves::holds_are_listed_by_user_status_and_age",
        changes: &[Replace(
            "reserves.rs",
            "list.matches(hold)",
            "ListReserves { older_than: None, ..list.clone() }.matches(hold)",
        )],
    },
    Mutant {
        name: "holds-of-two-users-tie",
        defect: "of two users' holds alike in time and name one is left out of the second page (R11)",
        caught_by: "paging::holds_of_one_moment_go_by_descending_bytes_and_user",
        changes: &[Replace(
            "reserves.rs",
            "page(holds, &list.page, list.filter(), Order::Descending, Hold::position)",
            "page(holds, &list.page, list.filter(), Order::Descending, |hold| storage_core::Newest::new(hold.created_at, hold.name.clone()))",
        )],
    },
    Mutant {
        name: "sweep-by-name",
        defect: "holds that expire together are released by name, whoever's they are",
        caught_by: "edges::holds_that_expire_together_are_released_by_user_and_name",
        changes: &[Replace(
            "reserves.rs",
            "(hold.expires_at, hold.user, hold.name.clone())",
            "(hold.expires_at, UserId::new(1).unwrap_or(hold.user), hold.name.clone())",
        )],
    },
];
