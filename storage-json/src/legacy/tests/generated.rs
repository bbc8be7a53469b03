//! Whole directories of the generator.

use std::collections::HashSet;
use std::process::Command;

use serde_json::Value;

use super::*;

/// Runs the generator and answers what it printed.
fn generated(shape: &str, seed: u32, users: u32) -> (Dir, Value) {
    let dir = Dir::of(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/legacy/make_legacy.py");
    let output = Command::new("python3")
        .args([script, &dir.path("data").to_string_lossy(), "--shape", shape])
        .args(["--seed", &seed.to_string(), "--users", &users.to_string()])
        .output()
        .expect("python3 is needed for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (dir, serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn generated_directories_add_up() {
    for shape in ["unified", "bot", "mixed"] {
        for seed in 1..=5 {
            let (dir, printed) = generated(shape, seed, 300);
            let legacy = read(&dir.path("data"), &ReadOptions::new(at(NOW)), &mut |_| {}).unwrap();
            check(&legacy, &printed, shape == "mixed");
        }
    }
}

fn check(legacy: &Legacy, printed: &Value, mixed: bool) {
    let report = &legacy.report;
    let count = |is: fn(&ImportRecord) -> bool, file: &str, name: &str| {
        let good = legacy.records.iter().filter(|r| is(&r.record)).count();
        let bad = report.refused.iter().filter(|r| r.file == file).count();
        assert_eq!(Some(u64::try_from(good + bad).unwrap()), printed[name].as_u64(), "{name} of {printed}");
        bad
    };
    assert_eq!(
        count(|r| matches!(r, ImportRecord::Balance { .. }), "user_balances.json", "balances"),
        usize::from(mixed) * 2
    );
    assert_eq!(count(|r| matches!(r, ImportRecord::Language { .. }), "user_languages.json", "languages"), 0);
    assert_eq!(count(|r| matches!(r, ImportRecord::Gift { .. }), "gift_claimed.json", "gifts"), 0);
    assert_eq!(count(|r| matches!(r, ImportRecord::Quota { .. }), "daily_free_generations.json", "quotas"), 0);
    assert_eq!(count(|r| matches!(r, ImportRecord::AdminLimit { .. }), "admin_limits.json", "admin_limits"), 0);
    let generation = |r: &ImportRecord| matches!(r, ImportRecord::Generation { .. });
    assert_eq!(count(generation, "generations_history.json", "history_records"), 0);
    assert_eq!(count(|r| matches!(r, ImportRecord::Payment(_)), "payments.json", "payments"), 0);
    count(|r| matches!(r, ImportRecord::Job(_)), "generation_jobs.json", "jobs");
    assert_eq!(report.balance_sum, printed["sum_of_valid_balances"].as_str().unwrap().parse().unwrap());
    let amounts: Total = legacy
        .records
        .iter()
        .filter_map(|r| match &r.record {
            ImportRecord::Payment(payment) => Some(payment.amount.money()),
            _ => None,
        })
        .sum();
    assert_eq!(amounts, printed["payments_amount"].as_str().unwrap().parse().unwrap());
    let ids: HashSet<_> = legacy
        .records
        .iter()
        .filter_map(|r| match &r.record {
            ImportRecord::Generation { user, generation } => Some((*user, generation.id.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(u64::try_from(ids.len()).unwrap(), report.history_records, "ids are unique for the user");
    if !mixed {
        assert_eq!(report.refused, []);
        assert_eq!(Some(report.users), printed["balances"].as_u64());
        return;
    }
    let of = |file: &str| report.refused.iter().filter(|r| r.file == file).collect::<Vec<_>>();
    let balances: Vec<_> = of("user_balances.json").iter().map(|r| (&*r.key, &*r.reason)).collect();
    assert_eq!(
        balances,
        [("10000007", "balance: must be a finite number, not NaN"), ("10000014", "balance: must not be negative")]
    );
    assert!(of("generation_jobs.json").iter().all(|r| r.reason == "status: the word \"teleported\" is unknown"));
    let referrals: Vec<_> = of("referrals.json").iter().map(|r| (&*r.key, &*r.reason)).collect();
    assert_eq!(
        referrals,
        [
            ("10000021", "referrer: must not be the user itself"),
            ("10000028", "referrer: closes a circle (10000028 -> 10000035 -> 10000028)"),
            ("10000035", "referrer: closes a circle (10000035 -> 10000028 -> 10000035)"),
        ]
    );
    assert!(report.rounded > 0 && report.notes.iter().any(|n| n.note.contains("no created_at: ")));
    assert!(!report.unsettled.is_empty());
    assert!(report.unsettled.iter().all(|unsettled| unsettled.file == "blocked_users.json"));
}
