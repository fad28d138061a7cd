//! Dialects: fields are found under their paths, and other members are kept.
#![allow(clippy::unwrap_used)]

mod support;

use codex_core::SchemaError;
use codex_core::dialect::{Dialect, Keep, Key, Path, Row, Source, TooLong, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use support::ValueSink;

fn path(text: &str) -> Path {
    match text.split_once('.') {
        Some((object, name)) => (object.to_string(), Some(name.to_string())),
        None => (text.to_string(), None),
    }
}

fn source(paths: &[&str], value: Value) -> Source {
    Source { paths: paths.iter().map(|text| path(text)).collect(), value, required: false }
}

fn row(wire_type: &str, tag: u32, fields: Vec<Source>) -> Row {
    Row { wire_type: wire_type.to_string(), when: None, tag, fields, keep: Vec::new() }
}

fn dialect() -> Dialect {
    let ids = || source(&["turnId", "turn.id"], Value::Any);
    let failed = Row {
        when: Some((path("turn.status"), "failed".to_string())),
        keep: vec![("turn".to_string(), Keep::Whole)],
        ..row("turn/completed", 1, vec![source(&["turn.error"], Value::Any), ids()])
    };
    let started = Row {
        keep: vec![("turn".to_string(), Keep::Nothing)],
        ..row("turn/started", 2, vec![ids()])
    };
    let item = Source { required: true, ..source(&["item"], Value::Union(1)) };
    let events = vec![
        failed,
        row("turn/completed", 0, vec![source(&["turn.status"], Value::Any), ids()]),
        started,
        row("item/started", 3, vec![item]),
        row("tokens", 4, vec![source(&["usage.total"], Value::Counts)]),
    ];
    let items = vec![
        row("command", 0, vec![source(&["status"], Value::Enum(0))]),
        row(
            "patch",
            1,
            vec![source(&["changes"], Value::Records(0)), source(&[], Value::Const(9))],
        ),
        row("tool", 2, vec![source(&["result"], Value::Object(1))]),
    ];
    let change = vec![
        (Key::Name(7), source(&["path"], Value::Any)),
        (Key::Name(8), source(&["kind.type", "kind"], Value::Enum(0))),
    ];
    let result = vec![(Key::Text("short_name".to_string()), source(&["shortName"], Value::Any))];
    let words = vec![("in_progress".to_string(), 1), ("add".to_string(), 2)];
    Dialect::new(vec![events, items], vec![words], vec![change, result], true).unwrap()
}

fn read(wire_type: &str, object: &Json) -> Json {
    read_within(wire_type, object, u64::MAX).unwrap()
}

fn read_within(wire_type: &str, object: &Json, work: u64) -> Result<Json, TooLong> {
    let mut sink = ValueSink::default();
    let term = sink.put(object.clone());
    let read = dialect().read(&mut sink, wire_type.as_bytes(), term, work)?;
    Ok(read.map_or(json!("unknown"), |term| sink.take(term)))
}

fn event(tag: u32, fields: Json, extra: Json) -> Json {
    json!({ "tag": tag, "fields": fields, "extra": extra })
}

#[test]
fn paths_lead_into_objects() {
    let turn = json!({"id": "u", "status": "completed", "more": 1});
    let whole = json!({"turn": turn, "x": 2});
    assert_eq!(
        read("turn/completed", &whole),
        event(0, json!(["completed", "u"]), json!({"more": 1, "x": 2}))
    );
    assert_eq!(read("turn/started", &whole), event(2, json!(["u"]), json!({"x": 2})));
    let both = json!({"turn": {"id": "inner"}, "turnId": "outer"});
    assert_eq!(read("turn/started", &both), event(2, json!(["outer"]), json!(null)));
    assert_eq!(
        read("turn/completed", &json!({"turn": 3})),
        event(0, json!([null, null]), json!({"turn": 3}))
    );
}

#[test]
fn a_condition_selects_the_row() {
    let turn = json!({"status": "failed", "error": "e"});
    assert_eq!(
        read("turn/completed", &json!({ "turn": turn })),
        event(1, json!(["e", null]), json!({ "turn": turn }))
    );
    assert_eq!(read("turn/completed", &json!({"turn": "failed"}))["tag"], 0);
    assert_eq!(read("turn/completed", &json!({}))["tag"], 0);
}

#[test]
fn words_are_converted_and_unknown_ones_kept() {
    let item = |item: Json| read("item/started", &json!({ "item": item }))["fields"][0].clone();
    let status = |word: Json| item(json!({"type": "command", "status": word}))["fields"][0].clone();
    assert_eq!(status(json!("inProgress")), json!("name 1"));
    assert_eq!(status(json!("onHold")), json!("on_hold"));
    assert_eq!(status(json!(3)), json!(3));
    assert_eq!(item(json!({"type": "other", "a": 1})), json!({"type": "other", "a": 1}));
    assert_eq!(item(json!(4)), json!(4));
    assert_eq!(item(json!({"type": 4})), json!({"type": 4}));
    assert_eq!(read("item/started", &json!({"more": 1})), json!("unknown"));
    assert_eq!(read("weather", &json!({})), json!("unknown"));
    assert_eq!(read("item/started", &json!([1])), json!("unknown"));
}

#[test]
fn records_and_objects_keep_other_members() {
    let item = |item: Json| read("item/started", &json!({ "item": item }))["fields"][0].clone();
    let changes = json!([
        {"path": "a", "kind": {"type": "add", "more": 1}},
        {"kind": "add", "x": 2},
        {"kind": {"more": 1}},
        5
    ]);
    assert_eq!(
        item(json!({"type": "patch", "changes": changes, "y": 3})),
        event(
            1,
            json!([
                [
                    {"name 7": "a", "name 8": "name 2", "more": 1},
                    {"name 7": null, "name 8": "name 2", "x": 2},
                    {"name 7": null, "name 8": {"more": 1}},
                    5
                ],
                "name 9"
            ]),
            json!({"y": 3})
        )
    );
    let result =
        |result: Json| item(json!({"type": "tool", "result": result}))["fields"][0].clone();
    assert_eq!(result(json!({"shortName": 1, "aB": 2})), json!({"short_name": 1, "aB": 2}));
    assert_eq!(result(json!({"aB": 2})), json!({"aB": 2}));
    assert_eq!(result(json!(null)), json!(null));
}

#[test]
fn counts_are_integers_of_an_object() {
    let total = json!({"inputTokens": 1, "total": 2, "x": "y"});
    assert_eq!(
        read("tokens", &json!({"usage": {"total": total, "window": 3}})),
        event(4, json!([{"input_tokens": 1, "total": 2}]), json!({"window": 3}))
    );
    assert_eq!(read("tokens", &json!({"usage": {"total": 3}})), json!("unknown"));
    assert_eq!(read("tokens", &json!({}))["fields"], json!([null]));
}

#[test]
fn reading_ends_when_its_work_is_done() {
    let object = json!({"item": {"type": "patch", "changes": vec![json!({"path": 1}); 100]}});
    assert_eq!(read_within("item/started", &object, 100), Err(TooLong));
    assert!(read_within("item/started", &object, 300).is_ok());
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let new = |value: Value, records: Vec<Vec<(Key, Source)>>| {
        let rows = vec![row("a", 0, vec![source(&["a"], value)])];
        Dialect::new(vec![rows], vec![], records, false).map(|_| ())
    };
    assert_eq!(new(Value::Enum(0), vec![]), Err(SchemaError::Dangling));
    assert_eq!(new(Value::Union(0), vec![]), Err(SchemaError::Nested));
    assert_eq!(new(Value::Union(1), vec![]), Err(SchemaError::Dangling));
    assert_eq!(new(Value::Records(0), vec![]), Err(SchemaError::Dangling));
    let nested = vec![(Key::Name(0), source(&["a"], Value::Object(0)))];
    assert_eq!(new(Value::Object(0), vec![nested]), Err(SchemaError::Nested));
    let many = vec![row("a", 0, vec![source(&["a"], Value::Any); 65])];
    assert!(matches!(
        Dialect::new(vec![many], vec![], vec![], false),
        Err(SchemaError::TooManyFields)
    ));
}

/// Objects whose members have the names of the dialect, with values of any kind.
fn anything() -> impl Strategy<Value = Json> {
    let names = prop::sample::select(vec![
        "turn",
        "turnId",
        "id",
        "status",
        "error",
        "item",
        "type",
        "usage",
        "total",
        "changes",
        "kind",
        "path",
        "result",
        "shortName",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        prop::sample::select(vec!["failed", "command", "patch", "tool", "add", "inProgress", "ü"])
            .prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_string), inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_is_an_event_or_none(
        object in anything(),
        wire_type in prop::sample::select(
            vec!["turn/completed", "turn/started", "item/started", "tokens", "x"]
        ),
        work in 0u64..100,
    ) {
        let whole = read(wire_type, &object);
        if let Ok(part) = read_within(wire_type, &object, work) {
            prop_assert_eq!(part, whole);
        }
    }

    #[test]
    fn members_without_a_path_are_kept(object in anything(), marked in any::<i64>()) {
        if let Json::Object(mut members) = object {
            members.insert("unheard_of".to_string(), json!(marked));
            for wire_type in ["turn/completed", "turn/started", "tokens"] {
                let read = read(wire_type, &Json::Object(members.clone()));
                if read != json!("unknown") {
                    prop_assert_eq!(&read["extra"]["unheard_of"], &json!(marked));
                }
            }
        }
    }
}
