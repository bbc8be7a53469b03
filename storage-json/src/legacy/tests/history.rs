//! History and its events.

use super::*;

#[test]
fn history_in_both_shapes() {
    let legacy = one(
        "generations_history.json",
        r#"{"1001":[{"id":1,"timestamp":1766000000,"model_id":"m","model_name":"M","params":{"prompt":"x"},"result_urls":["https://e/1"],"task_id":"t1","price":7.5,"is_free":false},
            {"id":1,"timestamp":1766000001,"model_id":"m","model_name":"M","params":{},"result_urls":[],"price":1},
            {"id":"op1","model_id":"m","model_name":"M","params":{},"result_urls":[],"price":0.0,"timestamp":"2025-12-22T10:00:00.1"},
            {"id":"op2","model_id":"m","model_name":"M","params":{},"result_urls":[],"price":1,"timestamp":5},
            {"id":"op2","model_id":"m","model_name":"M","params":{},"result_urls":[],"price":1,"timestamp":5},
            {"id":"1001-generations_history-7","model_id":"m","params":{},"price":1,"timestamp":5},
            {"model_id":"","model_name":"","params":{},"price":1,"timestamp":5},
            {"id":"9","price":"x"}, 7], "1002": {}, "1003": null}"#,
    );
    let ids: Vec<_> = generations(&legacy).into_iter().map(|generation| generation.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "1001-generations_history-1",
            "1001-generations_history-2",
            "op1",
            "1001-generations_history-4",
            "1001-generations_history-5",
            "1001-generations_history-7",
            "1001-generations_history-7+",
        ]
    );
    let first = generations(&legacy)[0];
    assert_eq!((first.price, first.at), (money("7.5"), at("2025-12-17T19:33:20Z")));
    assert_eq!(
        (first.params.as_json(), first.result_urls.as_slice()),
        (r#"{"prompt":"x"}"#, &["https://e/1".to_owned()][..])
    );
    assert_eq!(generations(&legacy)[2].at, at("2025-12-22T10:00:00.1Z"));
    assert_eq!(generations(&legacy)[6].model_name.as_str(), "unknown");
    assert_eq!(
        refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason)).collect::<Vec<_>>(),
        [
            ("1001/8", "price: must be a decimal number"),
            ("1001/9", "record: must be an object, not a number"),
            ("1002", "history: must be a list, not an object"),
        ]
    );
    // The sum of the imported prices, before the history itself.
    assert_eq!(records(&legacy)[0], &ImportRecord::Spent { user: user(1001), spent: "12.5".parse().unwrap() });
    assert_eq!(legacy.report.history_records, 7);
}

#[test]
fn events_count_only_for_users_without_history() {
    let event = r#"{"event_id":"e1","user_id":1001,"kind":"generation","payload":{"model_id":"m","price":0.5},"created_at":"2026-01-27T10:00:00"}"#;
    let legacy = legacy(&[
        ("generations_history.json", r#"{"1001":[{"id":"a","model_id":"m","price":1,"timestamp":5}]}"#),
        ("history_events.json", &format!(r#"{{"1001":[{event}],"1002":[{event},{{"kind":"payment"}}]}}"#)),
    ]);
    assert_eq!(generations(&legacy).len(), 2);
    let generation = generations(&legacy)[1];
    assert_eq!((generation.id.as_str(), generation.price), ("e1", money("0.5")));
    assert_eq!(generation.at, at("2026-01-27T10:00:00Z"));
    assert_eq!(records(&legacy)[0], &ImportRecord::Spent { user: user(1001), spent: "1".parse().unwrap() });
}
