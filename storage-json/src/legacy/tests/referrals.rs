//! Referrals, circles, stale lists.

use super::*;

#[test]
fn referrals_in_both_shapes() {
    let legacy = one(
        "referrals.json",
        r#"{"1002":{"referred_by":1001,"referred_at":1766000000},"1001":{"referred_users":[1002]}}"#,
    );
    let since = Some(at("2025-12-17T19:33:20Z"));
    assert_eq!(only(&legacy), &ImportRecord::Referral { user: user(1002), referrer: user(1001), since });
    assert_eq!((notes(&legacy), legacy.report.users), (vec![], 2));

    let legacy = one(
        "referrals.json",
        r#"{"1002":1001,"referrals":{"1001":[1002, 1003], "1005": [1002, 1005, 1006, 0]},"1004":0,"1006":0,"1007":null,"1008":"1001"}"#,
    );
    assert_eq!(edges(&legacy), [(1002, 1001), (1003, 1001), (1008, 1001)]);
    assert_eq!(
        notes(&legacy),
        [
            "1004: the referrer 0 stands for none",
            "1006: the referrer 0 stands for none",
            "referrals/1005/1: a stale entry of a list: the user's own record says otherwise",
            "referrals/1005/3: a stale entry of a list: the user's own record says otherwise",
            "referrals/1001/2: only a list names this referrer, which was taken",
        ]
    );
    assert_eq!(
        refused(&legacy),
        [
            ("referrals.json", "referrals/1005/4", "referred user: must not be 0"),
            ("referrals.json", "referrals/1005/2", "referrer: must not be the user itself"),
        ]
    );
}

#[test]
fn events_of_referrals_fill_in() {
    let event = |referred: i64, referrer: i64| {
        format!(
            r#""default:{referred}": {{"partner_id":"default","referrer_id":{referrer},"referred_user_id":{referred},"ref_param":"x","bonus":10,"created_at":"2026-01-23T10:00:00+00:00","awarded_at":"2026-01-23T10:00:01+00:00"}}"#
        )
    };
    let events = format!(r#"{{"events":{{{},{},{}}}}}"#, event(1002, 1001), event(1003, 1001), event(1004, 1001));
    let legacy = legacy(&[
        ("referrals.json", r#"{"1002":1001,"1003":1009,"referrals":{"1008":[1004]}}"#),
        ("referral_events.json", &events),
    ]);
    assert_eq!(edges(&legacy), [(1002, 1001), (1003, 1009), (1004, 1001)]);
    let since = Some(at("2026-01-23T10:00:00Z"));
    assert_eq!(records(&legacy)[0], &ImportRecord::Referral { user: user(1002), referrer: user(1001), since });
    assert_eq!(notes(&legacy).len(), 2);
}

#[test]
fn oneself_and_every_edge_of_a_circle_are_refused() {
    let legacy = one(
        "referrals.json",
        r#"{"1":1,"2":3,"3":2,"4":2,"5":{"referred_by":6},"6":7,"7":"5","8":5,"9":"x","10":{"referred_by":11,"referred_at":"x"},
            "referrals":{"99":[1,9,10],"21":[22],"22":[23],"23":[21]},"21":20}"#,
    );
    let found: Vec<_> = refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason)).collect();
    assert_eq!(found[0], ("1", "referrer: must not be the user itself"));
    assert_eq!(found[1], ("9", "referrer: must be a whole number other than 0"));
    assert_eq!(found[2].0, "10");
    assert!(found[2].1.starts_with("referred_at: must be an ISO 8601 time"), "{}", found[2].1);
    assert_eq!(
        found[3..],
        [
            ("2", "referrer: closes a circle (2 -> 3 -> 2)"),
            ("3", "referrer: closes a circle (3 -> 2 -> 3)"),
            ("5", "referrer: closes a circle (5 -> 6 -> 7 -> 5)"),
            ("6", "referrer: closes a circle (6 -> 7 -> 5 -> 6)"),
            ("7", "referrer: closes a circle (7 -> 5 -> 6 -> 7)"),
        ]
    );
    // What leads into a circle is good; what was refused leaves nothing to a stale list.
    assert_eq!(edges(&legacy), [(4, 2), (8, 5), (21, 20), (22, 21), (23, 22)]);

    // A list takes no good edge down with it.
    let legacy = one("referrals.json", r#"{"1":2,"referrals":{"1":[2]}}"#);
    assert_eq!(edges(&legacy), [(1, 2)]);
    assert_eq!(refused(&legacy), [("referrals.json", "referrals/1/1", "referrer: closes a circle (2 -> 1 -> 2)")]);
}

#[test]
fn chains_of_referrers_from_both_sides() {
    let chain = |edges: i64| {
        let pairs: Vec<_> = (1..=edges).map(|n| format!("\"{}\":{n}", n + 1)).collect();
        one("referrals.json", &format!("{{{}}}", pairs.join(",")))
    };
    assert_eq!(refused(&chain(1000)), []);
    let reason = "referrer: the chain of referrers is longer than 1000";
    assert_eq!(refused(&chain(1001)), [("referrals.json", "1002", reason)]);
    assert_eq!(chain(2500).report.refused.len(), 2);
    let circle: Vec<_> = (1..=50_000).map(|n| format!("\"{n}\":{}", n % 50_000 + 1)).collect();
    assert_eq!(one("referrals.json", &format!("{{{}}}", circle.join(","))).report.refused.len(), 50_000);
}
