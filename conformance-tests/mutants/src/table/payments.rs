//! Payments.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "approved-never-credited",
        defect: "an approval does not credit (W1)",
        caught_by: "payments::an_approval_credits",
        changes: &[Replace(
            "payments.rs",
            "move_money(state, &decided, mark.key.clone(), stamp)?;",
            "if decided.status != PaymentStatus::Approved { move_money(state, &decided, mark.key.clone(), stamp)?; }",
        )],
    },
    Mutant {
        name: "credited-on-every-approval",
        defect: "every approval credits (W2)",
        caught_by: "payments::approval_credits_exactly_once",
        changes: &[Before(
            "payments.rs",
            "state.settle_unchanged(owner, mark.key, arguments, Answer::Record, stamp);",
            "move_money(state, &present.record, None, stamp)?;",
        )],
    },
    Mutant {
        name: "approved-rejected-approved",
        defect: "an approved payment can be rejected and approved again (W4)",
        caught_by: "payments::an_approved_payment_cannot_be_rejected_and_approved_again",
        changes: &[Replace(
            "payments.rs",
            "present.record.judge_mark(&mark, stamp.now)?",
            "if mark.status == present.record.status { None } else { \
             Some(Payment { status: mark.status, updated_at: stamp.now, ..present.record.as_ref().clone() }) }",
        )],
    },
    Mutant {
        name: "status-without-credit",
        defect: "status and credit are two transactions: the first stays when the second fails (W5)",
        caught_by: "payments::an_approval_over_the_maximum_is_refused_and_stays_pending",
        changes: &[
            Replace(
                "payments.rs",
                "move_money(state, &decided, mark.key.clone(), stamp)?;",
                "state.payments.insert(decided.id.clone(), Arc::new(decided.clone())); let before = state.clone(); \
                 if let Err(error) = move_money(state, &decided, mark.key.clone(), stamp) { *state = before; return Err(error); }",
            ),
            Replace(
                "lib.rs",
                "change(&mut copy).map_err(|error| error.in_operation(operation))?",
                "let answer = change(&mut copy); if answer.is_err() { *place = Arc::new(copy.clone()); } \
                 answer.map_err(|error| error.in_operation(operation))?",
            ),
        ],
    },
    Mutant {
        name: "unknown-payment-ok",
        defect: "deciding an unknown payment says ok (W6)",
        caught_by: "payments::deciding_an_unknown_payment_is_not_found",
        changes: &[Before(
            "payments.rs",
            "let present = stored(state, &mark.payment, true)?;",
            "if !state.payments.contains_key(&mark.payment) { \
             let add = AddPayment::new(storage_core::UserId::new(1)?, \"1\".parse()?, \"card\".parse()?); \
             return Ok(Stored { record: Arc::new(Payment::create(add, mark.payment, stamp.now)), replayed: false }); }",
        )],
    },
    Mutant {
        name: "duplicate-payment-overwrites",
        defect: "a duplicate id overwrites owner and amount (W7)",
        caught_by: "payments::a_duplicate_id_never_overwrites_owner_or_amount",
        changes: &[Replace(
            "payments.rs",
            "let same_id = «add.payment.as_ref().and_then(|id| state.payments.get(id)).cloned()»;",
            "None::<Arc<Payment>>",
        )],
    },
    Mutant {
        name: "absent-notes-wipe",
        defect: "a decision without admin and notes wipes them (W8)",
        caught_by: "payments::absent_admin_and_notes_keep_what_is_stored",
        changes: &[Replace(
            "payments.rs",
            "present.record.judge_mark(&mark, stamp.now)?",
            "present.record.judge_mark(&mark, stamp.now)?\
             .map(|decided| Payment { admin: mark.admin, notes: mark.notes.clone(), ..decided })",
        )],
    },
    Mutant {
        name: "later-mark-overwrites",
        defect: "the present status again changes admin and notes (W8)",
        caught_by: "edges::a_replayed_decision_leaves_the_stored_payment_alone",
        changes: &[Before(
            "payments.rs",
            "state.settle_unchanged(owner, mark.key, arguments, Answer::Record, stamp);",
            "let changed = Payment { admin: mark.admin, notes: mark.notes.clone(), ..present.record.as_ref().clone() }; \
             state.payments.insert(changed.id.clone(), Arc::new(changed));",
        )],
    },
    Mutant {
        name: "born-approved",
        defect: "a payment is created as approved (W9)",
        caught_by: "payments::a_new_payment_is_pending_and_as_given",
        changes: &[Replace(
            "payments.rs",
            "Payment::create(add, id.clone(), stamp.now)",
            "Payment { status: PaymentStatus::Approved, ..Payment::create(add, id.clone(), stamp.now) }",
        )],
    },
    Mutant {
        name: "amount-rounded",
        defect: "an amount is cut to hundredths (W10)",
        caught_by: "payments::amounts_are_positive_and_exact",
        changes: &[Replace(
            "payments.rs",
            "Payment::create(add, id.clone(), stamp.now)",
            "let cut = storage_core::Money::from_micros(add.amount.money().micros() / 10_000 * 10_000)?; \
             let payment = Payment::create(add, id.clone(), stamp.now); \
             Payment { amount: storage_core::Amount::new(cut).unwrap_or(payment.amount), ..payment }",
        )],
    },
    Mutant {
        name: "provider-key-of-two",
        defect: "two payments may have one provider key",
        caught_by: "payments::a_provider_key_belongs_to_one_payment",
        changes: &[Replace(
            "payments.rs",
            "let same_provider_key = «add.provider_key.as_ref().and_then(|key| by_provider_key(state, key)).cloned()»;",
            "None::<Arc<Payment>>",
        )],
    },
    Mutant {
        name: "webhook-of-another-amount",
        defect: "a known payment with another amount is answered like a replay",
        caught_by: "payments::a_duplicate_id_never_overwrites_owner_or_amount",
        changes: &[Replace(
            "payments.rs",
            "known.judge_add(&add)?;",
            "if known.user != add.user { known.judge_add(&add)?; }",
        )],
    },
    Mutant {
        name: "refund-of-spent-money",
        defect: "a refund of spent money is `InvalidInput`, not `InsufficientFunds` (R8)",
        caught_by: "payments::a_refund_of_spent_money_is_short_and_leaves_the_payment_approved",
        changes: &[Replace(
            "payments.rs",
            "payment.status == PaymentStatus::Refunded && available < amount",
            "payment.status == PaymentStatus::Refunded && available < amount && false",
        )],
    },
    Mutant {
        name: "refund-of-held-money",
        defect: "a refund that is short says what is held, too",
        caught_by: "payments::a_refund_counts_only_what_can_be_spent",
        changes: &[Replace(
            "payments.rs",
            "Error::insufficient_funds(available, amount)",
            "let held = state.accounts.get(&payment.user).map_or(available, |account| account.held); \
             Error::insufficient_funds(available.checked_add(held)?, amount)",
        )],
    },
    Mutant {
        name: "refund-names-no-payment",
        defect: "the ledger row of a refund names no payment",
        caught_by: "payments::a_refund_takes_the_credit_back",
        changes: &[Replace(
            "payments.rs",
            "Memo { reference: Some(Reference::new(payment.id.as_str())?), ..Memo::default() }",
            "let reference = Reference::new(payment.id.as_str())?; \
             Memo { reference: Some(reference).filter(|_| kind == OperationKind::Payment), ..Memo::default() }",
        )],
    },
    Mutant {
        name: "refund-forgets-its-status",
        defect: "a refund leaves the payment approved",
        caught_by: "payments::a_repeated_refund_takes_once",
        changes: &[Replace(
            "payments.rs",
            "state.payments.insert(decided.id.clone(), Arc::new(decided));",
            "if decided.status != PaymentStatus::Refunded { state.payments.insert(decided.id.clone(), Arc::new(decided)); }",
        )],
    },
    Mutant {
        name: "decision-touches-all",
        defect: "one decision rewrites every payment (W42)",
        caught_by: "payments::one_decision_among_two_thousand_payments_changes_one",
        changes: &[Before(
            "payments.rs",
            "state.payments.insert(decided.id.clone(), Arc::new(decided));",
            "for other in state.payments.values_mut() { \
             *other = Arc::new(Payment { admin: Some(other.user), ..other.as_ref().clone() }); }",
        )],
    },
    Mutant {
        name: "status-filter-ignored",
        defect: "a list of payments of one status has every status",
        caught_by: "payments::payments_are_listed_by_user_and_status",
        changes: &[Replace(
            "payments.rs",
            "list.matches(payment)",
            "ListPayments { status: None, ..list.clone() }.matches(payment)",
        )],
    },
    Mutant {
        name: "unknown-payment-conflict",
        defect: "an unknown payment is `Conflict`, not `NotFound` (R8)",
        caught_by: "payments::deciding_an_unknown_payment_is_not_found",
        changes: &[Replace(
            "payments.rs",
            "Error::not_found(\"payment\", id)",
            "Error::conflict(\"payment\", id, \"it is unknown\")",
        )],
    },
    Mutant {
        name: "second-import-doubles",
        defect: "a second import opens the balance again",
        caught_by: "imports::a_second_import_changes_nothing",
        changes: &[Replace(
            "imports.rs",
            "state.ledger.contains_key(&user)",
            "false && state.ledger.contains_key(&user)",
        )],
    },
    Mutant {
        name: "imported-payment-credits",
        defect: "an imported payment credits (M3)",
        caught_by: "imports::imported_payments_never_credit",
        changes: &[Before(
            "imports.rs",
            "state.payments.insert(payment.id.clone(), Arc::new(payment));",
            "let posting = Posting { kind: OperationKind::Payment, balance: SignedMoney::plus(payment.amount.money()), \
             held: SignedMoney::ZERO, key: stamp.operation.to_key(), memo: Memo::default() }; \
             let _ = state.post(payment.user, posting, stamp);",
        )],
    },
    Mutant {
        name: "imported-circle-closes",
        defect: "imported referrals close a circle (W38)",
        caught_by: "imports::imported_referrals_close_no_circle",
        changes: &[Replace(
            "imports.rs",
            "referrals::check_chain(state, user, referrer)",
            "Ok::<(), storage_core::Error>(())",
        )],
    },
    Mutant {
        name: "one-record-stops-the-import",
        defect: "one refused record stops the whole import (W43)",
        caught_by: "imports::one_refused_record_never_stops_the_others",
        changes: &[Replace(
            "imports.rs",
            "return Ok(ImportOutcome::Refused(error.kind().to_string()));",
            "return Err(error);",
        )],
    },
    Mutant {
        name: "import-overwrites",
        defect: "an imported balance replaces what the store knows (M3)",
        caught_by: "imports::a_balance_is_set_only_for_a_user_without_rows",
        changes: &[Before(
            "imports.rs",
            "let present = state.balance(user);",
            "state.account(user, stamp.now).balance = balance;",
        )],
    },
    Mutant {
        name: "imported-payment-keeps-its-origin",
        defect: "an imported payment that waits keeps the origin of its record",
        caught_by: "edges::an_imported_payment_that_waits_is_decided_here",
        changes: &[Replace("imports.rs", "let payment = «payment.imported()»;", "payment")],
    },
    Mutant {
        name: "imported-refund-is-free",
        defect: "the refund of an imported payment takes nothing back",
        caught_by: "edges::a_refund_of_an_imported_payment_takes_back_what_came_with_the_balance",
        changes: &[Before(
            "payments.rs",
            "let available = state.balance(payment.user);",
            "if payment.origin == storage_core::PaymentOrigin::Imported { return Ok(()); }",
        )],
    },
    Mutant {
        name: "gone-payment-not-found",
        defect: "the key of a payment that somebody removed answers `NotFound` (R6)",
        caught_by: "store::the_key_of_a_payment_that_is_gone_is_a_conflict",
        changes: &[Replace(
            "payments.rs",
            "made_by_key(key.as_ref(), \"payment\", state.payments.get(&id).cloned())?",
            "stored(state, &id, true)?.record",
        )],
    },
    Mutant {
        name: "gone-job-made-again",
        defect: "the key of a job that somebody removed makes it anew (R6)",
        caught_by: "store::the_key_of_a_job_that_is_gone_is_a_conflict",
        changes: &[Before(
            "jobs.rs",
            "let record = state.jobs.get(&id_of(&add, used.operation)?).cloned();",
            "let id = id_of(&add, used.operation)?; if !state.jobs.contains_key(&id) { \
             state.jobs.insert(id.clone(), Arc::new(Job::create(add.clone(), id, stamp.now))); }",
        )],
    },
    Mutant {
        name: "another-users-payment",
        defect: "the key of a payment that is another user's by now answers with that one (R6)",
        caught_by: "store::the_key_of_a_record_that_is_another_users_is_a_conflict",
        changes: &[Replace("payments.rs", "record.judge_add(&add)?;", "{}")],
    },
    Mutant {
        name: "bonus-forgotten-with-its-referrer",
        defect: "the bonus for a user is granted again when the referrer was removed by hand (W39)",
        caught_by: "store::a_bonus_is_granted_once_for_a_user_whose_referrer_was_removed",
        changes: &[Before(
            "referrals.rs",
            "state.account(referrer, now);",
            "state.account(user, now).referral_bonus = 0;",
        )],
    },
    Mutant {
        name: "refund-of-what-was-never-credited",
        defect: "the refund of a payment that was approved by hand takes money (M3)",
        caught_by: "store::a_payment_approved_by_hand_is_neither_credited_nor_refunded",
        changes: &[Replace(
            "payments.rs",
            "present.record.judge_mark(&mark, stamp.now)?",
            "Payment { origin: storage_core::PaymentOrigin::Here, ..(*present.record).clone() }.judge_mark(&mark, stamp.now)?",
        )],
    },
];
