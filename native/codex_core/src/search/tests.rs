use std::cell::Cell;
use std::fs;

use super::lines::{MAX_LINES, MAX_TEXT};
use super::*;

fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }
    dir
}

fn query(root: &Path, glob: &str, content: Option<&str>) -> Query {
    Query {
        root: root.to_path_buf(),
        glob: glob.to_owned(),
        content: content.map(str::to_owned),
        max_results: 100,
        hidden: false,
        ignored: false,
        case_sensitive: true,
    }
}

fn found(query: &Query) -> Answer {
    search(query, &|| true).expect("a search").expect("an answer")
}

fn paths(answer: &Answer) -> Vec<&str> {
    answer.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn finds_paths_in_their_order() {
    let dir = tree(&[
        ("b.ex", b""),
        ("a/c.ex", b""),
        ("a/b/d.ex", b""),
        ("a/b/e.exs", b""),
        (".h.ex", b""),
    ]);
    let list = |glob| found(&query(dir.path(), glob, None));
    assert_eq!(paths(&list("**/*.ex")), ["a/b/d.ex", "a/c.ex", "b.ex"]);
    assert_eq!(paths(&list("*.ex")), ["b.ex"]);
    assert_eq!(paths(&list("./a/*.{ex,exs}")), ["a/c.ex"]);
    assert_eq!(paths(&list("../*")), Vec::<&str>::new());
    let mut hidden = query(dir.path(), "*.ex", None);
    hidden.hidden = true;
    assert_eq!(paths(&found(&hidden)), [".h.ex", "b.ex"]);
    let mut one = query(dir.path(), "**/*.ex", None);
    one.max_results = 1;
    let answer = found(&one);
    assert_eq!((paths(&answer), answer.truncated), (vec!["a/b/d.ex"], true));
}

#[test]
fn finds_lines() {
    let dir = tree(&[
        ("a.txt", b"one\r\ntwo\nthree two\n"),
        ("b.bin", b"two\0"),
        ("c.txt", b"TWO"),
        ("d.txt", b""),
    ]);
    let mut two = query(dir.path(), "*", Some("two"));
    let answer = found(&two);
    assert_eq!(paths(&answer), ["a.txt"]);
    assert_eq!(answer.files[0].lines, [(2, "two".into()), (3, "three two".into())]);
    two.case_sensitive = false;
    assert_eq!(paths(&found(&two)), ["a.txt", "c.txt"]);
    for (pattern, numbers) in [
        ("^two$", vec![2]),
        (r"\Atwo\z", vec![2]),
        ("(?i)TWO", vec![2, 3]),
        (r"one\s+two", vec![]),
        ("^", vec![1, 2, 3]),
        ("e$", vec![1]),
    ] {
        let answer = found(&query(dir.path(), "a.txt", Some(pattern)));
        let lines = answer.files.first().map_or(&[][..], |file| &file.lines);
        let found: Vec<_> = lines.iter().map(|(number, _)| *number).collect();
        assert_eq!((pattern, found), (pattern, numbers));
    }
}

#[test]
fn is_bounded() {
    let long = format!("{}ä\n", "x".repeat(MAX_TEXT - 1));
    let many = long.repeat(MAX_LINES + 1);
    let dir = tree(&[("a", many.as_bytes()), ("b", b"x\n"), ("c", b"x\n")]);
    let big = File::create(dir.path().join("big")).expect("a file");
    big.set_len(MAX_FILE + 1).expect("a size");
    let mut all = query(dir.path(), "*", Some("x"));
    let answer = found(&all);
    assert_eq!(paths(&answer), ["a", "b", "c"]);
    assert!(answer.truncated);
    assert_eq!(answer.files[0].lines.len(), MAX_LINES);
    assert_eq!(answer.files[0].lines[0].1, format!("{}…", "x".repeat(MAX_TEXT - 1)));
    all.glob = "[bc]".into();
    assert!(!found(&all).truncated);
    all.max_results = 1;
    let answer = found(&all);
    assert_eq!((paths(&answer), answer.truncated), (vec!["b"], true));
}

#[test]
fn leaves_out_links_and_ignored_files() {
    let dir =
        tree(&[(".git/config", b""), (".gitignore", b"out\n"), ("out/a", b"x"), ("src/b", b"x")]);
    std::os::unix::fs::symlink("/etc", dir.path().join("etc")).expect("a link");
    std::os::unix::fs::symlink("src/b", dir.path().join("link")).expect("a link");
    let mut all = query(dir.path(), "**", None);
    assert_eq!(paths(&found(&all)), ["src/b"]);
    all.ignored = true;
    assert_eq!(paths(&found(&all)), ["out/a", "src/b"]);
}

#[test]
fn errors() {
    let dir = tree(&[("a", b"x")]);
    let error = |query: &Query| search(query, &|| true).expect_err("an error");
    assert!(matches!(error(&query(dir.path(), "[", None)), SearchError::Glob(_)));
    assert!(matches!(error(&query(dir.path(), "*", Some("("))), SearchError::Regex(_)));
    let huge = "(a{1000}){1000}";
    assert!(matches!(error(&query(dir.path(), "*", Some(huge))), SearchError::Regex(_)));
    assert!(matches!(error(&query(&dir.path().join("a"), "*", None)), SearchError::Io(_)));
}

#[test]
fn stops_when_nobody_waits() {
    let dir = tree(&[("a", "x\n".repeat(1_000_000).as_bytes())]);
    assert!(search(&query(dir.path(), "*", Some("x")), &|| false).expect("a search").is_none());
    // The first question is before the work.
    let asked = Cell::new(0);
    let guard = || {
        asked.set(asked.get() + 1);
        asked.get() == 1
    };
    let slow = query(dir.path(), "*", Some("(?:x|y)*z"));
    let answer = search(&slow, &guard).expect("a search");
    assert!(answer.is_none() || asked.get() == 1);
}
