//! Patches: recorded cases of the CLI's own tool, and properties.

// `allow-unwrap-in-tests` is about functions with `#[test]`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use codex_core::patch::{self, Failure, ParseError, Refusal};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

const CASES: &str = include_str!("../../../test/fixtures/apply_patch.jsonl");

/// Cases whose result differs on purpose: the CLI leaves these paths to its sandbox, or loses the
/// file or its mode.
const REFUSED: &[&str] =
    &["absolute_", "parent_", "hidden_parent", "inner_dots", "link_out", "onto_itself"];

#[derive(Debug)]
enum Failed {
    Parse(ParseError),
    Refused(Failure),
}

fn apply(root: &Path, text: &str) -> Result<(), Failed> {
    let changes = patch::parse(text).map_err(Failed::Parse)?;
    let plan = patch::plan(root, &changes).map_err(Failed::Refused)?;
    assert!(plan.commit(&|| true).map_err(Failed::Refused)?);
    Ok(())
}

fn make(root: &Path, tree: &Value) {
    let mut modes = Vec::new();
    for (path, file) in tree.as_object().unwrap() {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if file["dir"] == true {
            fs::create_dir_all(&path).unwrap();
        } else if let Some(target) = file["link"].as_str() {
            std::os::unix::fs::symlink(target, &path).unwrap();
        } else {
            fs::write(&path, content(file)).unwrap();
        }
        if let Some(mode) = file["mode"].as_str() {
            modes.push((path, u32::from_str_radix(mode, 8).unwrap()));
        }
    }
    for (path, mode) in modes {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn content(file: &Value) -> Vec<u8> {
    match file["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let text = file["base64"].as_str().unwrap();
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    Link(PathBuf),
    File(Vec<u8>),
}

/// A directory with files in it needs no node of its own.
fn wanted(tree: &Value) -> BTreeMap<PathBuf, Node> {
    let tree = tree.as_object().unwrap();
    let has_files = |folder: &str| tree.keys().any(|path| path.starts_with(&format!("{folder}/")));
    let shown = tree.iter().filter(|(path, file)| file["dir"] != true || !has_files(path));
    let nodes = shown.map(|(path, file)| {
        let node = match (file["dir"] == true, file["link"].as_str()) {
            (true, _) => Node::Folder,
            (_, Some(target)) => Node::Link(target.into()),
            _ => Node::File(content(file)),
        };
        (PathBuf::from(path), node)
    });
    nodes.collect()
}

/// The files below a directory, and its empty directories.
fn found(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let mut empty = true;
        for entry in fs::read_dir(&folder).unwrap() {
            empty = false;
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                nodes.insert(name, Node::Link(fs::read_link(&path).unwrap()));
            } else {
                let mode = kind.permissions().mode();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                nodes.insert(name, Node::File(fs::read(&path).unwrap()));
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        if empty && folder != root.join("w") && folder != root {
            nodes.insert(folder.strip_prefix(root).unwrap().to_path_buf(), Node::Folder);
        }
    }
    nodes
}

fn case(case: &Value) -> Result<(), String> {
    let name = format!("{}.{}", case["group"].as_str().unwrap(), case["name"].as_str().unwrap());
    let dir = TempDir::new().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir(root.join("w")).unwrap();
    make(&root, &case["before"]);
    let text = case["patch"].as_str().unwrap().replace("${ROOT}", root.to_str().unwrap());
    let result = apply(&root.join("w"), &text);
    let tool = &case["expect_tool"];
    let refused = REFUSED.iter().any(|part| name.contains(part));
    let (after, output) = match (refused, tool.is_null()) {
        (true, _) => (&case["before"], ""),
        (false, true) => (&case["expect"]["after"], case["expect"]["stderr"].as_str().unwrap()),
        (false, false) => (&tool["after"], tool["output"].as_str().unwrap()),
    };
    let succeeds = !refused
        && match tool.is_null() {
            true => case["expect"]["exit"] == 0,
            false => output.contains("Success."),
        };
    if result.is_ok() != succeeds {
        return Err(format!("{name}: {result:?}, expected: {output}"));
    }
    if found(&root) != wanted(after) {
        return Err(format!("{name}: {:?} in place of {after}", found(&root)));
    }
    let words = match &result {
        Err(Failed::Parse(error)) => error.to_string(),
        Err(Failed::Refused(Failure { refusal: Refusal::Mismatch(error), .. })) => {
            error.to_string().split(':').next().unwrap_or_default().to_string()
        }
        _ => String::new(),
    };
    let environment = words.contains("environment");
    let said = words.strip_prefix("invalid patch: ").unwrap_or(&words);
    let head = said.split(" lines").next().unwrap_or_default();
    if !environment && !refused && !output.starts_with("Usage") && !output.contains(head) {
        return Err(format!("{name}: {words}, expected: {output}"));
    }
    Ok(())
}

#[test]
fn cases_of_the_cli() {
    let cases: Vec<Value> = CASES.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 190);
    // The CLI's tool takes no diff.
    let cases = cases.iter().filter(|case| case["name"] != "git_diff");
    let failed: Vec<String> = cases.filter_map(|value| case(value).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_file_that_moves_keeps_its_mode() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a"), "1\n").unwrap();
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o754)).unwrap();
    let text = "*** Begin Patch\n*** Update File: a\n*** Move to: b\n@@\n-1\n+2\n*** End Patch";
    apply(dir.path(), text).unwrap();
    let mode = fs::metadata(dir.path().join("b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o754);
}

#[test]
fn a_failed_write_takes_everything_back() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    make(
        root,
        &serde_json::json!({
            "a": {"text": "1\n"}, "b": {"text": "1\n"}, "d/c": {"text": "1\n"},
            "d": {"dir": true, "mode": "755"}
        }),
    );
    let before = found(root);
    let text = "*** Begin Patch\n*** Add File: x/y\n+1\n*** Update File: a\n@@\n-1\n+2\n\
                *** Update File: b\n*** Move to: z\n@@\n-1\n+2\n*** Delete File: d/c\n\
                *** End Patch";
    let plan = patch::plan(root, &patch::parse(text).unwrap()).unwrap();
    // The last step before the first change takes the right to remove a file away.
    let lock = || {
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o555)).unwrap();
        true
    };
    assert!(plan.commit(&lock).is_err());
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(found(root), before);
    assert!(!plan.commit(&|| false).unwrap());
    assert_eq!(found(root), before);
    assert!(plan.commit(&|| true).unwrap());
    assert_ne!(found(root), before);
}

#[test]
fn a_file_that_changed_since_the_check_stays() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a"), "1\n").unwrap();
    let text = "*** Begin Patch\n*** Update File: a\n@@\n-1\n+2\n*** End Patch";
    let plan = patch::plan(dir.path(), &patch::parse(text).unwrap()).unwrap();
    fs::write(dir.path().join("a"), "other\n").unwrap();
    let failure = plan.commit(&|| true).unwrap_err();
    assert!(matches!(failure.refusal, Refusal::Changed), "{failure:?}");
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "other\n");
}

#[test]
fn a_diff_of_git() {
    let dir = TempDir::new().unwrap();
    make(
        dir.path(),
        &serde_json::json!({
            "a b": {"text": "1\n2\n3"}, "gone": {"text": "x\n"}, "old": {"text": "o\n"}
        }),
    );
    let text = "diff --git a/a b b/a b\n--- a/a b\t\n+++ b/a b\t\n@@ -1,3 +1,3 @@\n\x201\n-2\n\
                +two\n 3\n\
                \\ No newline at end of file\ndiff --git a/gone b/gone\ndeleted file mode 100644\n\
                --- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                diff --git a/old b/new\nrename from old\nrename to new\n\
                diff --git \"a/\\303\\274\" \"b/\\303\\274\"\nnew file mode 100755\n--- /dev/null\n\
                +++ \"b/\\303\\274\"\n@@ -0,0 +1 @@\n+u\n\\ No newline at end of file\n";
    apply(dir.path(), text).unwrap();
    let text = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(
        (text("a b"), text("new"), text("ü")),
        ("1\ntwo\n3".into(), "o\n".into(), "u".into())
    );
    assert!(!dir.path().join("gone").exists() && !dir.path().join("old").exists());
    let mode = fs::metadata(dir.path().join("ü")).unwrap().permissions().mode();
    assert_eq!(mode & 0o100, 0o100);
}

#[test]
fn a_diff_without_its_context_changes_nothing() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a"), "1\n2\n3\n").unwrap();
    let text = "--- a/a\n+++ b/a\n@@ -2,2 +2,2 @@\n other\n-3\n+three\n";
    let Err(Failed::Refused(failure)) = apply(dir.path(), text) else { panic!("no refusal") };
    assert!(matches!(failure.refusal, Refusal::Mismatch(_)), "{failure:?}");
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1\n2\n3\n");
}

// --- Properties ----------

/// For each old line whether it stays, and lines that come before it; lines at the end.
type Edits = (Vec<(String, bool, Vec<String>)>, Vec<String>);

fn edits() -> impl Strategy<Value = Edits> {
    let line = || "[ab \\-+@*]{0,3}";
    let added = move || proptest::collection::vec(line(), 0..2);
    let old = (line(), any::<bool>(), added());
    (proptest::collection::vec(old, 1..12), added())
}

fn before((old, _): &Edits) -> String {
    old.iter().map(|(line, ..)| format!("{line}\n")).collect()
}

fn lines((old, end): &Edits) -> Vec<(char, String)> {
    let mut lines = Vec::new();
    for (line, stays, added) in old {
        lines.extend(added.iter().map(|line| ('+', line.clone())));
        lines.push((if *stays { ' ' } else { '-' }, line.clone()));
    }
    lines.extend(end.iter().map(|line| ('+', line.clone())));
    lines
}

fn after(edits: &Edits) -> String {
    let lines = lines(edits).into_iter().filter(|line| line.0 != '-');
    lines.map(|line| format!("{}\n", line.1)).collect()
}

fn body(edits: &Edits) -> String {
    lines(edits).iter().map(|(role, line)| format!("{role}{line}\n")).collect()
}

/// One hunk for each change, without context: line numbers alone tell where it is.
fn diff(edits: &Edits) -> String {
    let (mut old, mut new, mut text) = (1, 1, String::new());
    for (role, line) in lines(edits) {
        match role {
            ' ' => (old, new) = (old + 1, new + 1),
            '-' => {
                text += &format!("@@ -{old} +{},0 @@\n-{line}\n", new - 1);
                old += 1;
            }
            _ => {
                text += &format!("@@ -{},0 +{new} @@\n+{line}\n", old - 1);
                new += 1;
            }
        }
    }
    text
}

proptest! {
    #[test]
    fn patches_of_random_edits_apply(files in proptest::collection::vec(edits(), 1..4)) {
        let dir = TempDir::new().unwrap();
        let (mut patch, mut unified) = ("*** Begin Patch\n".to_string(), String::new());
        for (n, edits) in files.iter().enumerate() {
            fs::write(dir.path().join(format!("p{n}")), before(edits)).unwrap();
            fs::write(dir.path().join(format!("u{n}")), before(edits)).unwrap();
            patch += &format!("*** Update File: p{n}\n@@\n{}", body(edits));
            let hunks = diff(edits);
            if !hunks.is_empty() {
                unified += &format!("--- a/u{n}\n+++ b/u{n}\n{hunks}");
            }
        }
        apply(dir.path(), &(patch + "*** End Patch")).unwrap();
        if !unified.is_empty() {
            apply(dir.path(), &unified).unwrap();
        }
        for (n, edits) in files.iter().enumerate() {
            for kind in ["p", "u"] {
                let text = fs::read_to_string(dir.path().join(format!("{kind}{n}"))).unwrap();
                prop_assert_eq!(text, after(edits), "{}{}", kind, n);
            }
        }
    }

    #[test]
    fn random_text_never_writes(
        text in concat!(
            "(\\*\\*\\* (Begin Patch|End Patch|Update File: a|Add File: n|Delete File: a)\n",
            "|[-+ @]{0,2}[a-c]?\n|\\PC{0,9}\n){0,12}"
        )
    ) {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a"), "a\nb\n").unwrap();
        let before = found(dir.path());
        let result = apply(dir.path(), &text);
        let whole = text.trim();
        if !whole.starts_with("*** Begin Patch") || !whole.ends_with("*** End Patch") {
            prop_assert!(result.is_err());
        }
        if result.is_err() {
            prop_assert_eq!(found(dir.path()), before);
        }
    }

    #[test]
    fn no_text_panics(
        text in "(--- |\\+\\+\\+ |diff --git |@@ -1,2 \\+3 @@|\\\\|\"|[a\n \\-+,0-9é])*"
    ) {
        let _ = patch::parse(&text);
        let _ = patch::parse(&format!("diff --git {text}"));
        let _ = patch::parse(&format!("--- a\n+++ b\n@@ -{text}"));
    }
}
