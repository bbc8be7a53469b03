//! Payments, and times in every form.

use super::*;

#[test]
fn payments_in_every_shape() {
    let (legacy, payment) = only_payment(
        r#"{"1":{"id":1,"user_id":1001,"amount":100.0,"timestamp":1766000000.5,"screenshot_file_id":"f1","status":"completed"}}"#,
    );
    assert_eq!((payment.id.as_str(), payment.user, payment.amount.money()), ("1", user(1001), money("100")));
    assert_eq!((payment.status, payment.origin), (PaymentStatus::Approved, PaymentOrigin::Imported));
    assert_eq!(payment.created_at, at("2025-12-17T19:33:20.5Z"));
    assert_eq!((payment.updated_at, payment.method.as_str()), (payment.created_at, "unknown"));
    assert_eq!(payment.screenshot_file_id.unwrap().as_str(), "f1");
    assert_eq!(legacy.report.uncertain_payments, []);
    assert_eq!(notes(&legacy), ["1: no payment_method: \"unknown\" was put in"]);

    let shape = |charged| {
        format!(
            r#"{{"2":{{"id":2,"user_id":1001,"amount":50.0,"timestamp":1769000000.5,"screenshot_file_id":null,"status":"completed","balance_charged":{charged}}}}}"#
        )
    };
    assert_eq!(only_payment(&shape("true")).0.report.uncertain_payments, []);
    assert_eq!(only_payment(&shape("false")).0.report.uncertain_sum, "50".parse().unwrap());

    let (legacy, payment) = only_payment(
        r#"{"stars_1001_1766000000":{"user_id":1001,"amount":90.0,"currency":"RUB","payment_method":"telegram_stars","stars_amount":50,"timestamp":1766000000.5,"status":"completed"}}"#,
    );
    assert_eq!((payment.id.as_str(), payment.method.as_str()), ("stars_1001_1766000000", "telegram_stars"));
    assert_eq!((payment.provider_key, notes(&legacy)), (None, vec![]));

    let (legacy, payment) = only_payment(
        r#"{"p-1":{"payment_id":"p-1","user_id":1001,"amount":100.0,"payment_method":"sbp","screenshot_file_id":null,"status":"approved","created_at":"2025-12-22T10:00:00.000001","updated_at":"2025-12-22T10:05:00","admin_id":1,"notes":"ok"}}"#,
    );
    assert_eq!((payment.status, payment.origin), (PaymentStatus::Approved, PaymentOrigin::Imported));
    assert_eq!((payment.admin, payment.notes.unwrap().as_str()), (Some(user(1)), "ok"));
    assert_eq!(payment.created_at, at("2025-12-22T10:00:00.000001Z"));
    assert_eq!(payment.updated_at, at("2025-12-22T10:05:00Z"));
    let uncertain = UncertainPayment {
        file: "payments.json".to_owned(),
        key: "p-1".to_owned(),
        user: user(1001),
        amount: money("100"),
    };
    assert_eq!(legacy.report.uncertain_payments, [uncertain]);
    assert!(notes(&legacy)[0].contains("1 approved payments, 100.00 together"), "{:?}", notes(&legacy));
    // The administrator of a payment is no user yet.
    assert_eq!(legacy.report.users, 1);
}

#[test]
fn words_of_payments() {
    for (word, status, origin) in [
        ("pending", PaymentStatus::Pending, PaymentOrigin::Here),
        ("approved", PaymentStatus::Approved, PaymentOrigin::Imported),
        ("completed", PaymentStatus::Approved, PaymentOrigin::Imported),
        ("rejected", PaymentStatus::Rejected, PaymentOrigin::Imported),
        ("failed", PaymentStatus::Rejected, PaymentOrigin::Imported),
        ("cancelled", PaymentStatus::Cancelled, PaymentOrigin::Imported),
    ] {
        let (_, payment) =
            only_payment(&format!(r#"{{"p":{{"user_id":1,"amount":1,"status":"{word}","created_at":1}}}}"#));
        assert_eq!((payment.status, payment.origin), (status, origin), "{word}");
    }
}

#[test]
fn bad_payments_are_refused_by_name() {
    for (fields, reason) in [
        (r#""amount":1,"status":"teleported""#, "status: the word \"teleported\" is unknown"),
        (r#""amount":1"#, "status: is missing"),
        (r#""amount":0,"status":"pending""#, "amount: must be greater than zero"),
        (r#""amount":-1,"status":"completed""#, "amount: must not be negative"),
        (r#""amount":NaN,"status":"completed""#, "amount: must be a finite number, not NaN"),
        (r#""status":"pending""#, "amount: is missing"),
        (
            r#""amount":1,"status":"pending","user_id2":1,"created_at":"yesterday""#,
            "created_at: must be an ISO 8601 time",
        ),
        (r#""amount":1,"status":"pending","created_at":-5"#, "created_at: must be in the years 1970 to 9999"),
        (
            r#""amount":1,"status":"pending","created_at":1766000000000"#,
            "created_at: must be in the years 1970 to 9999",
        ),
        (r#""amount":1,"status":"pending","admin_id":"x""#, "admin_id: must be a whole number"),
        (r#""amount":1,"status":"approved","balance_charged":"yes""#, "balance_charged: must be true or false"),
        (r#""amount":1,"status":"approved","payment_method":["x"]"#, "payment_method: must be a text, not a list"),
    ] {
        let reasons = reasons("payments.json", &format!(r#"{{"p": {{"user_id":1,{fields}}}}}"#));
        assert!(reasons.len() == 1 && reasons[0].starts_with(&format!("p: {reason}")), "{fields}: {reasons:?}");
    }
    let notes = format!(
        r#"{{"p": {{"user_id":1,"amount":1,"status":"pending","created_at":1,"notes":"{}"}}}}"#,
        "n".repeat(8193)
    );
    assert_eq!(reasons("payments.json", &notes), ["p: notes: must be at most 8 KiB"]);
    let keyed = |key: &str| format!(r#"{{"{key}": {{"user_id":1,"amount":1,"status":"pending","created_at":1}}}}"#);
    assert_eq!(reasons("payments.json", &keyed("")), [": payment_id: must be 1 to 200 bytes of UTF-8"]);
    assert_eq!(reasons("payments.json", &keyed("a\\n")).len(), 1);
    assert_eq!(
        reasons("payments.json", r#"{"p": {"amount": 1}, "q": 5}"#),
        ["p: user_id: is missing", "q: record: must be an object, not a number"]
    );
}

#[test]
fn times_in_every_form() {
    let zoned = |text: &str, zone: &str| {
        let dir = Dir::of(&[(
            "payments.json",
            &format!(r#"{{"p":{{"user_id":1,"amount":1,"status":"pending","payment_method":"m",{text}}}}}"#),
        )]);
        let options = ReadOptions { time_zone: TimeZone::new(zone).unwrap(), ..ReadOptions::new(NOW.parse().unwrap()) };
        let legacy = read(dir.0.path(), &options, &mut |_| {}).unwrap();
        let ImportRecord::Payment(payment) = only(&legacy) else { panic!() };
        (payment.created_at, notes(&legacy))
    };
    for (text, zone, moment) in [
        (r#""created_at": 1766000000"#, "UTC", "2025-12-17T19:33:20Z"),
        (r#""created_at": 1766000000.5"#, "Europe/Kyiv", "2025-12-17T19:33:20.5Z"),
        (r#""created_at": 1766000000.1234567"#, "UTC", "2025-12-17T19:33:20.123457Z"),
        (r#""created_at": 1.766e9"#, "UTC", "2025-12-17T19:33:20Z"),
        (r#""created_at": "1766000000""#, "UTC", "2025-12-17T19:33:20Z"),
        (r#""created_at": "2026-01-15T10:00:00""#, "UTC", "2026-01-15T10:00:00Z"),
        (r#""created_at": "2026-01-15T10:00:00""#, "Europe/Kyiv", "2026-01-15T08:00:00Z"),
        (r#""created_at": "2026-01-15 10:00:00.25""#, "America/New_York", "2026-01-15T15:00:00.25Z"),
        (r#""created_at": "2026-01-15T10:00:00Z""#, "Europe/Kyiv", "2026-01-15T10:00:00Z"),
        (r#""created_at": "2026-01-15T10:00:00+02:00""#, "America/New_York", "2026-01-15T08:00:00Z"),
        (r#""created_at": "2026-01-15T10:00:00-05:00""#, "UTC", "2026-01-15T15:00:00Z"),
    ] {
        assert_eq!(zoned(text, zone), (at(moment), vec![]), "{text} {zone}");
    }
    let taken = |field: &str| vec![format!("p: no created_at: {field} was taken")];
    assert_eq!(zoned(r#""created_at": null, "timestamp": 5"#, "UTC"), (at("1970-01-01T00:00:05Z"), taken("timestamp")));
    assert_eq!(zoned(r#""updated_at": 6"#, "UTC"), (at("1970-01-01T00:00:06Z"), taken("updated_at")));
    let (moment, notes) = zoned(r#""created_at": null"#, "UTC");
    assert!(moment > at("2024-01-01T00:00:00Z"), "the file's own time: {moment}");
    assert_eq!(notes, ["p: no created_at: the file's own time was taken"]);
}

#[test]
fn a_payment_that_was_charged_cannot_come_in_to_be_approved() {
    let text = r#"{"p":{"payment_id":"p","user_id":1001,"amount":100,"payment_method":"sbp","status":"pending","balance_charged":true,"created_at":"2025-12-22T10:00:00"}}"#;
    let reasons = reasons("payments.json", text);
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("balance_charged"), "{reasons:?}");
}

#[test]
fn a_payment_under_another_key_is_refused() {
    let text = r#"{"a":{"payment_id":"b","user_id":1001,"amount":10,"payment_method":"sbp","status":"pending","created_at":"2025-12-22T10:00:00"}}"#;
    assert_eq!(reasons("payments.json", text), ["a: payment_id: is \"b\", but the record stands under \"a\""]);
}
