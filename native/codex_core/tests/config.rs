//! The configuration module from outside.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use codex_core::config::{
    self, ConfigSchema, Edit, EditError, Layered, Node, Reason, Strategy, Weight,
};

use proptest::prelude::*;

fn parse(text: &str) -> Node {
    config::parse(text.as_bytes()).expect("it is TOML")
}

fn path(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

fn schema() -> &'static ConfigSchema {
    static SCHEMA: LazyLock<ConfigSchema> = LazyLock::new(|| {
        ConfigSchema::from_json(include_bytes!("../../../priv/config/schema.json"))
            .expect("it is a schema")
    });
    &SCHEMA
}

fn problems(text: &str) -> Vec<(Reason, Weight, String, u32)> {
    let problems = config::check(schema(), &parse(text));
    problems.into_iter().map(|p| (p.reason, p.weight, p.message, p.at.line)).collect()
}

#[test]
fn keys_and_values_are_counted_before_parsing() {
    let long = |text: &str| format!("{text}#{}\n", " ".repeat(100));
    for (text, nodes) in [
        ("a = 1\n", 1),
        ("a.b = [1, 2]\n", 4),
        ("[t]\nx = {}\n", 3),
        ("[[t]]\n[[t]]\n", 4),
        ("a = \"x = [1, 2]\"\n", 1),
        ("a = '''\nx = [1, 2]\n'''\n", 1),
        ("# x = [1, 2]\n", 0),
    ] {
        assert!(config::is_within(long(text).as_bytes(), nodes.max(1)), "{text}");
        assert!(nodes == 0 || !config::is_within(long(text).as_bytes(), nodes - 1), "{text}");
    }
    // Lines and spaces count for little, but they count.
    assert!(config::is_within("\n".repeat(1000).as_bytes(), 100));
    assert!(!config::is_within("\n".repeat(10_000).as_bytes(), 100));
    assert!(config::is_within(b"a = \xff, , , , , , , , , , , ,", 2));
}

#[test]
fn places_of_keys_in_every_form_of_table() {
    let text = "a.b = 1\n[c]\nd = [\n  1,\n  {e = 2},\n]\n[[f]]\ng = 1\n[[f]]\n'h i' = \"\"\"\nx\n\"\"\"\n";
    let tree = parse(text);
    for (key, line, column) in
        [("a.b", 1, 3), ("c", 2, 2), ("c.d", 3, 1), ("c.d.1.e", 5, 4), ("f.0.g", 8, 1)]
    {
        let at = tree.get(&path(key)).unwrap().key;
        assert_eq!((at.line, at.column), (line, column), "{key}");
    }
    let at = tree.get(&["f".into(), "1".into(), "h i".into()]).unwrap().key;
    assert_eq!((at.line, at.column), (10, 1));
}

#[test]
fn columns_count_characters() {
    let fault = config::parse("é = \"ü\" x".as_bytes()).unwrap_err();
    assert_eq!((fault.at.line, fault.at.column, fault.source_line.as_str()), (1, 9, "é = \"ü\" x"));
}

#[test]
fn what_is_no_utf8_is_a_fault_with_its_place() {
    let fault = config::parse(b"a = 1\nb = \"\xff\"\n").unwrap_err();
    assert_eq!((fault.at.line, fault.at.column, fault.message.as_str()), (2, 6, "invalid UTF-8"));
}

#[test]
fn depth_is_limited() {
    for text in [format!("a = {}", "[".repeat(100_000)), format!("{}a = 1", "a.".repeat(100_000))] {
        assert!(config::parse(text.as_bytes()).is_err());
    }
    assert!(config::overrides(&[format!("{}a=1", "a.".repeat(100_000))]).is_err());
    assert!(config::overrides(&[format!("{}a=1", "a.".repeat(200))]).is_ok());
}

#[test]
fn the_highest_layer_wins_and_arrays_are_replaced() {
    let (low, high) = (parse("a = [1, 2]\n[t]\nx = 1\ny = 1\n"), parse("a = [3]\n[t]\n\ny = 2\n"));
    let merged = Layered::new(&[&low, &high]);
    assert_eq!(config::canonical(merged.root(), true), r#"{"a":[3],"t":{"x":1,"y":2}}"#);
    let some = Layered::of_keys(&[&low, &high], &path("t.none"));
    assert_eq!(config::canonical(some.root(), true), r#"{"t":{"x":1,"y":2}}"#);
    assert_eq!(some.origin(&path("t.y")), merged.origin(&path("t.y")));
    let origin = |key| merged.origin(&path(key)).map(|origin| (origin.layer, origin.at.line));
    assert_eq!(origin("t.x"), Some((0, 3)));
    assert_eq!(origin("t.y"), Some((1, 4)));
    assert_eq!(origin("a.0"), Some((1, 1)));
    assert_eq!(origin("a.1"), None);
    assert_eq!(config::leaves(merged.root()).len(), 3);
}

#[test]
fn problems_have_the_words_of_the_cli() {
    use Reason::*;
    use Weight::*;
    let case = |text: &str, expected: (Reason, Weight, &str, u32)| {
        let found = problems(text);
        assert_eq!(found, [(expected.0, expected.1, expected.2.to_owned(), expected.3)], "{text}");
    };
    case("model = 3", (Type, Error, "invalid type: integer `3`, expected a string", 1));
    case(
        "\n[history]\nmax_bytes = -1",
        (Value, Error, "invalid value: integer `-1`, expected usize", 3),
    );
    case(
        "history.persistence = \"x\"",
        (Value, Error, "unknown variant `x`, expected `save-all` or `none`", 1),
    );
    case("modle = 3", (UnknownKey, Strict, "unknown configuration field `modle`", 1));
    case("[tui]\nbar = 1", (UnknownKey, Strict, "unknown configuration field `tui.bar`", 2));
    case(
        "[agents.x]\nbla = 1",
        (UnknownKey, Silent, "unknown configuration field `agents.x.bla`", 2),
    );
    case("[mcp_servers.x]\nargs = []", (MissingKey, Error, "invalid transport", 1));
    case(
        "[mcp_servers.x]\ncommand = \"a\"\nauth = \"oauth\"",
        (Refused, Error, "auth is not supported for stdio", 3),
    );
    case("[projects.\"/a\"]\ntrust_level = true", (Type, Error, TRUST, 2));
}

const TRUST: &str = "invalid type: boolean `true`, expected `trusted` or `untrusted`";

#[test]
fn an_unknown_key_comes_with_the_nearest_known_one() {
    let nearest = |text| config::check(schema(), &parse(text)).remove(0).nearest;
    assert_eq!(nearest("modle = 3").as_deref(), Some("model"));
    assert_eq!(nearest("[history]\npersistance = \"none\"").as_deref(), Some("persistence"));
    assert_eq!(nearest("qqqqqq = 3"), None);
}

#[test]
fn paths_and_numbers_are_rewritten_unless_the_layer_is_wrong() {
    let schema = schema();
    let mut tree =
        parse("log_dir = \"a/../b\"\nsqlite_home = \"~/x\"\ntui.mouse_scroll_speed = 3\n");
    assert!(config::prepare(schema, &mut tree, "/base", "/home/u").1.is_empty());
    let expected =
        r#"{"log_dir":"/base/b","sqlite_home":"/home/u/x","tui":{"mouse_scroll_speed":3.0}}"#;
    assert_eq!(config::canonical(&tree, true), expected);

    let mut tree = parse("log_dir = \"a\"\nmodel = 3\n");
    assert_eq!(config::prepare(schema, &mut tree, "/base", "/home/u").1.len(), 1);
    assert_eq!(config::canonical(&tree, true), r#"{"log_dir":"a","model":3}"#);
}

#[test]
fn older_names_of_keys_and_values_become_the_newer_ones() {
    let schema = schema();
    let mut tree = parse(
        "approval_policy = \"on-failure\"\n[agents]\nmax_threads = 2\n[features]\ncollab = true\n",
    );
    config::prepare(schema, &mut tree, "/", "/");
    assert!(
        config::canonical(&tree, true)
            .contains(r#""agents":{"max_threads":2},"approval_policy":"on-request""#)
    );
    config::rename_aliases(schema, &mut tree);
    assert!(tree.get(&path("agents.max_concurrent_threads_per_session")).is_some());
    assert!(tree.get(&path("agents.max_threads")).is_none());
    assert!(tree.get(&path("features.collab")).is_some());
}

fn edited(text: &str, edits: &[(&str, &str, Strategy)]) -> Result<String, EditError> {
    let edits = edits.iter().map(|(key, json, strategy)| {
        let json = if json.is_empty() { None } else { Some(*json) };
        Edit::from_json(path(key), json, *strategy).expect("it is JSON")
    });
    config::edit(text, &edits.collect::<Vec<_>>())
}

#[test]
fn edits_keep_comments_and_order() {
    use Strategy::*;
    let text = "# top\nmodel = \"a\" # why\n\n[tui] # look\ntheme = \"x\"\n# end\n";
    let case =
        |edits: &[_], expected: &str| assert_eq!(edited(text, edits).as_deref(), Ok(expected));
    case(
        &[("model", "3", Replace)],
        "# top\nmodel = 3 # why\n\n[tui] # look\ntheme = \"x\"\n# end\n",
    );
    case(&[("tui.theme", "", Replace)], "# top\nmodel = \"a\" # why\n\n[tui] # look\n# end\n");
    let upserted = "# top\nmodel = \"a\" # why\n\n[tui] # look\ntheme = \"x\"\na = 1\n# end\n";
    case(&[("tui", r#"{"a":1}"#, Upsert)], upserted);
    case(
        &[("tui", r#"{"a":1}"#, Replace)],
        "# top\nmodel = \"a\" # why\n\n[tui] # look\na = 1\n# end\n",
    );
    let server = "# top\nmodel = \"a\" # why\n\n[tui] # look\ntheme = \"x\"\n\n[m.s]\nc = 1\n\n[m.s.e]\nk = 2\n# end\n";
    case(&[("m.s", r#"{"c":1,"e":{"k":2}}"#, Replace)], server);
}

#[test]
fn edits_go_into_tables_of_every_form() {
    let texts = [
        "",
        "a.b = 1\n",
        "a = {b = 1}\n",
        "[a]\nb = 1\n",
        "[a.b]\nc = 1\n",
        "a = 3\n",
        "[[a]]\nb = 1\n",
        "x.a.b = 1\n",
    ];
    for text in texts {
        for (key, json) in [
            ("a.b", r#"{"d":{"e":{}},"f":[{"g":1}]}"#),
            ("a", r#"{"b":{"d":1}}"#),
            ("a.n.m", "true"),
        ] {
            for strategy in [Strategy::Replace, Strategy::Upsert] {
                let text = edited(text, &[(key, json, strategy)]).expect("it can be edited");
                let tree = parse(&text);
                let written = tree.get(&path(key)).expect("it is there");
                if strategy == Strategy::Replace
                    || !matches!(written.value, config::Value::Table(_))
                {
                    assert_eq!(config::canonical(written, false), json, "{text}");
                }
                let gone = edited(&text, &[(key, "", strategy)]).expect("it can be deleted");
                assert!(parse(&gone).get(&path(key)).is_none(), "{gone}");
            }
        }
    }
}

#[test]
fn what_toml_cannot_hold_is_refused() {
    use Strategy::Replace;
    for json in ["null", "[1, null]", "9223372036854775808"] {
        assert_eq!(edited("a = 1", &[("b", json, Replace)]), Err(EditError::Value(path("b"))));
    }
    assert_eq!(edited("a = ", &[("b", "1", Replace)]), Err(EditError::Syntax));
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = config::parse(&bytes);
    }

    #[test]
    fn what_looks_like_toml_is_checked_edited_and_read_again(
        text in "(([abm](\\.[abm]){0,2} = (1|\"x\"|\\[1, \\{b = 2\\}\\]|\\{a = 1\\})|\\[[abm](\\.[abm]){0,2}\\]|\\[\\[[abm]\\]\\]|# c)\n){0,5}",
        key in prop::collection::vec("[abm]", 1..4),
        json in prop::sample::select(vec!["1", "{\"a\":{\"b\":[1]}}", "{}", "[]", "\"x\""]),
        upsert in any::<bool>(),
    ) {
        let Ok(tree) = config::parse(text.as_bytes()) else { return Ok(()) };
        let _ = config::check(schema(), &tree);
        let _ = config::overrides(std::slice::from_ref(&text));
        let strategy = if upsert { Strategy::Upsert } else { Strategy::Replace };
        let put = Edit::from_json(key.clone(), Some(json), strategy).expect("it is JSON");
        let text = config::edit(&text, &[put]).expect("it was TOML");
        let edited = parse(&text);
        let written = edited.get(&key).map(|node| config::canonical(node, false));
        if upsert {
            prop_assert!(written.is_some(), "{text}");
        } else {
            prop_assert_eq!(written.as_deref(), Some(json), "{}", text);
        }
        for (path, _) in config::leaves(&tree) {
            let in_the_way = path.iter().zip(&key).all(|(one, other)| one == other);
            let through_array = (1..key.len()).any(|n| matches!(tree.get(&key[..n]), Some(Node { value: config::Value::Array(_), .. })));
            if !in_the_way && !through_array {
                let value = |tree: &Node| tree.get(&path).map(|node| config::canonical(node, false));
                prop_assert_eq!(value(&edited), value(&tree), "{} of {}", path.join("."), text);
            }
        }
        let delete = Edit::from_json(key.clone(), None, strategy).expect("nothing to read");
        let text = config::edit(&text, &[delete]).expect("it was TOML");
        prop_assert!(parse(&text).get(&key).is_none(), "{text}");
    }
}

#[test]
fn a_path_is_a_table_if_nothing_else_but_a_text_may_stand_there() {
    let is_table = |key: &str| schema().is_table(&path(key));
    for table in [
        "mcp_servers",
        "mcp_servers.a",
        "mcp_servers.a.env",
        "mcp_servers.a.http_headers",
        "mcp_servers.a.env_http_headers",
        "mcp_servers.a.oauth",
        "mcp_servers.a.tools.t",
        "model_providers.p.query_params",
        "model_providers.p.auth",
        "otel.exporter.otlp-http.headers",
        "projects",
    ] {
        assert!(is_table(table), "{table}");
    }
    for other in [
        "mcp_servers.a.args",
        "mcp_servers.a.env_vars",
        "mcp_servers.a.enabled_tools",
        "mcp_servers.a.command",
        "mcp_servers.a.env.A",
        "model_providers.p.auth.args",
        "notify",
        "model",
        "no_such.key",
    ] {
        assert!(!is_table(other), "{other}");
    }
}
