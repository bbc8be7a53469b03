//! Limits that are one too small, and values that do not come back as they were.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "ids-of-199-bytes",
        defect: "an id of 200 bytes is refused (V3)",
        caught_by: "values::ids_of_two_hundred_bytes_are_kept",
        changes: &[Before(
            "kernel/jobs.rs",
            "let user = add.user;",
            "if add.job.as_ref().is_some_and(|id| id.as_str().len() > 199) { return Err(Error::invalid(\"job id\", \"is long\").into()); }",
        )],
    },
    Mutant {
        name: "keys-of-199-bytes",
        defect: "a key of 200 bytes is cut (V3)",
        caught_by: "keys::the_longest_key_is_a_key",
        changes: &[Replace(
            "kernel/decision.rs",
            "let key = «Some(KeyRecord { user, space: atom.space(), key: atom.key().clone(), used })»;",
            "let cut = atom.key().as_str().get(..198).and_then(|cut| cut.trim().parse().ok()); \
             Some(KeyRecord { user, space: atom.space(), key: cut.unwrap_or(atom.key().clone()), used })",
        )],
    },
    Mutant {
        name: "names-of-511-bytes",
        defect: "a name of 512 bytes is cut (V4)",
        caught_by: "values::names_of_512_bytes_are_kept",
        changes: &[Before(
            "kernel/jobs.rs",
            "let user = add.user;",
            "if add.model_name.as_str().len() > 511 { return Err(Error::invalid(\"model name\", \"is long\").into()); }",
        )],
    },
    Mutant {
        name: "notes-cut",
        defect: "a note of 8 KiB loses its last letter (V5)",
        caught_by: "values::notes_of_eight_kib_are_kept_and_never_cut",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = Arc::new(«Payment::create(add.clone(), id, atom.stamp().now)»);",
            "let mut payment = Payment::create(add.clone(), id, atom.stamp().now); if let Some(cut) = payment.notes.as_ref().and_then(|notes| notes.as_str().get(..8191)) { payment.notes = Some(cut.parse()?); } payment",
        )],
    },
    Mutant {
        name: "sixty-three-urls",
        defect: "of 64 URLs the last is lost (V6)",
        caught_by: "values::sixty_four_long_urls_are_kept",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = Arc::new(«changed»);",
            "let few = storage_core::ResultUrls::new(changed.result_urls.as_slice().iter().take(63).map(ToString::to_string))?; Job { result_urls: few, ..changed }",
        )],
    },
    Mutant {
        name: "language-lower-case",
        defect: "a language is kept in lower case (V7)",
        caught_by: "users::a_chosen_language_is_kept_as_written",
        changes: &[Replace(
            "kernel/users.rs",
            "account.record.language = Some(«language.clone()»);",
            "storage_core::Language::new(language.as_str().to_lowercase())?",
        )],
    },
    Mutant {
        name: "params-as-numbers",
        defect: "`-0.0` comes back as `0.0` (V8)",
        caught_by: "jobs::params_come_back_as_the_value_they_were",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = Arc::new(«Job::create(add.clone(), id, atom.stamp().now)»);",
            "let mut job = Job::create(add.clone(), id, atom.stamp().now); job.params = storage_core::Params::from_json(&job.params.as_json().replace(\"-0.0\", \"0.0\"))?; job",
        )],
    },
    Mutant {
        name: "times-in-milliseconds",
        defect: "times are kept to the millisecond (V9)",
        caught_by: "values::times_from_1970_to_9999_are_kept_to_the_microsecond",
        changes: &[Replace(
            "kernel/atom.rs",
            "let stamp = «environment.stamp()»;",
            "let stamp = environment.stamp(); Stamp { now: storage_core::Timestamp::from_micros(stamp.now.micros() / 1000 * 1000)?, ..stamp }",
        )],
    },
    Mutant {
        name: "own-clock",
        defect: "the machine's clock is read, not the store's (V11)",
        caught_by: "values::time_and_ids_come_from_the_environment",
        changes: &[Replace(
            "kernel/atom.rs",
            "let stamp = «environment.stamp()»;",
            "Stamp { now: storage_core::Clock::now(&storage_core::SystemClock), ..environment.stamp() }",
        )],
    },
    Mutant {
        name: "own-ids",
        defect: "ids are minted beside the store's source (V11)",
        caught_by: "values::time_and_ids_come_from_the_environment",
        changes: &[Replace(
            "kernel/atom.rs",
            "let stamp = «environment.stamp()»;",
            "Stamp { operation: storage_core::IdSource::next_id(&storage_core::SystemIds), ..environment.stamp() }",
        )],
    },
    Mutant {
        name: "page-of-999",
        defect: "a page of 1,000 holds 999 (V10)",
        caught_by: "edges::a_page_of_a_thousand_holds_a_thousand",
        changes: &[Replace(
            "serial/page.rs",
            "let rows = rows(after.as_ref(), request.size.get() + 1)?;\n    Ok(Page::from_surplus(rows, request.size, filter, position))",
            "let size = if request.size.get() > 999 { storage_core::PageSize::new(999)? } else { request.size }; Ok(Page::from_surplus(rows(after.as_ref(), size.get() + 1)?, size, filter, position))",
        )],
    },
    Mutant {
        name: "empty-is-absent",
        defect: "an empty note is none",
        caught_by: "values::absent_and_empty_are_two",
        changes: &[Replace(
            "kernel/payments.rs",
            "let record = Arc::new(«Payment::create(add.clone(), id, atom.stamp().now)»);",
            "let payment = Payment::create(add.clone(), id, atom.stamp().now); Payment { notes: payment.notes.filter(|notes| !notes.as_str().is_empty()), ..payment }",
        )],
    },
    Mutant {
        name: "groups-refused",
        defect: "a group, whose number is negative, is no user (V1)",
        caught_by: "users::a_group_is_a_user",
        changes: &[Before(
            "kernel/balances.rs",
            "let AddBalance { user, amount, memo, key: _ } = add;",
            "if add.user.get() < 0 { return Err(storage_core::Error::invalid(\"user id\", \"must be positive\").into()); }",
        )],
    },
    Mutant {
        name: "bonus-of-less-than-a-million",
        defect: "the largest bonus is refused",
        caught_by: "free_generations::a_bonus_fills_the_bank",
        changes: &[Before(
            "kernel/free_generations.rs",
            "let AddReferralBonus { referrer, count, key: _ } = bonus;",
            "if bonus.count.get() >= 1_000_000 { return Err(Error::invalid(\"bonus\", \"is large\").into()); }",
        )],
    },
];
