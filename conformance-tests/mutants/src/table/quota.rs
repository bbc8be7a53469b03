//! Free generations, and the history of generations.

use super::Change::Replace;
use super::Mutant;

/// Where a free generation is taken.
const TAKE: &str = "account.record.quota().take(policy.today(atom.stamp().now), policy.daily_free_generations)?";
/// Where a bonus goes into the bank.
const BONUS: &str = "account.record.quota().add_bonus(*count)?";
/// Where a take is given back.
const BACK: &str = "account.record.quota().give_back(taken.source)?";
/// How much of the history stays beside a new entry.
const KEPT: &str = "trim: Some(«Trim::Before(policy.history.limit() - 1)»),";

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "one-generation-too-many",
        defect: "six of five free generations are given (W32)",
        caught_by: "free_generations::the_sixth_of_five_is_refused_and_leaves_nothing",
        changes: &[Replace(
            "kernel/free_generations.rs",
            TAKE,
            "account.record.quota().take(policy.today(atom.stamp().now), policy.daily_free_generations + 1)?",
        )],
    },
    Mutant {
        name: "bank-resets-at-midnight",
        defect: "a bonus is lost at midnight (W34)",
        caught_by: "free_generations::the_bank_stays_over_midnight",
        changes: &[Replace(
            "kernel/free_generations.rs",
            TAKE,
            "let (mut quota, today) = (account.record.quota(), policy.today(atom.stamp().now)); \
             if quota.date.is_some_and(|date| date != today) { quota.bank = 0; } \
             quota.take(today, policy.daily_free_generations)?",
        )],
    },
    Mutant {
        name: "bank-first",
        defect: "the bank is emptied before today's quota",
        caught_by: "free_generations::quota_first_then_bank_then_exhausted",
        changes: &[Replace(
            "kernel/free_generations.rs",
            TAKE,
            "let quota = account.record.quota(); match quota.bank.checked_sub(1) { \
             Some(bank) => (Quota { bank, ..quota }, QuotaSource::Bank), \
             None => quota.take(policy.today(atom.stamp().now), policy.daily_free_generations)? }",
        )],
    },
    Mutant {
        name: "bonus-for-today-only",
        defect: "a bonus raises today's quota and leaves the bank (W34)",
        caught_by: "free_generations::a_bonus_fills_the_bank",
        changes: &[Replace(
            "kernel/free_generations.rs",
            BONUS,
            "let (quota, today) = (account.record.quota(), policy.today(atom.stamp().now)); \
             Quota { used: quota.used_on(today).saturating_sub(count.get()), date: Some(today), ..quota }",
        )],
    },
    Mutant {
        name: "bank-without-limit",
        defect: "a bank may hold more than its limit",
        caught_by: "free_generations::a_bank_has_a_limit",
        changes: &[Replace(
            "kernel/free_generations.rs",
            BONUS,
            "let quota = account.record.quota(); Quota { bank: quota.bank + u64::from(count.get()), ..quota }",
        )],
    },
    Mutant {
        name: "bank-one-less",
        defect: "a bank holds one less than its limit",
        caught_by: "free_generations::a_bank_has_a_limit",
        changes: &[Replace(
            "kernel/free_generations.rs",
            BONUS,
            "let quota = account.record.quota().add_bonus(*count)?; \
             if quota.bank >= storage_core::MAX_BANK { return Err(Error::invalid(\"bank\", \"is full\").into()); } quota",
        )],
    },
    Mutant {
        name: "keyed-bonus-twice",
        defect: "a bonus with a key is granted at every repeat (W39)",
        caught_by: "free_generations::a_keyed_bonus_is_granted_once",
        changes: &[Replace(
            "kernel/free_generations.rs",
            "if let Some(first) = «first(atom, *referrer, view)?» {",
            "None::<First>",
        )],
    },
    Mutant {
        name: "today-in-utc",
        defect: "\"today\" is the date in UTC, whatever the policy's zone (W35)",
        caught_by: "free_generations::today_is_the_date_in_the_policys_zone",
        changes: &[Replace(
            "serial/free_generations.rs",
            "let today = «policy.today(now)»;",
            "storage_core::TimeZone::UTC.date_of(now)",
        )],
    },
    Mutant {
        name: "quota-fixed",
        defect: "the daily quota that is shown is 5, whatever the policy says (V12)",
        caught_by: "free_generations::the_quota_follows_the_policy",
        changes: &[Replace("serial/free_generations.rs", "Ok(quota.remaining_on(today, «daily»))", "5")],
    },
    Mutant {
        name: "take-given-back-twice",
        defect: "a take is given back at every repeat",
        caught_by: "free_generations::a_take_is_given_back_once",
        changes: &[Replace(
            "kernel/free_generations.rs",
            "if let Some(first) = «first(atom, *user, view)?» {\n        return replay(&first);",
            "None::<First>",
        )],
    },
    Mutant {
        name: "given-back-to-today",
        defect: "a take of yesterday is given back to today's quota",
        caught_by: "free_generations::a_take_of_yesterday_changes_nothing_today",
        changes: &[Replace(
            "kernel/free_generations.rs",
            BACK,
            "account.record.quota().give_back(match taken.source { \
             QuotaSource::Day(_) => QuotaSource::Day(policy.today(atom.stamp().now)), bank => bank })?",
        )],
    },
    Mutant {
        name: "bank-take-given-back-to-the-day",
        defect: "a take from the bank is given back to today's quota",
        caught_by: "free_generations::a_bank_take_goes_back_to_the_bank",
        changes: &[Replace(
            "kernel/free_generations.rs",
            BACK,
            "account.record.quota().give_back(QuotaSource::Day(policy.today(atom.stamp().now)))?",
        )],
    },
    Mutant {
        name: "returned-key-takes-again",
        defect: "the key of a take that was given back answers like the take",
        caught_by: "free_generations::the_key_of_a_returned_take_is_used_up_for_good",
        changes: &[Replace(
            "kernel/free_generations.rs",
            "return Err(Error::transition(\"operation key\", key, \"returned\", \"taken\").into());",
            "return replay(&first);",
        )],
    },
    Mutant {
        name: "unknown-take-is-a-conflict",
        defect: "giving an unknown take back is `Conflict`, not `NotFound` (R8)",
        caught_by: "free_generations::returning_an_unknown_take_is_not_found",
        changes: &[Replace(
            "kernel/free_generations.rs",
            "Error::not_found(\"operation key\", take)",
            "Error::conflict(\"operation key\", take, \"no quota was taken with it\")",
        )],
    },
    Mutant {
        name: "history-ties",
        defect: "of two generations of one moment the later one is left out of the second page (W27)",
        caught_by: "history::a_history_is_paged_without_gap_or_repeat",
        changes: &[Replace(
            "state.rs",
            "descending(self.history.get(&user).into_iter().flatten(), after, most, place_of)",
            "let later = |entry: &&Arc<Generation>| after.is_none_or(|after| entry.at != after.at); descending(self.history.get(&user).into_iter().flatten().filter(later), after, most, place_of)",
        )],
    },
    Mutant {
        name: "history-ties-reversed",
        defect: "of two generations of one moment the smaller id comes first (W27)",
        caught_by: "history::the_newest_comes_first_and_ties_go_by_bytes",
        changes: &[Replace(
            "state.rs",
            "descending(self.history.get(&user).into_iter().flatten(), after, most, place_of)",
            "let place = |entry: &Arc<Generation>| (std::cmp::Reverse(entry.at), entry.id.clone()); let after = after.map(|after| (std::cmp::Reverse(after.at), after.id.clone())); ascending(self.history.get(&user).into_iter().flatten().cloned(), after.as_ref(), most, place)",
        )],
    },
    Mutant {
        name: "generation-id-lost",
        defect: "the caller's id of a generation is replaced (W28)",
        caught_by: "history::a_generation_is_kept_whole",
        changes: &[Replace(
            "kernel/history.rs",
            "id: «id.clone()»,",
            "GenerationId::new(atom.stamp().operation.to_string())?",
        )],
    },
    Mutant {
        name: "model-id-lost",
        defect: "the model's id is replaced by its name (W28)",
        caught_by: "history::a_generation_is_kept_whole",
        changes: &[Replace("kernel/history.rs", "model_id: «model_id.clone()»,", "model_name.as_str().parse()?")],
    },
    Mutant {
        name: "history-params-cut",
        defect: "long params are cut into unreadable text (W31)",
        caught_by: "history::long_params_come_back_whole",
        changes: &[Replace(
            "kernel/history.rs",
            "params: «params.clone()»,",
            "let cut: String = params.as_json().chars().take(500).collect(); \
             if cut == params.as_json() { params.clone() } \
             else { storage_core::Params::from_json(&format!(\"{cut:?}\")).unwrap_or(params.clone()) }",
        )],
    },
    Mutant {
        name: "recorded-twice",
        defect: "the same generation is recorded at every repeat (W30)",
        caught_by: "history::the_same_id_again_is_recorded_once",
        changes: &[Replace(
            "kernel/history.rs",
            "if let Some(first) = «first(atom, *user, view)?» {",
            "None::<super::keys::First>",
        )],
    },
    Mutant {
        name: "trimmed-id-forgotten",
        defect: "the id of a trimmed generation is forgotten (W30)",
        caught_by: "history::ids_outlive_the_trimming",
        changes: &[Replace(
            "state.rs",
            "Ok(«self.keys.get(&(user, space, key.clone()))».cloned())",
            "self.keys.get(&(user, space, key.clone())).filter(|_| space != KeySpace::Generation \
             || self.history.get(&user).into_iter().flatten().any(|entry| entry.id.as_str() == key.as_str()))",
        )],
    },
    Mutant {
        name: "generation-conflict-not-found",
        defect: "a generation's id with other arguments is `NotFound`, not `Conflict` (R8)",
        caught_by: "history::the_same_id_with_other_arguments_is_a_conflict",
        changes: &[Replace(
            "kernel/keys.rs",
            "Error::conflict(\"generation\", key, \"it was recorded with other arguments\")",
            "Error::not_found(\"generation\", key)",
        )],
    },
    Mutant {
        name: "replayed-price-counts",
        defect: "the repeat of a generation adds its price again (W36)",
        caught_by: "history::the_same_id_again_is_recorded_once",
        changes: &[Replace(
            "kernel/history.rs",
            "return Ok(«Changes::default()».answering(GenerationReceipt { id, replayed: first.replayed }));",
            "let mut account = account_or_new(atom, *user, view)?; account.record.spend(*price)?; Changes::of(account)",
        )],
    },
    Mutant {
        name: "one-entry-less",
        defect: "one entry less is kept than the policy says",
        caught_by: "history::the_newest_hundred_are_kept",
        changes: &[Replace("kernel/history.rs", KEPT, "Trim::Before(policy.history.limit().saturating_sub(2))")],
    },
    Mutant {
        name: "one-entry-more",
        defect: "one entry more is kept than the policy says",
        caught_by: "history::retention_follows_the_policy_for_each_user",
        changes: &[Replace("kernel/history.rs", KEPT, "Trim::Before(policy.history.limit())")],
    },
    Mutant {
        name: "oldest-kept",
        defect: "the newest entry is trimmed, not the oldest",
        caught_by: "history::the_newest_hundred_are_kept",
        changes: &[Replace(
            "state.rs",
            "if let Some(Trim::Before(kept)) = trim {\n            «entries.truncate(kept);»",
            "if entries.len() > kept { entries.remove(0); }",
        )],
    },
    Mutant {
        name: "trimmed-as-it-comes",
        defect: "a generation that is recorded while the clock stands back is trimmed at once (V12)",
        caught_by: "clocks::the_generation_just_recorded_stays_when_the_clock_went_back",
        changes: &[Replace("kernel/history.rs", KEPT, "Trim::After(policy.history.limit())")],
    },
    Mutant {
        name: "import-pushes-out",
        defect: "an imported generation that is older than all pushes a newer one out (V12)",
        caught_by: "clocks::an_imported_generation_older_than_those_kept_goes",
        changes: &[Replace(
            "kernel/imports.rs",
            "trim: Some(«Trim::After(policy.history.limit())»),",
            "Trim::Before(policy.history.limit() - 1)",
        )],
    },
    Mutant {
        name: "clock-back-renews",
        defect: "a clock that goes back and forward gives a day's quota twice (V11)",
        caught_by: "clocks::a_clock_that_goes_back_and_forward_gives_no_quota_twice",
        changes: &[Replace(
            "kernel/free_generations.rs",
            TAKE,
            "let (mut quota, today) = (account.record.quota(), policy.today(atom.stamp().now)); \
             if quota.date.is_some_and(|date| date > today) { (quota.date, quota.used) = (None, 0); } \
             quota.take(today, policy.daily_free_generations)?",
        )],
    },
    Mutant {
        name: "clock-back-shows-a-whole-day",
        defect: "while the clock stands back the whole quota seems to be left (V11)",
        caught_by: "clocks::a_clock_that_goes_back_and_forward_gives_no_quota_twice",
        changes: &[Replace(
            "serial/free_generations.rs",
            "Ok(quota.remaining_on(today, «daily»))",
            "if quota.date.is_some_and(|date| date > today) { daily + quota.used } else { daily }",
        )],
    },
    Mutant {
        name: "day-zero-is-none",
        defect: "what was taken on 1970-01-01 is not counted (V9)",
        caught_by: "clocks::the_first_day_of_1970_is_a_day_like_others",
        changes: &[Replace(
            "kernel/free_generations.rs",
            TAKE,
            "let mut quota = account.record.quota(); \
             if quota.date == Some(storage_core::CivilDate::from_days(0)) { quota.date = None; } \
             quota.take(policy.today(atom.stamp().now), policy.daily_free_generations)?",
        )],
    },
    Mutant {
        name: "remaining-before-in-receipt",
        defect: "the receipt of a take counts it as still there",
        caught_by: "free_generations::quota_first_then_bank_then_exhausted",
        changes: &[Replace(
            "kernel/free_generations.rs",
            "let remaining_after = «quota.remaining_on(policy.today(atom.stamp().now), policy.daily_free_generations)»;",
            "quota.remaining_on(policy.today(atom.stamp().now), policy.daily_free_generations) + u64::from(source != QuotaSource::Bank)",
        )],
    },
];
