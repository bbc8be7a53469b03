//! Users, admin limits, and who brought whom.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "created-at-invented",
        defect: "`created_at` is invented at each read (W20)",
        caught_by: "users::created_at_is_stored_and_not_invented_at_each_read",
        changes: &[Replace(
            "serial/users.rs",
            "User::of(&account, policy)",
            "User { created_at: storage_core::Clock::now(&storage_core::SystemClock), ..User::of(&account, policy) }",
        )],
    },
    Mutant {
        name: "find-inserts",
        defect: "looking for a user creates them (W19)",
        caught_by: "users::finding_a_user_creates_nothing",
        changes: &[Replace(
            "serial/users.rs",
            "self.known(\"find_user\", user).await",
            "self.apply(Call::GetUser(user)).await.map(Some)",
        )],
    },
    Mutant {
        name: "unknown-user-refused",
        defect: "a language for an unknown user fails like a foreign key (W18)",
        caught_by: "users::choosing_a_language_creates_the_user",
        changes: &[Before(
            "kernel/users.rs",
            "let SetUserLanguage { user, language, key: _ } = set;",
            "if view.account(set.user)?.is_none() { return Err(storage_core::Error::not_found(\"user\", set.user).into()); }",
        )],
    },
    Mutant {
        name: "gift-again",
        defect: "every claim of the gift is the first (W33)",
        caught_by: "users::a_gift_is_claimed_once",
        changes: &[Replace("kernel/users.rs", "if «account.record.gift_claimed» {", "false")],
    },
    Mutant {
        name: "gift-replay-not-first",
        defect: "the replay of the first claim says that it was not the first (R6)",
        caught_by: "keys::a_replayed_gift_claim_answers_first_again",
        changes: &[Replace("kernel/users.rs", "first.used.answer == Answer::Gift(true)", "false")],
    },
    Mutant {
        name: "gift-leaves-updated-at",
        defect: "claiming the gift does not move `updated_at`",
        caught_by: "users::updated_at_moves_exactly_when_a_field_changes",
        changes: &[Replace(
            "kernel/users.rs",
            "account.record.gift_claimed = true;\n    account.record.updated_at = atom.stamp().now;",
            "account.record.gift_claimed = true;",
        )],
    },
    Mutant {
        name: "same-language-moves-updated-at",
        defect: "choosing the present language again moves `updated_at`",
        caught_by: "users::choosing_the_same_language_again_changes_nothing",
        changes: &[Replace("kernel/users.rs", "account.record.language.as_ref() == Some(language)", "false")],
    },
    Mutant {
        name: "default-language-fixed",
        defect: "a user's default language is `ru`, whatever the policy says (V12)",
        caught_by: "users::the_default_language_follows_the_policy",
        changes: &[Replace(
            "serial/users.rs",
            "policy.default_language.clone()",
            "storage_core::Policy::default().default_language",
        )],
    },
    Mutant {
        name: "users-by-text",
        defect: "users are listed by their number's text",
        caught_by: "users::users_are_listed_by_ascending_number",
        changes: &[Replace(
            "state.rs",
            "ascending(self.accounts.values().cloned(), after.as_ref(), most, |account| account.user)",
            "ascending(self.accounts.values().cloned(), after.map(|user| user.to_string()).as_ref(), most, |account| account.user.to_string())",
        )],
    },
    Mutant {
        name: "main-admin-limited",
        defect: "the main admin has a limit (V12)",
        caught_by: "admin_limits::the_main_admin_is_unlimited",
        changes: &[Replace("serial/admin_limits.rs", "policy.main_admin == Some(user)", "false")],
    },
    Mutant {
        name: "limit-of-zero-is-none",
        defect: "a limit of zero counts as none",
        caught_by: "admin_limits::a_limit_of_zero_is_a_limit",
        changes: &[Replace(
            "serial/admin_limits.rs",
            "unit.known(user)?.and_then(|account| account.admin_limit)",
            "unit.known(user)?.and_then(|account| account.admin_limit).filter(|limit| !limit.is_zero())",
        )],
    },
    Mutant {
        name: "spent-always-zero",
        defect: "what an admin spent is always 0 (W36)",
        caught_by: "admin_limits::spent_is_the_sum_of_all_prices",
        changes: &[Replace(
            "serial/admin_limits.rs",
            "Ok(unit.known(user)?.map_or(Total::ZERO, |account| account.spent))",
            "let _ = (unit, user); Ok(Total::ZERO)",
        )],
    },
    Mutant {
        name: "spent-of-kept-history",
        defect: "what an admin spent is the sum of the history that is still kept (W36)",
        caught_by: "admin_limits::spent_outlives_the_trimming_of_history",
        changes: &[Replace(
            "serial/admin_limits.rs",
            "Ok(unit.known(user)?.map_or(Total::ZERO, |account| account.spent))",
            "Ok(unit.history(user, None, usize::MAX)?.iter().map(|entry| entry.price).sum())",
        )],
    },
    Mutant {
        name: "remaining-ignores-spent",
        defect: "what is left of a limit is the limit",
        caught_by: "admin_limits::remaining_is_never_below_zero",
        changes: &[Replace("serial/admin_limits.rs", "spent(unit, user)?.left_of(limit)", "limit")],
    },
    Mutant {
        name: "limit-creates-nobody",
        defect: "a limit for an unknown user is lost (W18)",
        caught_by: "admin_limits::setting_a_limit_creates_the_user",
        changes: &[Before(
            "kernel/admin_limits.rs",
            "let mut account = account_or_new(atom, *user, view)?;",
            "if view.account(*user)?.is_none() { return Ok(Changes::default().answering(Acknowledged { replayed: false })); }",
        )],
    },
    Mutant {
        name: "referrals-stale",
        defect: "the list of referrals comes from a cache that nothing empties (W37)",
        caught_by: "referrals::a_list_of_referrals_is_never_stale",
        changes: &[Replace(
            "state.rs",
            "ascending(brought, after.cloned().map(Some).as_ref(), most, place)",
            "let known = switch::remember(referrer.to_string(), brought.clone().count()); ascending(brought.take(known), after.cloned().map(Some).as_ref(), most, place)",
        )],
    },
    Mutant {
        name: "oneself-brings-oneself",
        defect: "a user may bring themselves (W38)",
        caught_by: "referrals::nobody_brings_themselves",
        changes: &[
            Replace("serial/referrals.rs", "self.judge(\"set_referrer\", set.check())?", "()"),
            Replace("kernel/atom.rs", "call.check()?;", ""),
            Replace("kernel/referrals.rs", "user == referrer", "false"),
        ],
    },
    Mutant {
        name: "circle-closes",
        defect: "a circle of referrers is not looked for (W38)",
        caught_by: "referrals::circles_of_any_length_are_refused",
        changes: &[Replace("kernel/referrals.rs", "if «above == user» {", "false")],
    },
    Mutant {
        name: "circle-of-two-only",
        defect: "only a circle of two is seen (W38)",
        caught_by: "referrals::circles_of_any_length_are_refused",
        changes: &[Replace(
            "kernel/referrals.rs",
            "for above in «view.chain(referrer)?» {",
            "view.chain(referrer)?.into_iter().take(1).collect::<Vec<_>>()",
        )],
    },
    Mutant {
        name: "chain-without-limit",
        defect: "a chain of referrers may have 1,001 edges",
        caught_by: "referrals::a_chain_has_at_most_a_thousand_edges",
        changes: &[Replace(
            "kernel/referrals.rs",
            "may_bring(*user, *referrer, view)?;",
            "match may_bring(*user, *referrer, view) { Err(Halt::Refused(error)) if error.to_string().contains(\"1000\") => {} other => other? }",
        )],
    },
    Mutant {
        name: "chain-counted-upwards-only",
        defect: "an edge in the middle counts only the chain above it",
        caught_by: "referrals::joining_two_chains_counts_both",
        changes: &[Replace("kernel/referrals.rs", "view.height(user)? > MAX_REFERRAL_CHAIN - edges", "false")],
    },
    Mutant {
        name: "bonus-on-every-replay",
        defect: "the same referrer again grants the bonus again (W39)",
        caught_by: "referrals::the_bonus_is_granted_once_and_at_once",
        changes: &[
            Replace("serial/referrals.rs", "set.key.is_none()", "false"),
            Replace(
                "kernel/referrals.rs",
                "let changes = «Changes::default().settled_unchanged(atom, *user, Answer::Record)»;",
                "let mut above = account_or_new(atom, *referrer, view)?; if let Some(bonus) = bonus { above.record.set_quota(above.record.quota().add_bonus(*bonus)?); } Changes::of(above).settled(atom, *user, Answer::Record)",
            ),
        ],
    },
    Mutant {
        name: "bonus-never",
        defect: "the referrer's bonus is never granted (W39)",
        caught_by: "referrals::the_bonus_is_granted_once_and_at_once",
        changes: &[Replace(
            "kernel/referrals.rs",
            "above.record.set_quota(above.record.quota().add_bonus(count)?);",
            "let _ = above.record.quota().add_bonus(count)?;",
        )],
    },
    Mutant {
        name: "second-referrer-is-a-replay",
        defect: "another referrer is answered like the same again",
        caught_by: "referrals::the_first_referrer_stays",
        changes: &[
            Replace("serial/referrals.rs", "set.key.is_none()", "false"),
            Replace(
                "kernel/referrals.rs",
                "if let Some(record) = standing {\n        «record.judge_set(*referrer)?;»",
                "{}",
            ),
        ],
    },
    Mutant {
        name: "referrer-not-created",
        defect: "the referrer is not created (R2)",
        caught_by: "referrals::both_users_are_created",
        changes: &[Replace(
            "kernel/referrals.rs",
            "«(known.as_ref() != Some(&above)).then_some(above)»",
            "known.filter(|known| *known != above).map(|_| above)",
        )],
    },
    Mutant {
        name: "referrals-by-number",
        defect: "referrals come by number, not in order of arrival",
        caught_by: "referrals::referrals_come_in_order_of_arrival",
        changes: &[Replace(
            "state.rs",
            "account.referred_at.map(|since| Newest::new(since, account.user))",
            "Some(Newest::new(Timestamp::MIN, account.user))",
        )],
    },
    Mutant {
        name: "another-bonus-is-a-conflict",
        defect: "the same referrer with another bonus is a conflict",
        caught_by: "edges::the_same_referrer_with_another_bonus_is_a_replay",
        changes: &[
            Replace("serial/referrals.rs", "set.key.is_none()", "false"),
            Replace(
                "kernel/referrals.rs",
                "if let Some(record) = standing {\n        «record.judge_set(*referrer)?;»",
                "record.judge_set(*referrer)?; if bonus.is_some_and(|bonus| bonus.get() != record.bonus) { return Err(Error::conflict(\"referrer of user\", user, \"with another bonus\").into()); }",
            ),
        ],
    },
    Mutant {
        name: "circle-before-conflict",
        defect: "a circle that another referrer would close is told before the conflict with the first",
        caught_by: "edges::another_referrer_is_a_conflict_also_where_a_circle_would_close",
        changes: &[
            Replace("serial/referrals.rs", "set.key.is_none()", "false"),
            Replace(
                "kernel/referrals.rs",
                "if let Some(record) = standing {\n        «record.judge_set(*referrer)?;»",
                "may_bring(*user, *referrer, view)?; record.judge_set(*referrer)?;",
            ),
        ],
    },
    Mutant {
        name: "bonus-to-whom-was-brought",
        defect: "the bonus goes to the user who was brought (W39)",
        caught_by: "referrals::the_bonus_is_granted_once_and_at_once",
        changes: &[Replace(
            "kernel/referrals.rs",
            "above.record.set_quota(above.record.quota().add_bonus(count)?);",
            "account.record.set_quota(account.record.quota().add_bonus(count)?);",
        )],
    },
    Mutant {
        name: "referral-without-its-bonus",
        defect: "the answer does not say which bonus was granted",
        caught_by: "referrals::the_bonus_is_granted_once_and_at_once",
        changes: &[Replace("kernel/referrals.rs", "bonus: «account.record.referral_bonus» });", "0")],
    },
];
