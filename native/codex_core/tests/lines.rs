//! Lines: wherever the stream is cut, the same comes out, and nothing is lost.
#![allow(clippy::unwrap_used)]

mod support;

use codex_core::{
    Decoder, Field, Kind, NullSink, Progress, Record, Schema, SchemaError, Union, Variant, WORK,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{decode, decode_limited};

fn field(name: &str, kind: Kind) -> Field {
    Field { names: vec![name.to_string()], kind }
}

/// Events with an item, items with a status and a list of records.
fn schema() -> Schema {
    let variant = |wire_type: &str, fields: &[(usize, Kind)], required: &[usize]| Variant {
        wire_type: wire_type.to_string(),
        fields: fields.to_vec(),
        required: required.to_vec(),
    };
    let events = Union::new(
        vec![field("id", Kind::Any), field("item", Kind::Union(1)), field("note", Kind::Any)],
        vec![
            variant("start", &[(0, Kind::Any)], &[0]),
            variant("item", &[(1, Kind::Union(1)), (2, Kind::Any)], &[1]),
            variant("raw", &[(1, Kind::Any)], &[]),
        ],
    );
    let items = Union::new(
        vec![
            field("id", Kind::Any),
            field("status", Kind::Enum(0)),
            field("parts", Kind::Records(0)),
        ],
        vec![
            variant("a", &[(0, Kind::Any), (1, Kind::Enum(0))], &[]),
            variant("b", &[(0, Kind::Any), (2, Kind::Records(0))], &[0]),
        ],
    );
    let record = Record::new(vec![("path".to_string(), 7, None), ("kind".to_string(), 8, Some(0))]);
    let names = vec![("done".to_string(), 1), ("open".to_string(), 2)];
    Schema::new(vec![events.unwrap(), items.unwrap()], vec![names], vec![record.unwrap()]).unwrap()
}

fn one(line: &str) -> Value {
    let lines = decode(&schema(), 1 << 20, [line.as_bytes()]);
    assert_eq!(lines.len(), 1, "{line}");
    lines[0].clone()
}

fn known(tag: u32, fields: Value, extra: Value) -> Value {
    json!({ "line": { "tag": tag, "fields": fields, "extra": extra }, "known": true, "lossy": false })
}

#[test]
fn variants_are_filled_by_name_in_any_order() {
    assert_eq!(one(r#"{"type":"start","id":1}"#), known(0, json!([1]), json!(null)));
    assert_eq!(one(r#"{"id":1,"type":"start"}"#), known(0, json!([1]), json!(null)));
    assert_eq!(
        one(r#"{"id":1,"id":2,"type":"x","type":"start"}"#),
        known(0, json!([2]), json!(null))
    );
    assert_eq!(
        one(r#"{"type":"start","id":1,"more":[true]}"#),
        known(0, json!([1]), json!({"more": [true]}))
    );
}

#[test]
fn enums_unions_and_records_fall_back_to_what_was_sent() {
    let item = |item: &str| {
        one(&format!(r#"{{"type":"item","item":{item}}}"#))["line"]["fields"][0].clone()
    };
    assert_eq!(item(r#"{"type":"a","status":"done"}"#)["fields"], json!([null, "name 1"]));
    assert_eq!(item(r#"{"type":"a","status":"lost"}"#)["fields"], json!([null, "lost"]));
    assert_eq!(item(r#"{"type":"a","status":3}"#)["fields"], json!([null, 3]));
    assert_eq!(item(r#"{"type":"c","status":"done"}"#), json!({"type": "c", "status": "done"}));
    assert_eq!(item("[1]"), json!([1]));
    assert_eq!(
        item(r#"{"type":"b","id":0,"parts":[{"kind":"open","x":1},5,{"path":"p"}]}"#)["fields"][1],
        json!([{"name 7": null, "name 8": "name 2", "x": 1}, 5, {"name 7": "p", "name 8": null}])
    );
    assert_eq!(
        item(r#"{"type":"b","id":0,"parts":{"kind":"open"}}"#)["fields"][1],
        json!({"kind": "open"})
    );
}

#[test]
fn fields_of_other_variants_are_kept_as_they_were_sent() {
    assert_eq!(
        one(r#"{"item":{"type":"a","status":"done"},"type":"start","id":0,"note":2}"#),
        known(0, json!([0]), json!({"item": {"type": "a", "status": "done"}, "note": 2}))
    );
    assert_eq!(
        one(r#"{"type":"raw","item":{"type":"a","status":"done"}}"#),
        known(2, json!([{"type": "a", "status": "done"}]), json!(null))
    );
}

#[test]
fn unknown_types_and_missing_fields_leave_the_whole_map() {
    for line in [
        r#"{"type":"start"}"#,
        r#"{"type":"zzz","item":{"type":"a"}}"#,
        r#"{"id":1}"#,
        r#"{"type":["start"],"id":1}"#,
        "{}",
    ] {
        let map: Value = serde_json::from_str(line).unwrap();
        assert_eq!(one(line), json!({ "line": map, "known": false, "lossy": false }));
    }
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let fields = |n: usize| (0..n).map(|i| field(&i.to_string(), Kind::Any)).collect::<Vec<_>>();
    assert!(Union::new(fields(64), vec![]).is_ok());
    assert_eq!(Union::new(fields(65), vec![]).err(), Some(SchemaError::TooManyFields));
    let dangling =
        Variant { wire_type: "x".into(), fields: vec![(1, Kind::Any)], required: vec![] };
    assert_eq!(Union::new(fields(1), vec![dangling]).err(), Some(SchemaError::Dangling));
    let with = |kind| Union::new(vec![field("f", kind)], vec![]).unwrap();
    for (unions, error) in [
        (vec![with(Kind::Enum(0))], SchemaError::Dangling),
        (vec![with(Kind::Records(0))], SchemaError::Dangling),
        (vec![with(Kind::Union(1))], SchemaError::Dangling),
        (vec![with(Kind::Union(0))], SchemaError::Nested),
        (vec![with(Kind::Any), with(Kind::Union(1))], SchemaError::Nested),
    ] {
        assert_eq!(Schema::new(unions, vec![], vec![]).err(), Some(error));
    }
    let record = Record::new(vec![("r".into(), 0, Some(0))]).unwrap();
    assert_eq!(Schema::new(vec![], vec![], vec![record]).err(), Some(SchemaError::Dangling));
}

#[test]
fn a_long_line_waits_for_a_caller_that_may_take_long() {
    let line = format!("\"{}\"\n1\n", "x".repeat(400_000));
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let (schema, mut out) = (Schema::default(), Vec::new());
    let mut feed =
        |at, long| decoder.feed(&schema, &mut NullSink, line.as_bytes(), at, long, &mut out);
    assert_eq!(feed(0, false), Progress::Long(0));
    assert_eq!(feed(0, true), Progress::More(400_003));
    assert_eq!(feed(400_003, false), Progress::Done);
    assert_eq!(out.len(), 2);

    // The same where it comes in pieces.
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let (first, rest) = line.as_bytes().split_at(200_000);
    assert_eq!(decoder.feed(&schema, &mut NullSink, first, 0, false, &mut out), Progress::Done);
    assert_eq!(decoder.pending(), 200_000);
    assert_eq!(decoder.feed(&schema, &mut NullSink, rest, 0, false, &mut out), Progress::Long(0));
    assert_eq!(
        decoder.feed(&schema, &mut NullSink, rest, 0, true, &mut out),
        Progress::More(200_003)
    );
    assert_eq!(decoder.pending(), 0);
}

#[test]
fn a_call_stops_at_its_budget() {
    let lines = format!("[1,\"{}\"]\n", "x".repeat(34)).repeat(10_000);
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let (mut at, mut calls, mut out) = (0, 0, Vec::new());
    loop {
        calls += 1;
        match decoder.feed(&Schema::default(), &mut NullSink, lines.as_bytes(), at, false, &mut out)
        {
            Progress::Done => break,
            Progress::More(next) => {
                assert!(next - at <= codex_core::BUDGET);
                at = next;
            }
            Progress::Long(_) => panic!("no line is long"),
        }
    }
    assert_eq!((calls, out.len()), (7, 10_000));
}

#[test]
fn a_call_stops_where_the_work_is_done() {
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let (schema, mut out) = (Schema::default(), Vec::new());

    // Many small lines: none is lost or done twice, and no call does more than it may.
    let lines = "{}\n".repeat(20_000);
    let (mut at, mut calls) = (0, 0);
    while at < lines.len() {
        calls += 1;
        match decoder.feed(&schema, &mut NullSink, lines.as_bytes(), at, false, &mut out) {
            Progress::Done => break,
            Progress::More(next) => at = next,
            Progress::Long(_) => panic!("no line is long"),
        }
        assert!(decoder.work() <= WORK);
    }
    assert!(calls > 3, "{calls}");
    assert_eq!(out.len(), 20_000);

    // One line that needs more than a call may do goes where it may take long, alone; also where it
    // comes in pieces.
    for line in [
        format!("[{}1]", "[],".repeat(21_000)),
        format!("[{}1]", "{\"\":1},".repeat(8_000)),
        format!("[{}1]", "\"\",".repeat(21_000)),
        format!("[{}1]", "12345678901234567890,".repeat(3_000)),
        format!("{{{}\"b\":1}}", (0..7_000).map(|i| format!("\"a{i}\":1,")).collect::<String>()),
        format!("\"{}\"", "\\n".repeat(70_000)),
    ] {
        let input = format!("1\n{line}\n2\n3");
        let input = input.as_bytes();
        let mut feed = |at, long, input: &[u8]| {
            out.clear();
            let progress = decoder.feed(&schema, &mut NullSink, input, at, long, &mut out);
            (progress, out.len())
        };
        let after = line.len() + 3;
        assert_eq!(feed(0, false, input), (Progress::More(2), 1), "{}", &line[..30]);
        assert_eq!(feed(2, false, input), (Progress::Long(2), 0));
        assert_eq!(feed(2, true, input), (Progress::More(after), 1));
        assert_eq!(feed(after, false, input), (Progress::Done, 1));
        let (first, rest) = line.as_bytes().split_at(line.len() / 2);
        let rest = [rest, b"\n4\n"].concat();
        assert_eq!(feed(0, false, b"\n"), (Progress::Done, 1));
        assert_eq!(feed(0, false, first), (Progress::Done, 0));
        assert_eq!(feed(0, false, &rest), (Progress::Long(0), 0));
        assert_eq!(feed(0, true, &rest), (Progress::More(rest.len() - 2), 1));
        assert_eq!(feed(rest.len() - 2, false, &rest), (Progress::Done, 1));
    }
}

#[test]
fn the_end_of_a_line_is_not_looked_for_through_a_whole_chunk() {
    let chunk = "x".repeat(codex_core::LONG_LINE * 2);
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let mut feed = |long| {
        decoder.feed(&Schema::default(), &mut NullSink, chunk.as_bytes(), 0, long, &mut Vec::new())
    };
    // At the beginning of a line, and behind what was carried over.
    for _ in 0..2 {
        assert_eq!(feed(false), Progress::Long(0));
        assert_eq!(feed(true), Progress::Done);
    }
    assert_eq!(decoder.pending(), chunk.len() * 2);
}

#[test]
fn long_text_that_is_not_utf8_may_take_long() {
    let line = [b"\"".as_slice(), &[0xff; 100_000], b"\"\n"].concat();
    let mut decoder = Decoder::new(usize::MAX, u64::MAX);
    let mut feed =
        |long| decoder.feed(&Schema::default(), &mut NullSink, &line, 0, long, &mut Vec::new());
    assert_eq!(feed(false), Progress::Long(0));
    assert_eq!(feed(true), Progress::Done);
}

#[test]
fn a_line_over_the_limit_costs_only_its_size() {
    let text = format!("1\n\"{}\"\n2\n\"{}\"", "x".repeat(100), "\u{e9}".repeat(100));
    let expected = json!([
        {"line": 1, "known": false, "lossy": false},
        {"oversized": 102},
        {"line": 2, "known": false, "lossy": false},
        {"oversized": 202}
    ]);
    for size in [1, 3, 50, 1000] {
        assert_eq!(
            json!(decode(&schema(), 50, text.as_bytes().chunks(size))),
            expected,
            "pieces of {size}"
        );
    }
    let invalid = [b"\"".as_slice(), &[0xff; 60], b"\"\n1\n"].concat();
    assert_eq!(decode(&schema(), 50, [invalid.as_slice()])[0], json!({"oversized": 62}));
}

#[test]
fn a_line_of_too_many_nodes_is_dropped_and_the_stream_goes_on() {
    let limited = |max: u64, line: &str| {
        let stream = format!("{line}\n{{}}\n");
        let mut lines = decode_limited(&schema(), 1 << 20, max, stream.as_bytes().chunks(7));
        assert_eq!(lines.pop(), decode(&schema(), 1 << 20, [b"{}".as_slice()]).pop(), "{line}");
        lines.remove(0)
    };
    // Nodes: values, and keys that the schema does not know. Names of a record count, whether they
    // are there or not.
    let cases = [
        ("[[],[1,2]]", 5),
        (r#"{"a":1,"b":{"c":null}}"#, 7),
        (r#"{"type":"start","id":[1,2],"x":3}"#, 6),
        (r#"{"type":"other","id":[1,2],"x":3}"#, 9),
        (r#"{"type":"item","item":{"type":"b","id":1,"parts":[{},{"path":"p","y":1}]}}"#, 13),
        // Read twice, counted once: a field of another variant, an item that lacks a field.
        (r#"{"type":"start","id":1,"note":[1,2,3]}"#, 6),
        (r#"{"type":"raw","item":{"type":"a","id":[1,2,3]}}"#, 6),
    ];
    for (line, nodes) in cases {
        assert_eq!(
            limited(nodes, line),
            decode(&schema(), 1 << 20, [line.as_bytes()])[0],
            "{line}"
        );
        assert_eq!(
            limited(nodes - 1, line),
            json!({"overfull": nodes - 1, "size": line.len()}),
            "{line}"
        );
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => r#"\{"type":"(start|item|raw|zzz)","id":[0-9]{1,3},"item":\{"type":"[abc]","status":"(done|x)","parts":\[\{"kind":"open"\}\]\}(,"n":"[a-z\\\\nu0é\u{2028}]{0,20}")?\}"#
            .prop_map(String::into_bytes),
        1 => ".{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "[ \t\r]{0,3}".prop_map(String::into_bytes),
        1 => (0usize..200).prop_map(|n| format!("\"{}\"", "y".repeat(n)).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        lines in proptest::collection::vec(line(), 0..12),
        cuts in proptest::collection::vec(1usize..60, 1..40),
        crlf: bool,
        ended: bool,
        max_line in prop_oneof![Just(150usize), Just(1 << 20)],
    ) {
        let mut stream = lines.join(if crlf { b"\r\n".as_slice() } else { b"\n" });
        if ended {
            stream.push(b'\n');
        }
        let schema = schema();
        let whole = decode(&schema, max_line, [stream.as_slice()]);

        let mut pieces = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        prop_assert_eq!(&decode(&schema, max_line, pieces), &whole);
        prop_assert_eq!(&decode(&schema, max_line, stream.chunks(1)), &whole);

        // One entry for each line that is not blank, counted the plain way.
        let blank = |line: &&[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
        let text = stream.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&stream);
        let plain = text.split(|&byte| byte == b'\n').filter(|line| !blank(line)).count();
        prop_assert_eq!(whole.len(), plain);
    }
}
