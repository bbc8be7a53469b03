//! Balances, languages, gifts, quotas, admin limits.

use super::*;

#[test]
fn balances_in_every_shape() {
    let legacy = one("user_balances.json", r#"{"1001": 12.5, "1002": 3, "1003": "7.25", "-5": 0.0}"#);
    let expected = [(1001, "12.5"), (1002, "3"), (1003, "7.25"), (-5, "0")].map(|(id, balance)| {
        let (user, balance) = (user(id), money(balance));
        ImportRecord::Balance { user, balance, created_at: None }
    });
    assert_eq!(records(&legacy), expected.iter().collect::<Vec<_>>());
    assert_eq!((legacy.report.users, legacy.report.balance_sum), (4, "22.75".parse().unwrap()));

    let document = r#"{"users":{"1001":{"balance":12.5,"created_at":"2026-01-15T10:00:00","updated_at":"2026-01-15T10:05:00","username":"u","first_name":"A","last_name":"B"}},"metadata":{"bot_id":"77","bot_file":"user_balances_bot_77.json","version":"1.0","created_at":"2026-01-15T09:00:00","updated_at":"2026-01-15T10:05:00","description":"x","processed_updates":{"5":{"processed_at":"2026-01-15T10:00:00","worker_id":"w","update_type":"message"}}},"referrals":{"1002":"1001"},"referral_bonuses":{"1001":5},"free_usage":[{"user_id":1001,"model_id":"m","job_id":"j1","created_at":"2026-01-15T10:00:00"}]}"#;
    for name in ["user_balances.json", "user_balances_bot_77.json"] {
        let legacy = one(name, document);
        assert_eq!(refused(&legacy), []);
        assert_eq!(
            records(&legacy),
            [
                &ImportRecord::Balance {
                    user: user(1001),
                    balance: money("12.5"),
                    created_at: Some(at("2026-01-15T10:00:00Z"))
                },
                &ImportRecord::Quota { user: user(1001), date: Some("2026-01-15".parse().unwrap()), used: 1, bank: 5 },
                &ImportRecord::Referral { user: user(1002), referrer: user(1001), since: None },
            ]
        );
        assert_eq!(notes(&legacy), ["-: metadata/processed_updates has no counterpart here and was left alone"]);
        assert_eq!(legacy.report.users, 2);
    }
}

#[test]
fn bad_balances_are_refused_by_name_and_create_nobody() {
    let text = r#"{"1": NaN, "2": Infinity, "3": -Infinity, "4": -5.0, "5": 1e400, "6": 1000000000000, "7": null,
        "8": true, "9": "x", "10": [1], "0": 1, "abc": 1, "007": 1, "1.5": 1, "11": -0.0, "12": 999999999999.999999, "13": {}}"#;
    let legacy = one("user_balances.json", text);
    let too_much = "balance: must be at most 999999999999.999999";
    assert_eq!(
        refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason)).collect::<Vec<_>>(),
        [
            ("1", "balance: must be a finite number, not NaN"),
            ("2", "balance: must be a finite number, not Infinity"),
            ("3", "balance: must be a finite number, not -Infinity"),
            ("4", "balance: must not be negative"),
            ("5", too_much),
            ("6", too_much),
            ("7", "balance: is missing"),
            ("8", "balance: must be a number, not a truth value"),
            ("9", "balance: must be a decimal number"),
            ("10", "balance: must be a number, not a list"),
            ("0", "user id: must not be 0"),
            ("abc", "user id: must be a whole number other than 0"),
            ("007", "user id: must be a whole number without a sign or zeros in front"),
            ("1.5", "user id: must be a whole number other than 0"),
            ("13", "balance: is missing"),
        ]
    );
    assert_eq!((legacy.report.users, legacy.records.len()), (2, 2));
    assert_eq!(legacy.report.balance_sum, Total::from(Money::MAX));
    let digits = format!("{{\"1\": {}, \"2\": 0.{}}}", "7".repeat(400), "3".repeat(398));
    let legacy = one("user_balances.json", &digits);
    assert_eq!(refused(&legacy), [("user_balances.json", "1", too_much)]);
    assert_eq!((legacy.report.balance_sum, legacy.report.rounded), ("0.333333".parse().unwrap(), 1));
}

#[test]
fn residues_are_rounded_counted_and_listed() {
    let legacy = legacy(&[
        ("user_balances.json", r#"{"1": 2402.2999999999997, "2": 0.30000000000000004, "3": 5.5, "4": -0.0000001}"#),
        ("admin_limits.json", r#"{"1": {"limit": 100.00000001, "spent": 3.4999999999}}"#),
        (
            "payments.json",
            r#"{"p": {"user_id": 1, "amount": 99.90000000000001, "status": "pending", "created_at": 1}}"#,
        ),
        (
            "generation_jobs.json",
            r#"{"j": {"user_id": 1, "model_id": "m", "model_name": "M", "params": {}, "price": 1.10000000000001, "status": "done", "created_at": 1}}"#,
        ),
        (
            "generations_history.json",
            r#"{"1": [{"id": "a", "model_id": "m", "model_name": "M", "params": {}, "price": 0.1000000001, "timestamp": 1}]}"#,
        ),
    ]);
    assert_eq!(legacy.report.rounded, 7);
    assert_eq!(legacy.report.balance_sum, "2408.1".parse().unwrap());
    let first = &legacy.report.roundings[0];
    assert_eq!((&*first.key, &*first.from, first.to), ("1", "2402.2999999999997", money("2402.3")));
    assert_eq!(refused(&legacy), [("user_balances.json", "4", "balance: must not be negative")]);
}

#[test]
fn one_user_in_two_files_of_balances() {
    let legacy = legacy(&[
        ("user_balances.json", r#"{"1": 5, "2": NaN, "3": 1}"#),
        ("user_balances_bot_1.json", r#"{"1": 5.00, "2": 7, "3": 2}"#),
    ]);
    assert_eq!(
        refused(&legacy),
        [
            ("user_balances.json", "2", "balance: must be a finite number, not NaN"),
            ("user_balances_bot_1.json", "3", "balance: user_balances.json gives 1.00 to the same user"),
        ]
    );
    assert_eq!(legacy.report.balance_sum, "13".parse().unwrap());
    assert_eq!(notes(&legacy), ["1: user_balances.json holds the same balance already"]);
}

#[test]
fn languages_and_gifts() {
    let legacy = one("user_languages.json", r#"{"1001":"ru","1002":"pt-br","1003":"r","1004":null,"1005":7}"#);
    assert_eq!(legacy.records.len(), 2);
    assert_eq!(
        refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason)).collect::<Vec<_>>(),
        [
            ("1003", "language: must be a tag of 2 to 35 ASCII letters, digits, hyphens"),
            ("1005", "language: must be a text, not a number"),
        ]
    );
    let legacy = one("gift_claimed.json", r#"{"1001":true,"1002":false,"1003":null,"1004":1}"#);
    assert_eq!(records(&legacy), [&ImportRecord::Gift { user: user(1001) }]);
    assert_eq!(refused(&legacy), [("gift_claimed.json", "1004", "gift: must be true or false, not a number")]);
}

#[test]
fn quotas_of_all_files_come_together() {
    let legacy = legacy(&[
        (
            "daily_free_generations.json",
            r#"{"1001":{"date":"2025-12-20","count":2,"bonus":5},"1002":5.0,"1003":{"date":"2025-12-20","count":1},
                "1":{"count":-1},"2":{"count":1.5},"3":{"date":"soon"},"4":5.5,"5":[],"6":{"bonus":1000000000001},"7":{"count":3}}"#,
        ),
        ("referral_free_bank.json", r#"{"1001":10,"1004":1000000000000}"#),
    ]);
    let quota = |id, date: Option<&str>, used, bank| ImportRecord::Quota {
        user: user(id),
        date: date.map(|date| date.parse().unwrap()),
        used,
        bank,
    };
    let expected = [
        quota(7, None, 0, 0),
        quota(1001, Some("2025-12-20"), 2, 15),
        quota(1002, None, 0, 5),
        quota(1003, Some("2025-12-20"), 1, 0),
        quota(1004, None, 0, 1_000_000_000_000),
    ];
    assert_eq!(records(&legacy), expected.iter().collect::<Vec<_>>());
    assert_eq!(
        refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason)).collect::<Vec<_>>(),
        [
            ("1", "count: must not be negative"),
            ("2", "count: must be a whole number"),
            ("3", "date: must be a date such as 2026-01-15"),
            ("4", "bonus: must be a whole number"),
            ("5", "record: must be an object, not a list"),
            ("6", "bonus: the bank must hold at most 1000000000000"),
        ]
    );
}

#[test]
fn admin_limits_and_what_was_spent() {
    let history = |price| {
        format!(
            r#"[{{"id":"a","model_id":"m","model_name":"M","params":{{}},"result_urls":[],"price":{price},"timestamp":1}}]"#
        )
    };
    let legacy = legacy(&[
        (
            "admin_limits.json",
            r#"{"1003":{"limit":100.0,"spent":3.5,"added_by":1,"added_at":1766000000},"1004":{"limit":50},"1005":{"spent":-1},"1006":{"added_by":1}}"#,
        ),
        (
            "generations_history.json",
            &format!(r#"{{"1003":{},"1004":{},"1007":{}}}"#, history("7"), history("1.5"), history("0")),
        ),
    ]);
    let spent: Vec<_> =
        records(&legacy).into_iter().filter(|r| matches!(r, ImportRecord::Spent { .. })).cloned().collect();
    let expected = [(1003, "3.5"), (1004, "1.5")]
        .map(|(id, spent)| ImportRecord::Spent { user: user(id), spent: spent.parse().unwrap() });
    assert_eq!(spent, expected);
    assert_eq!(records(&legacy)[0], &ImportRecord::AdminLimit { user: user(1003), limit: money("100") });
    assert_eq!(records(&legacy)[1], &ImportRecord::AdminLimit { user: user(1004), limit: money("50") });
    assert_eq!(refused(&legacy), [("admin_limits.json", "1005", "spent: must not be negative")]);
}
