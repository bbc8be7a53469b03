//! Payments.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "approved-never-credited",
        defect: "an approval does not credit (W1)",
        caught_by: "payments::an_approval_credits",
        changes: &[Replace(
            "kernel/payments.rs",
            "moved_money(atom, &decided, view)?",
            "if decided.status == PaymentStatus::Approved { Changes::default() } else { moved_money(atom, &decided, view)? }",
        )],
    },
    Mutant {
        name: "credited-on-every-approval",
        defect: "every approval credits (W2)",
        caught_by: "payments::approval_credits_exactly_once",
        changes: &[Replace(
            "kernel/payments.rs",
            "let changes = «Changes::default().settled_unchanged(atom, owner, Answer::Record)»;",
            "Changes { record: None, ..moved_money(atom, &record, view)? }.settled(atom, owner, Answer::Record)",
        )],
    },
    Mutant {
        name: "approved-rejected-approved",
        defect: "an approved payment can be rejected and approved again (W4)",
        caught_by: "payments::an_approved_payment_cannot_be_rejected_and_approved_again",
        changes: &[Replace(
            "kernel/payments.rs",
            "let Some(decided) = «decided(&record, mark, atom)?» else {",
            "if mark.status == record.status { None } else { Some(Payment { status: mark.status, updated_at: atom.stamp().now, ..record.as_ref().clone() }) }",
        )],
    },
    Mutant {
        name: "status-without-credit",
        defect: "status and credit are two transactions: the first stays when the second fails (W5)",
        caught_by: "payments::an_approval_over_the_maximum_is_refused_and_stays_pending",
        changes: &[Replace(
            "kernel/payments.rs",
            "moved_money(atom, &decided, view)?",
            "moved_money(atom, &decided, view).unwrap_or_default()",
        )],
    },
    Mutant {
        name: "unknown-payment-ok",
        defect: "deciding an unknown payment says ok (W6)",
        caught_by: "payments::deciding_an_unknown_payment_is_not_found",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = «view.payment(&mark.payment)?.ok_or_else(|| Error::not_found(\"payment\", &mark.payment))?»;",
            "match view.payment(&mark.payment)? { Some(record) => record, None => { let add = AddPayment::new(storage_core::UserId::new(1)?, \"1\".parse()?, \"card\".parse()?); let record = Arc::new(Payment::create(add, mark.payment.clone(), atom.stamp().now)); return Ok(Changes::default().answering(Stored { record, replayed: false })); } }",
        )],
    },
    Mutant {
        name: "duplicate-payment-overwrites",
        defect: "a duplicate id overwrites owner and amount (W7)",
        caught_by: "payments::a_duplicate_id_never_overwrites_owner_or_amount",
        changes: &[Replace("kernel/payments.rs", "(None, Some(id), _) => «view.payment(id)?»,", "let _ = id; None")],
    },
    Mutant {
        name: "absent-notes-wipe",
        defect: "a decision without admin and notes wipes them (W8)",
        caught_by: "payments::absent_admin_and_notes_keep_what_is_stored",
        changes: &[Replace(
            "kernel/payments.rs",
            "let Some(decided) = «decided(&record, mark, atom)?» else {",
            "decided(&record, mark, atom)?.map(|decided| Payment { admin: mark.admin, notes: mark.notes.clone(), ..decided })",
        )],
    },
    Mutant {
        name: "later-mark-overwrites",
        defect: "the present status again changes admin and notes (W8)",
        caught_by: "edges::a_replayed_decision_leaves_the_stored_payment_alone",
        changes: &[Replace(
            "kernel/payments.rs",
            "let changes = «Changes::default().settled_unchanged(atom, owner, Answer::Record)»;",
            "let changed = Payment { admin: mark.admin, notes: mark.notes.clone(), ..record.as_ref().clone() }; Changes { record: Some(Record::Payment(Arc::new(changed))), ..Changes::default().settled_unchanged(atom, owner, Answer::Record) }",
        )],
    },
    Mutant {
        name: "born-approved",
        defect: "a payment is created as approved (W9)",
        caught_by: "payments::a_new_payment_is_pending_and_as_given",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = Arc::new(«Payment::create(add.clone(), id, atom.stamp().now)»);",
            "Payment { status: PaymentStatus::Approved, ..Payment::create(add.clone(), id, atom.stamp().now) }",
        )],
    },
    Mutant {
        name: "amount-rounded",
        defect: "an amount is cut to hundredths (W10)",
        caught_by: "payments::amounts_are_positive_and_exact",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = Arc::new(«Payment::create(add.clone(), id, atom.stamp().now)»);",
            "let cut = storage_core::Money::from_micros(add.amount.money().micros() / 10_000 * 10_000)?; let payment = Payment::create(add.clone(), id, atom.stamp().now); Payment { amount: storage_core::Amount::new(cut).unwrap_or(payment.amount), ..payment }",
        )],
    },
    Mutant {
        name: "provider-key-of-two",
        defect: "two payments may have one provider key",
        caught_by: "payments::a_provider_key_belongs_to_one_payment",
        changes: &[Replace(
            "kernel/payments.rs",
            "Some(provider) => «view.payment_of(provider)?»,",
            "let _ = provider; None",
        )],
    },
    Mutant {
        name: "webhook-of-another-amount",
        defect: "a known payment with another amount is answered like a replay",
        caught_by: "payments::a_duplicate_id_never_overwrites_owner_or_amount",
        changes: &[Replace("kernel/payments.rs", "} else if «payment.amount != again.amount» {", "false")],
    },
    Mutant {
        name: "refund-of-spent-money",
        defect: "a refund of spent money is `InvalidInput`, not `InsufficientFunds` (R8)",
        caught_by: "payments::a_refund_of_spent_money_is_short_and_leaves_the_payment_approved",
        changes: &[Replace(
            "kernel/payments.rs",
            "«spend(available, amount)?»)",
            "storage_core::Money::from_micros(available.micros() - amount.micros())?",
        )],
    },
    Mutant {
        name: "refund-of-held-money",
        defect: "a refund that is short says what is held, too",
        caught_by: "payments::a_refund_counts_only_what_can_be_spent",
        changes: &[Replace(
            "kernel/payments.rs",
            "«spend(available, amount)?»)",
            "spend(available, amount).map_err(|_| match available.checked_add(held) { Ok(all) => Error::insufficient_funds(all, amount), Err(error) => error })?",
        )],
    },
    Mutant {
        name: "refund-names-no-payment",
        defect: "the ledger row of a refund names no payment",
        caught_by: "payments::a_refund_takes_the_credit_back",
        changes: &[Replace(
            "kernel/payments.rs",
            "let memo = «referring_to(Reference::from(&payment.id), &Memo::default())»;",
            "if kind == OperationKind::Refund { Memo::default() } else { referring_to(Reference::from(&payment.id), &Memo::default()) }",
        )],
    },
    Mutant {
        name: "refund-forgets-its-status",
        defect: "a refund leaves the payment approved",
        caught_by: "payments::a_repeated_refund_takes_once",
        changes: &[Replace(
            "kernel/payments.rs",
            "record: «Some(Record::Payment(Arc::clone(&record)))», ..changes",
            "if record.status == PaymentStatus::Refunded { None } else { Some(Record::Payment(Arc::clone(&record))) }",
        )],
    },
    Mutant {
        name: "decision-touches-all",
        defect: "one decision rewrites every payment (W42)",
        caught_by: "payments::one_decision_among_two_thousand_payments_changes_one",
        changes: &[Replace(
            "state.rs",
            "Some(Record::Payment(payment)) => «drop(self.payments.insert(payment.id.clone(), payment))»,",
            "if self.payments.contains_key(&payment.id) { for other in self.payments.values_mut() { *other = Arc::new(Payment { admin: Some(other.user), ..other.as_ref().clone() }); } } drop(self.payments.insert(payment.id.clone(), payment))",
        )],
    },
    Mutant {
        name: "status-filter-ignored",
        defect: "a list of payments of one status has every status",
        caught_by: "payments::payments_are_listed_by_user_and_status",
        changes: &[Replace(
            "state.rs",
            "list.matches(payment)",
            "ListPayments { status: None, ..list.clone() }.matches(payment)",
        )],
    },
    Mutant {
        name: "unknown-payment-conflict",
        defect: "an unknown payment is `Conflict`, not `NotFound` (R8)",
        caught_by: "payments::deciding_an_unknown_payment_is_not_found",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = «view.payment(&mark.payment)?.ok_or_else(|| Error::not_found(\"payment\", &mark.payment))?»;",
            "view.payment(&mark.payment)?.ok_or_else(|| Error::conflict(\"payment\", &mark.payment, \"it is unknown\"))?",
        )],
    },
    Mutant {
        name: "second-import-doubles",
        defect: "a second import opens the balance again",
        caught_by: "imports::a_second_import_changes_nothing",
        changes: &[Replace("kernel/imports.rs", "if «*rows > 0» {", "false")],
    },
    Mutant {
        name: "imported-payment-credits",
        defect: "an imported payment credits (M3)",
        caught_by: "imports::imported_payments_never_credit",
        changes: &[Replace(
            "kernel/imports.rs",
            "let changes = «Changes::with_user(atom, payment.user, view)?»;",
            "let mut account = account_or_new(atom, payment.user, view)?; let (balance, held) = (account.record.balance.checked_add(payment.amount.money())?, account.record.held); let row = post(atom, &mut account, Posting { kind: OperationKind::Payment, balance, held, memo: Memo::default() })?; let user = account.record.user; Changes { rows: vec![row], ..Changes::of(account) }.settled(atom, user, Answer::Record)",
        )],
    },
    Mutant {
        name: "imported-circle-closes",
        defect: "imported referrals close a circle (W38)",
        caught_by: "imports::imported_referrals_close_no_circle",
        changes: &[Replace("kernel/imports.rs", "may_bring(user, referrer, view)?;", "")],
    },
    Mutant {
        name: "one-record-stops-the-import",
        defect: "one refused record stops the whole import (W43)",
        caught_by: "imports::one_refused_record_never_stops_the_others",
        changes: &[Replace(
            "kernel/imports.rs",
            "Ok(Changes::default().answering(ImportOutcome::Refused(error.to_string())))",
            "Err(Halt::Refused(error))",
        )],
    },
    Mutant {
        name: "import-overwrites",
        defect: "an imported balance replaces what the store knows (M3)",
        caught_by: "imports::a_balance_is_set_only_for_a_user_without_rows",
        changes: &[Replace(
            "kernel/imports.rs",
            "if *rows > 0 {\n        let present = record.balance;\n        «return Ok(known(present == balance, || format!(\"{present} and a ledger of {rows} rows\")));»",
            "record.balance = balance; let outcome = known(present == balance, || format!(\"{present}\")).reply; return Ok(Decision { reply: outcome, changes: Changes::of(account) });",
        )],
    },
    Mutant {
        name: "imported-payment-keeps-its-origin",
        defect: "an imported payment that waits keeps the origin of its record",
        caught_by: "edges::an_imported_payment_that_waits_is_decided_here",
        changes: &[Replace("kernel/imports.rs", "let payment = «payment.clone().imported()»;", "payment.clone()")],
    },
    Mutant {
        name: "imported-refund-is-free",
        defect: "the refund of an imported payment takes nothing back",
        caught_by: "edges::a_refund_of_an_imported_payment_takes_back_what_came_with_the_balance",
        changes: &[Before(
            "kernel/payments.rs",
            "let amount = payment.amount.money();",
            "if payment.origin == PaymentOrigin::Imported { return Ok(Changes::default()); }",
        )],
    },
    Mutant {
        name: "gone-payment-not-found",
        defect: "the key of a payment that somebody removed answers `NotFound` (R6)",
        caught_by: "store::the_key_of_a_payment_that_is_gone_is_a_conflict",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = «made_by_key(atom, \"payment\", known)?»;",
            "known.ok_or_else(|| Error::not_found(\"payment\", atom.key()))?",
        )],
    },
    Mutant {
        name: "gone-job-made-again",
        defect: "the key of a job that somebody removed makes it anew (R6)",
        caught_by: "store::the_key_of_a_job_that_is_gone_is_a_conflict",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = «made_by_key(atom, \"job\", view.job(&id_of(add, first.used.operation))?)?»;",
            "let id = id_of(add, first.used.operation); match view.job(&id)? { Some(record) => record, None => { let record = Arc::new(Job::create(add.clone(), id, atom.stamp().now)); return Ok(Changes { record: Some(Record::Job(Arc::clone(&record))), ..Changes::default() }.answering(Stored { record, replayed: true })); } }",
        )],
    },
    Mutant {
        name: "another-users-payment",
        defect: "the key of a payment that is another user's by now answers with that one (R6)",
        caught_by: "store::the_key_of_a_record_that_is_another_users_is_a_conflict",
        changes: &[Replace(
            "kernel/payments.rs",
            "// A hand edit may have made it another user's since, or put another one in its place.\n        «is_the_same(&record, add)?;»",
            "{}",
        )],
    },
    Mutant {
        name: "bonus-forgotten-with-its-referrer",
        defect: "the bonus for a user is granted again when the referrer was removed by hand (W39)",
        caught_by: "store::a_bonus_is_granted_once_for_a_user_whose_referrer_was_removed",
        changes: &[Before(
            "kernel/referrals.rs",
            "let mut above = account_or_new(atom, *referrer, view)?;",
            "account.record.referral_bonus = 0;",
        )],
    },
    Mutant {
        name: "refund-of-what-was-never-credited",
        defect: "the refund of a payment that was approved by hand takes money (M3)",
        caught_by: "store::a_payment_approved_by_hand_is_neither_credited_nor_refunded",
        changes: &[Replace(
            "kernel/payments.rs",
            "let Some(decided) = «decided(&record, mark, atom)?» else {",
            "decided(&Payment { origin: PaymentOrigin::Here, ..record.as_ref().clone() }, mark, atom)?",
        )],
    },
    Mutant {
        name: "refund-credits",
        defect: "a refund credits instead of taking back",
        caught_by: "payments::a_refund_takes_the_credit_back",
        changes: &[Replace("kernel/payments.rs", "«spend(available, amount)?»)", "available.checked_add(amount)?")],
    },
    Mutant {
        name: "admin-forgotten",
        defect: "a decision does not keep who made it",
        caught_by: "payments::an_approval_credits",
        changes: &[Replace("kernel/payments.rs", "admin: «admin.or(payment.admin)»,", "payment.admin")],
    },
    Mutant {
        name: "opening-without-a-row",
        defect: "an imported balance writes no row (M3)",
        caught_by: "imports::an_imported_balance_opens_the_ledger",
        changes: &[Replace(
            "kernel/imports.rs",
            "let rows = «vec![post(atom, &mut account, posting)?]»;",
            "post(atom, &mut account, posting)?; Vec::new()",
        )],
    },
    Mutant {
        name: "imported-birthday-is-the-later",
        defect: "of two times of creation the later one is kept (M3)",
        caught_by: "imports::an_imported_balance_opens_the_ledger",
        changes: &[Replace(
            "kernel/imports.rs",
            "record.created_at = created_at.map_or(record.created_at, |at| «record.created_at.min(at)»);",
            "record.created_at.max(at)",
        )],
    },
];
