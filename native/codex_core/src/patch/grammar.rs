//! The grammar of `apply_patch`.

use super::{Change, Format, Hunk, Kind, ParseError, Role};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";
const ENVIRONMENT: &str = "*** Environment ID:";

pub fn parse(text: &str) -> Result<Vec<Change>, ParseError> {
    let lines: Vec<&str> = text.trim().lines().collect();
    let Err(error) = envelope(&lines) else { return Reader::new(&lines).changes() };
    match without_heredoc(&lines) {
        Some(inner) => envelope(inner).and_then(|()| Reader::new(inner).changes()),
        None => Err(error),
    }
}

fn envelope(lines: &[&str]) -> Result<(), ParseError> {
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if first.trim() == BEGIN && last.trim() == END => Ok(()),
        (Some(first), _) if first.trim() != BEGIN => {
            Err(ParseError::Patch(format!("The first line of the patch must be '{BEGIN}'")))
        }
        _ => Err(last_line()),
    }
}

fn last_line() -> ParseError {
    ParseError::Patch(format!("The last line of the patch must be '{END}'"))
}

fn without_heredoc<'a, 'b>(lines: &'b [&'a str]) -> Option<&'b [&'a str]> {
    match lines {
        ["<<EOF" | "<<'EOF'" | "<<\"EOF\"", inner @ .., last] if last.ends_with("EOF") => {
            Some(inner)
        }
        _ => None,
    }
}

struct Reader<'a> {
    lines: &'a [&'a str],
    /// The index of the next line. Line numbers of messages are larger by one.
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(lines: &'a [&'a str]) -> Self {
        Reader { lines, at: 1 }
    }

    /// The next line before the last one.
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied().filter(|_| self.at + 1 < self.lines.len())
    }

    fn fail<T>(&self, words: String) -> Result<T, ParseError> {
        Err(ParseError::Line(self.at + 1, words))
    }

    fn changes(mut self) -> Result<Vec<Change>, ParseError> {
        if self.peek().is_some_and(|line| line.trim().starts_with(ENVIRONMENT)) {
            return Err(ParseError::Patch(
                "environment selection is unavailable; leave the Environment ID out".into(),
            ));
        }
        let mut changes = Vec::new();
        while let Some(line) = self.peek() {
            changes.push(self.change(line.trim())?);
        }
        Ok(changes)
    }

    fn change(&mut self, header: &str) -> Result<Change, ParseError> {
        let new = |kind, path: &str| Change {
            format: Format::ApplyPatch,
            kind,
            path: name(path),
            move_to: None,
            hunks: Vec::new(),
            executable: None,
        };
        if header == END {
            return Err(last_line());
        }
        if let Some(path) = header.strip_prefix(ADD) {
            self.at += 1;
            let lines = self.added();
            let hunks = vec![Hunk { lines, ..Hunk::default() }];
            return Ok(Change { hunks, ..new(Kind::Add, path) });
        }
        if let Some(path) = header.strip_prefix(DELETE) {
            self.at += 1;
            return Ok(new(Kind::Delete, path));
        }
        if let Some(path) = header.strip_prefix(UPDATE) {
            return self.update(new(Kind::Update, path));
        }
        self.fail(format!(
            "'{header}' is not a valid hunk header. Valid hunk headers: '{ADD}{{path}}', \
             '{DELETE}{{path}}', '{UPDATE}{{path}}'"
        ))
    }

    fn added(&mut self) -> Vec<(Role, String)> {
        let mut lines = Vec::new();
        while let Some(line) = self.peek().and_then(|line| line.strip_prefix('+')) {
            lines.push((Role::Add, line.to_string()));
            self.at += 1;
        }
        lines
    }

    fn update(&mut self, mut change: Change) -> Result<Change, ParseError> {
        let header = self.at;
        self.at += 1;
        if let Some(path) = self.peek().and_then(|line| line.trim().strip_prefix(MOVE)) {
            change.move_to = Some(name(path));
            self.at += 1;
        }
        while let Some(line) = self.peek() {
            if line.trim().is_empty() {
                self.at += 1;
            } else if line.trim_end() == END_OF_FILE && change.hunks.is_empty()
                || is_header(line.trim())
            {
                break;
            } else {
                change.hunks.push(self.hunk(line, change.hunks.is_empty())?);
            }
        }
        if change.hunks.is_empty() {
            self.at = header;
            return self.fail(format!("Update file hunk for path '{}' is empty", change.path));
        }
        Ok(change)
    }

    fn hunk(&mut self, line: &str, first: bool) -> Result<Hunk, ParseError> {
        let mut hunk = Hunk::default();
        if let Some(anchor) = marker(line) {
            hunk.anchor = Some(anchor.to_string()).filter(|anchor| !anchor.is_empty());
            self.at += 1;
        } else if !first {
            return self.fail(format!(
                "Expected update hunk to start with a @@ context marker, got: '{line}'"
            ));
        }
        while let Some(line) = self.peek() {
            if line.trim_end() == END_OF_FILE && !hunk.lines.is_empty() {
                self.at += 1;
                hunk.end_of_file = true;
                break;
            }
            let role = match line.as_bytes().first() {
                None | Some(b' ') => Role::Context,
                Some(b'+') => Role::Add,
                Some(b'-') => Role::Remove,
                Some(_) => break,
            };
            hunk.lines.push((role, line.get(1..).unwrap_or("").to_string()));
            self.at += 1;
        }
        match (hunk.lines.is_empty(), self.peek()) {
            (false, _) => Ok(hunk),
            (true, Some(line)) if line.trim_end() != END_OF_FILE && !is_header(line) => {
                self.fail(format!(
                    "Unexpected line found in update hunk: '{line}'. Every line should start \
                     with ' ' (context line), '+' (added line), or '-' (removed line)"
                ))
            }
            (true, _) => self.fail("Update hunk does not contain any lines".into()),
        }
    }
}

fn marker(line: &str) -> Option<&str> {
    let line = line.trim_end();
    if line == "@@" { Some("") } else { line.strip_prefix("@@ ") }
}

fn is_header(line: &str) -> bool {
    line == END || [ADD, DELETE, UPDATE].iter().any(|header| line.starts_with(header))
}

/// The CLI drops tabs from names.
fn name(path: &str) -> String {
    path.replace('\t', "")
}
