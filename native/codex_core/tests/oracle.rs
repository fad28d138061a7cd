//! The parser against `serde_json`: both take the same documents and read the same values.

mod support;

use codex_core::{Fault, NullSink, parse_document};
use proptest::prelude::*;
use serde_json::Value;
use support::ValueSink;

fn ours(document: &[u8]) -> Result<Value, Fault> {
    let mut sink = ValueSink::default();
    parse_document(&mut sink, document, u64::MAX)
        .map(|term| sink.take(term))
        .map_err(|(fault, _)| fault)
}

/// The intended difference from serde_json: lone surrogates are replaced, not refused.
fn has_surrogate_escape(document: &[u8]) -> bool {
    document.windows(3).any(|window| matches!(window, [b'\\', b'u', b'd' | b'D']))
}

fn compare(document: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(document);
    match (ours(document), theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(document)),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(_)) if has_surrogate_escape(document) => {}
        (ours, theirs) => {
            panic!("{}: ours {ours:?}, serde_json {theirs:?}", String::from_utf8_lossy(document))
        }
    }
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[\\x00-\\x7f]{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::vec((".{0,12}", inner), 0..8)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_serde_json_writes(value in document(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        compare(&text.expect("values can be written"));
    }

    #[test]
    fn agrees_on_damaged_documents(value in document(), at: prop::sample::Index, byte: u8, kind in 0..3) {
        let mut text = serde_json::to_vec(&value).expect("values can be written");
        let at = at.index(text.len());
        match kind {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            _ => text.truncate(at),
        }
        compare(&text);
    }

    #[test]
    fn agrees_on_anything_made_of_json_bytes(text in "[\\[\\]{}\",:\\\\0-9eE+.tfnrulase \\-]{0,40}") {
        compare(text.as_bytes());
    }

    #[test]
    fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        compare(&bytes);
    }
}

#[test]
fn takes_what_is_json() {
    let accepted: &[&str] = &[
        "[]",
        "{}",
        " [ ] ",
        "[1]\n",
        "\"\"",
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+5",
        "1.5e-3",
        "0e0",
        "123456789012345678901234567890",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "true",
        "false",
        "null",
        "[[[]]]",
        "{\"a\":{\"b\":[1,2,{}]}}",
        "{\"a\":1,\"a\":2}",
        "{\"\":0}",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00\"",
        "\"\\uD834\\uDD1E\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\u{7f}\"",
        "\"\u{2028}\u{2029}\"",
        "\"\u{10ffff}\"",
        "[\"a\", \"b\"]",
        "\t\r\n 1 \t\r\n",
        "[1.7976931348623157e308]",
        "5e-324",
        "1e-999",
        "{\"type\":null}",
    ];
    for document in accepted {
        compare(document.as_bytes());
        assert!(ours(document.as_bytes()).is_ok(), "{document}");
    }
}

#[test]
fn refuses_what_is_not() {
    let rejected: &[(&str, Fault)] = &[
        ("", Fault::Eof),
        (" ", Fault::Eof),
        ("[", Fault::Eof),
        ("[1", Fault::Eof),
        ("[1,", Fault::Eof),
        ("{", Fault::Eof),
        ("{\"a\"", Fault::Eof),
        ("{\"a\":", Fault::Eof),
        ("{\"a\":1", Fault::Eof),
        ("\"a", Fault::Eof),
        ("-", Fault::Eof),
        ("[1,]", Fault::Syntax),
        ("[,1]", Fault::Syntax),
        ("[1 2]", Fault::Syntax),
        ("{a:1}", Fault::Syntax),
        ("{\"a\" 1}", Fault::Syntax),
        ("{\"a\":1,}", Fault::Syntax),
        ("{1:1}", Fault::Syntax),
        ("tru", Fault::Syntax),
        ("nul", Fault::Syntax),
        ("True", Fault::Syntax),
        ("NaN", Fault::Syntax),
        ("Infinity", Fault::Syntax),
        ("+1", Fault::Syntax),
        (".5", Fault::Syntax),
        ("'a'", Fault::Syntax),
        ("\u{feff}1", Fault::Syntax),
        ("]", Fault::Syntax),
        ("01", Fault::Number),
        ("-01", Fault::Number),
        ("1.", Fault::Number),
        ("1.e5", Fault::Number),
        ("1e", Fault::Number),
        ("1e+", Fault::Number),
        ("-a", Fault::Number),
        ("1e999", Fault::NumberRange),
        ("1 1", Fault::Trailing),
        ("{}x", Fault::Trailing),
        ("truex", Fault::Trailing),
        ("\"a\nb\"", Fault::Control),
        ("\"a\u{0}b\"", Fault::Control),
        ("\"\\x41\"", Fault::Escape),
        ("\"\\u12\"", Fault::Escape),
        ("\"\\u12g4\"", Fault::Escape),
        ("\"\\", Fault::Escape),
    ];
    for (document, fault) in rejected {
        assert_eq!(ours(document.as_bytes()), Err(*fault), "{document:?}");
        assert!(serde_json::from_str::<Value>(document).is_err(), "{document:?}");
    }
    assert_eq!(ours(b"\"\xff\""), Err(Fault::Utf8));
    assert_eq!(ours(b"\"\xed\xa0\x80\""), Err(Fault::Utf8));
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(ours(nested(256).as_bytes()).is_ok());
    assert_eq!(ours(nested(257).as_bytes()), Err(Fault::Depth));
    assert_eq!(ours("{\"a\":".repeat(10_000).as_bytes()), Err(Fault::Depth));
    // serde_json has no integers of that size.
    assert!(parse_document(&mut NullSink, "9".repeat(1024).as_bytes(), u64::MAX).is_ok());
    assert_eq!(ours("9".repeat(1025).as_bytes()), Err(Fault::NumberRange));
}

#[test]
fn lone_surrogates_become_the_replacement_character() {
    for (document, text) in [
        ("\"\\ud800\"", "\u{fffd}"),
        ("\"\\udc00x\"", "\u{fffd}x"),
        ("\"\\ud800\\ud800\"", "\u{fffd}\u{fffd}"),
        ("\"\\ud800\\u0041\"", "\u{fffd}A"),
        ("\"\\ud83d\\ude00\\ud83d\"", "\u{1f600}\u{fffd}"),
    ] {
        assert_eq!(ours(document.as_bytes()), Ok(Value::from(text)), "{document}");
    }
    assert_eq!(ours(b"\"\\ud800\\uzzzz\""), Err(Fault::Escape));
}
