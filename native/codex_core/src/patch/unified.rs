//! Unified diffs, plain ones and those of git.

use super::lines::feeds;
use super::{Change, Format, Hunk, Kind, ParseError, Role};

/// Headers of git whose changes have no form here.
const UNSUPPORTED: &[&str] = &["copy from ", "GIT binary patch", "Binary files "];

/// Whether a text is a diff: it has the header of a file, and not that of `apply_patch`.
pub fn is_diff(text: &str) -> bool {
    let mut lines = text.lines().peekable();
    if text.lines().any(|line| line.trim() == "*** Begin Patch") {
        return false;
    }
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or("");
        if line.starts_with("diff --git ") || line.starts_with("--- ") && next.starts_with("+++ ") {
            return true;
        }
    }
    false
}

pub fn parse(text: &str) -> Result<Vec<Change>, ParseError> {
    let lines: Vec<&str> = feeds(text).lines.into_iter().map(|line| line.0).collect();
    let mut reader = Reader { lines, at: 0 };
    let mut changes = Vec::new();
    while let Some(line) = reader.peek() {
        if line.starts_with("diff --git ") || reader.at_names() {
            changes.push(reader.file()?);
        } else if line.starts_with("@@ ") {
            return reader.fail("a hunk without the names of a file");
        } else {
            // Words before and between files.
            reader.at += 1;
        }
    }
    Ok(changes)
}

#[derive(Default)]
struct Header {
    old: Option<Option<String>>,
    new: Option<Option<String>>,
    rename: (Option<String>, Option<String>),
    created: bool,
    deleted: bool,
    executable: Option<bool>,
    git: Option<String>,
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn at_names(&self) -> bool {
        let starts = |at: usize, prefix| self.lines.get(at).is_some_and(|l| l.starts_with(prefix));
        starts(self.at, "--- ") && starts(self.at + 1, "+++ ")
    }

    fn fail<T>(&self, words: &str) -> Result<T, ParseError> {
        Err(ParseError::Line(self.at + 1, words.into()))
    }

    fn file(&mut self) -> Result<Change, ParseError> {
        let first = self.at;
        let header = self.header()?;
        let mut hunks = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.starts_with("@@ ")) {
            hunks.push(self.hunk(line)?);
        }
        change(header, hunks).ok_or_else(|| {
            ParseError::Line(first + 1, "the file of the diff has no usable name".into())
        })
    }

    fn header(&mut self) -> Result<Header, ParseError> {
        let mut header = Header::default();
        if let Some(names) = self.peek().and_then(|line| line.strip_prefix("diff --git ")) {
            header.git = Some(names.to_string());
            self.at += 1;
        }
        while let Some(line) = self.peek() {
            if self.at_names() {
                let new = self.lines.get(self.at + 1).copied().unwrap_or("");
                let old = name(line.strip_prefix("--- ").unwrap_or(line));
                let (old, new) = bare(old, name(new.strip_prefix("+++ ").unwrap_or(new)));
                (header.old, header.new) = (Some(old), Some(new));
                self.at += 2;
                break;
            }
            if header.git.is_none() || line.starts_with("diff --git ") || line.starts_with("@@ ") {
                break;
            }
            if UNSUPPORTED.iter().any(|prefix| line.starts_with(prefix)) {
                return self.fail("binary changes and copies are not supported");
            }
            self.extended(&mut header, line)?;
            self.at += 1;
        }
        Ok(header)
    }

    fn extended(&self, header: &mut Header, line: &str) -> Result<(), ParseError> {
        let mode = line
            .strip_prefix("new file mode ")
            .or(line.strip_prefix("deleted file mode "))
            .or(line.strip_prefix("new mode "));
        if let Some(mode) = mode {
            if !mode.starts_with("100") {
                return self.fail("only regular files are supported, not links or submodules");
            }
            header.created |= line.starts_with("new file");
            header.deleted |= line.starts_with("deleted");
            if line.starts_with("new ") {
                header.executable = Some(mode == "100755");
            }
        } else if let Some(path) = line.strip_prefix("rename from ") {
            header.rename.0 = Some(unquoted(path));
        } else if let Some(path) = line.strip_prefix("rename to ") {
            header.rename.1 = Some(unquoted(path));
        }
        Ok(())
    }

    fn hunk(&mut self, line: &str) -> Result<Hunk, ParseError> {
        let Some((start, mut old, mut new)) = ranges(line) else {
            return self.fail("expected the header of a hunk: @@ -line,count +line,count @@");
        };
        self.at += 1;
        let mut hunk = Hunk { start: Some(start), ..Hunk::default() };
        while old > 0 || new > 0 {
            let Some(line) = self.peek() else {
                return self.fail("the hunk has fewer lines than its header states");
            };
            let (role, text) = match line.as_bytes().first() {
                None => (Role::Context, ""),
                Some(b' ') => (Role::Context, &line[1..]),
                Some(b'+') => (Role::Add, &line[1..]),
                Some(b'-') => (Role::Remove, &line[1..]),
                Some(b'\\') => {
                    self.unended(&mut hunk);
                    continue;
                }
                Some(_) => return self.fail("the hunk has fewer lines than its header states"),
            };
            let fits = (role == Role::Add || old > 0) && (role == Role::Remove || new > 0);
            if !fits {
                return self.fail("the hunk has other lines than its header states");
            }
            old -= usize::from(role != Role::Add);
            new -= usize::from(role != Role::Remove);
            hunk.lines.push((role, text.to_string()));
            self.at += 1;
        }
        if self.peek().is_some_and(|line| line.starts_with('\\')) {
            self.unended(&mut hunk);
        }
        match self.peek() {
            Some(line) if line.starts_with([' ', '+']) && !line.starts_with("+++ ") => {
                self.fail("the hunk has more lines than its header states")
            }
            _ => Ok(hunk),
        }
    }

    /// `\ No newline at end of file` is about the line before it.
    fn unended(&mut self, hunk: &mut Hunk) {
        let role = hunk.lines.last().map(|line| line.0);
        hunk.old_unended |= matches!(role, Some(Role::Context | Role::Remove));
        hunk.new_unended |= matches!(role, Some(Role::Context | Role::Add));
        self.at += 1;
    }
}

fn change(header: Header, hunks: Vec<Hunk>) -> Option<Change> {
    let named = header.old.is_some();
    let (mut old, mut new) = (header.old.flatten(), header.new.flatten());
    if !named {
        // Only git has files without hunks.
        let both = header.git.as_deref().and_then(same_name);
        (old, new) = (both.clone(), both);
        if header.created {
            old = None;
        }
        if header.deleted {
            new = None;
        }
    }
    let rename = header.rename.0.zip(header.rename.1);
    let (kind, path, move_to) = match (old, new, rename) {
        (_, _, Some((from, to))) => (Kind::Update, from, Some(to)),
        (None, Some(new), _) => (Kind::Add, new, None),
        (Some(old), None, _) => (Kind::Delete, old, None),
        (Some(_), Some(new), _) => (Kind::Update, new, None),
        (None, None, _) => return None,
    };
    let executable = header.executable;
    Some(Change { format: Format::Unified, kind, path, move_to, hunks, executable })
}

/// `a/NAME b/NAME` with one name twice.
fn same_name(names: &str) -> Option<String> {
    if let Some(rest) = names.strip_prefix('"') {
        let end = rest.find("\" ")?;
        return unquoted(&names[..end + 2]).strip_prefix("a/").map(str::to_string);
    }
    let middle = names.len() / 2;
    let (old, new) = (names.get(..middle)?, names.get(middle + 1..)?);
    let name = old.strip_prefix("a/")?;
    (names.as_bytes().get(middle) == Some(&b' ') && new.strip_prefix("b/") == Some(name))
        .then(|| name.to_string())
}

/// The name of a file; `None` for `/dev/null`.
fn name(text: &str) -> Option<String> {
    // A tab begins the time.
    let text = if text.starts_with('"') { text } else { text.split('\t').next().unwrap_or(text) };
    let text = text.trim_end();
    (text != "/dev/null").then(|| unquoted(text))
}

/// Removes the prefixes `a/` and `b/`, which git gives both names.
fn bare(old: Option<String>, new: Option<String>) -> (Option<String>, Option<String>) {
    let has = |name: &Option<String>, prefix| name.as_ref().is_none_or(|n| n.starts_with(prefix));
    if !has(&old, "a/") || !has(&new, "b/") {
        return (old, new);
    }
    (old.map(|name| name[2..].to_string()), new.map(|name| name[2..].to_string()))
}

/// A name in the quotes of git: escapes of C and octal bytes.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_string();
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(digit @ b'0'..=b'7') => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = rest.peek().copied() {
                        value = value * 8 + u32::from(digit - b'0');
                        rest.next();
                    }
                }
                bytes.push(value as u8);
            }
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `@@ -start,count +start,count @@`: the old start and both counts.
fn ranges(line: &str) -> Option<(usize, usize, usize)> {
    let (ranges, _section) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let range = |text: &str| -> Option<(usize, usize)> {
        match text.split_once(',') {
            Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
            None => Some((text.parse().ok()?, 1)),
        }
    };
    let ((start, old), (_, new)) = (range(old)?, range(new)?);
    Some((start, old, new))
}
