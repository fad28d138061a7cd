//! The crates that this machine builds come from a registry, and their licenses permit what the MIT
//! license of this package permits.

use std::process::Command;

use serde_json::Value;

const PERMITTED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Returns whether licenses of the list satisfy an SPDX expression. An old form has `/` for `OR`.
fn permits(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) && rest.is_empty()
}

fn any(rest: &mut &[&str]) -> bool {
    let mut permitted = all(rest);
    while take(rest, "OR") {
        permitted |= all(rest);
    }
    permitted
}

fn all(rest: &mut &[&str]) -> bool {
    let mut permitted = license(rest);
    while take(rest, "AND") {
        permitted &= license(rest);
    }
    permitted
}

fn license(rest: &mut &[&str]) -> bool {
    if take(rest, "(") {
        return any(rest) && take(rest, ")");
    }
    let Some((first, others)) = rest.split_first() else {
        return false;
    };
    *rest = others;
    let mut name = (*first).to_string();
    if take(rest, "WITH")
        && let Some((exception, others)) = rest.split_first()
    {
        name = format!("{name} WITH {exception}");
        *rest = others;
    }
    PERMITTED.contains(&name.as_str())
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, others)) if *first == word => {
            *rest = others;
            true
        }
        _ => false,
    }
}

fn cargo(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs these tests");
    assert!(out.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo writes UTF-8")
}

#[test]
fn expressions_are_evaluated() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0-only OR MIT",
        "(MIT OR GPL-2.0-only) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
    ] {
        assert!(permits(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "MIT AND (GPL-2.0-only OR MPL-2.0)",
        "(MIT",
        "MIT Apache-2.0",
        "GPL-2.0-only OR",
    ] {
        assert!(!permits(bad), "{bad}");
    }
}

#[test]
fn every_crate_is_from_the_registry_and_has_a_permitted_license() {
    let version = cargo(&["-vV"]);
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let metadata = cargo(&[
        "metadata",
        "--locked",
        "--offline",
        "--format-version=1",
        "--filter-platform",
        host,
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() > 20, "{} packages", packages.len());
    let members = metadata["workspace_members"].as_array().expect("a list");

    for package in packages {
        let name = &package["name"];
        let license = package["license"].as_str().unwrap_or_default();
        assert!(permits(license), "{name} has the license {license:?}");
        // A Git source would begin with `git+`. Members of this workspace have none.
        let source = package["source"].as_str().unwrap_or_default();
        assert!(
            source.starts_with("registry+") || members.contains(&package["id"]),
            "{name} comes from {source:?}"
        );
    }
}
