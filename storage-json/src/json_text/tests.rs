//! The reader against `serde_json`, and everything that it must refuse.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use storage_core::ErrorKind;

fn read(text: &[u8], dialect: Dialect) -> Result<Value> {
    let source = Source::new("f.json", text)?;
    let mut object = serde_json::Map::new();
    source.entries(dialect, &mut |key, _, node| {
        object.insert(key.into_owned(), value(&node));
        Ok(())
    })?;
    assert_eq!(value(&source.document(dialect)?), Value::Object(object.clone()));
    Ok(Value::Object(object))
}
fn value(node: &Node<'_>) -> Value {
    match &node.value {
        NodeValue::Null => Value::Null,
        NodeValue::Bool(bool) => json!(bool),
        NodeValue::Number(text) => {
            assert_eq!(*text, node.raw);
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        NodeValue::NotFinite(text) => json!(text),
        NodeValue::String(text) => json!(text),
        NodeValue::Array(items) => items.iter().map(value).collect(),
        NodeValue::Object(fields) => fields.iter().map(|(key, node)| (key.clone().into_owned(), value(node))).collect(),
    }
}
/// Line, column and key of a refusal, and what it says.
fn refused(text: impl AsRef<[u8]>, dialect: Dialect) -> (u64, u64, Option<String>, String) {
    let (text, file) = (text.as_ref(), "f.json");
    let error = Source::new(file, text).and_then(|source| source.entries(dialect, &mut |_, _, _| Ok(()))).unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
    assert_eq!(place.source, file);
    (place.line.unwrap(), place.column.unwrap(), place.key.clone(), error.detail().unwrap().to_owned())
}

#[test]
fn reads_what_json_is() {
    let text =
        "\u{feff}{\r\n  \"a\": [1, -0.5e+3, true, null, {}, []],\r\n\t\"b\\n\": \"\\u041a\\ud83e\\udd8a \\/ Ю\" }\r\n";
    let expected = json!({"a": [1, -500.0, true, null, {}, []], "b\n": "К🦊 / Ю"});
    assert_eq!(read(text.as_bytes(), Dialect::Strict).unwrap(), expected);
    let text = r#"{"a": NaN, "b": [-Infinity, Infinity], "c": -1}"#;
    let expected = json!({"a": "NaN", "b": ["-Infinity", "Infinity"], "c": -1});
    assert_eq!(read(text.as_bytes(), Dialect::Legacy).unwrap(), expected);
    for word in ["NaN", "Infinity", "-Infinity"] {
        refused(format!("{{\"a\": {word}}}"), Dialect::Strict);
    }
}

#[test]
fn raw_text_and_offsets_are_exact() {
    let text = "{ \"a\" : [1.50 , \"x\\n\"] }";
    let source = Source::new("f", text.as_bytes()).unwrap();
    source
        .entries(Dialect::Strict, &mut |key, offset, node| {
            assert_eq!((&*key, offset, node.offset, node.raw), ("a", 2, 8, "[1.50 , \"x\\n\"]"));
            let NodeValue::Array(items) = &node.value else { panic!() };
            assert_eq!((items[0].raw, items[1].raw, items[1].offset), ("1.50", "\"x\\n\"", 16));
            Ok(())
        })
        .unwrap();
    assert_eq!(source.place(16, Some("a")), Place::new("f").at(1, 17).key("a"));
}

#[test]
fn refuses_with_line_column_and_key() {
    for (text, line, column, key, says) in [
        ("", 1, 1, None, "the file is empty"),
        (" \n ", 1, 1, None, "the file is empty"),
        ("[1]", 1, 1, None, "an object is expected, not a list"),
        ("\u{feff}{\n \"a\": 1,\n \"b\": }", 3, 7, Some("b"), "'}' stands where a value is expected"),
        ("{\"a\": 1}{\"b\": 2}", 1, 9, None, "'{' stands where the end of the file is expected"),
        ("{\"a\": {\"x\": 1", 1, 14, Some("a"), "the text ends where a comma or } is expected"),
        ("{\"a\": 1,}", 1, 9, Some("a"), "'}' stands where a key is expected"),
        ("{\"a\": [1 2]}", 1, 10, Some("a"), "'2' stands where a comma or ] is expected"),
        ("{\"a\": 1, \"a\": 2}", 1, 10, Some("a"), "the key \"a\" stands twice"),
        ("{\"a\": {\"x\": 1, \"\\u0078\": 2}}", 1, 16, Some("a"), "the key \"x\" stands twice"),
        ("{\"a\": \"x", 1, 9, Some("a"), "the file ends inside a text"),
        ("{\"a\": \"x\ny\"}", 1, 9, Some("a"), "a control character stands unescaped in a text"),
        ("{\"a\": \"\\ud83e\"}", 1, 8, Some("a"), "half a surrogate pair stands alone in a text"),
        ("{\"a\": \"\\udd8a\"}", 1, 8, Some("a"), "half a surrogate pair stands alone in a text"),
        ("{\"a\": \"\\ud83e\\u0041\"}", 1, 8, Some("a"), "half a surrogate pair stands alone in a text"),
        ("{\"a\": \"\\x\"}", 1, 8, Some("a"), "a text holds an escape that JSON does not have"),
        ("{\"a\": \"\\u00ю\"}", 1, 8, Some("a"), "a text holds \\u without four hexadecimal digits"),
        ("{\"a\": 01}", 1, 8, Some("a"), "'1' stands where a comma or } is expected"),
        ("{\"a\": 1.}", 1, 9, Some("a"), "'}' stands where a digit is expected"),
        ("{\"a\": -}", 1, 8, Some("a"), "'}' stands where a digit is expected"),
        ("{\"a\": nul}", 1, 7, Some("a"), "'n' stands where a value is expected"),
    ] {
        let expected = (line, column, key.map(str::to_owned), says.to_owned());
        assert_eq!(refused(text, Dialect::Strict), expected, "{text}");
        assert_eq!(refused(text, Dialect::Legacy), expected, "{text}");
    }
    assert_eq!(refused(b"{\"a\":\n\"\xff\"}", Dialect::Strict), (2, 2, None, "not UTF-8".to_owned()));
}

#[test]
fn repeated_keys_are_found_in_objects_of_any_size() {
    for count in [2, FEW_KEYS, FEW_KEYS + 1, FEW_KEYS + 2, 100] {
        let keys: Vec<String> = (0..count).map(|n| format!("\"k{n}\": {n}")).collect();
        let whole = format!("{{\"a\": {{{}}}}}", keys.join(","));
        assert!(read(whole.as_bytes(), Dialect::Strict).is_ok());
        for repeated in [0, count - 1] {
            let twice = format!("{{\"a\": {{{}, \"k{repeated}\": 0}}}}", keys.join(","));
            assert_eq!(refused(twice, Dialect::Strict).3, format!("the key \"k{repeated}\" stands twice"));
        }
    }
}

#[test]
fn nesting_and_numbers_from_both_sides() {
    let nested = |levels: usize| format!("{{\"a\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let source = nested(MAX_DEPTH - 1);
    assert!(Source::new("f", source.as_bytes()).unwrap().document(Dialect::Strict).is_ok());
    for levels in [MAX_DEPTH, 100_000] {
        let (_, column, key, says) = refused(nested(levels), Dialect::Strict);
        assert_eq!((column, key.as_deref(), &*says), (134, Some("a"), "nested more than 128 levels deep"));
    }
    refused("[".repeat(100_000), Dialect::Legacy);
    refused("{\"a\":".repeat(100_000), Dialect::Legacy);
    let number = |digits: usize| format!("{{\"a\": {}}}", "7".repeat(digits));
    for digits in [400, MAX_NUMBER] {
        assert!(read(number(digits).as_bytes(), Dialect::Strict).is_ok());
    }
    assert_eq!(refused(number(MAX_NUMBER + 1), Dialect::Strict).3, "a number of more than 4096 characters");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_serde_json_writes(fields in prop::collection::btree_map(any::<String>(), any_json(), 0..8), pretty: bool) {
        let document = Value::Object(fields.into_iter().collect());
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        prop_assert_eq!(read(text.as_bytes(), Dialect::Strict).unwrap(), document);
    }
    #[test]
    fn accepts_exactly_what_serde_json_accepts(text in r#"([\[\]{},:" \n]|"a"|"b\\[nux"]"|\\u[0-9a-f]{4}|true|null|-?[0-9.]{1,3}|1e[+-]?2|NaN|[a-zю]){0,12}"#) {
        let text = format!("{{\"k\": {text}}}");
        let theirs = serde_json::from_str::<Value>(&text);
        let source = Source::new("f", text.as_bytes()).unwrap();
        match source.document(Dialect::Strict) {
            Ok(node) => prop_assert_eq!(value(&node), theirs.unwrap()),
            Err(error) => prop_assert!(theirs.is_err() || error.to_string().contains("twice"), "{} {}", text, error),
        }
    }
    #[test]
    fn a_cut_or_damaged_text_never_panics(document in any_json(), cut in 0_usize..200, byte: u8) {
        let mut text = serde_json::to_vec(&json!({"k": document})).unwrap();
        let at = cut % text.len();
        text[at] = byte;
        let _ = Source::new("f", &text).and_then(|source| source.document(Dialect::Legacy).map(|_| ()));
        text.truncate(at);
        let cut = Source::new("f", &text).and_then(|source| source.document(Dialect::Legacy).map(|_| ()));
        let error = cut.expect_err("a document that was cut was read as whole");
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        prop_assert!(place.line.is_some() && place.column.is_some(), "{error}");
    }
}
