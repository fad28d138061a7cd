//! Finds hunks in a text and applies them.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::lines::{Lines, feeds};
use super::{Format, Hunk, Mismatch, Role};

/// Applies hunks to a text. All hunks see the old text.
pub fn edit(text: &str, hunks: &[Hunk], format: Format) -> Result<String, Mismatch> {
    let lines = match format {
        Format::ApplyPatch => Lines::new(text),
        Format::Unified => feeds(text),
    };
    let mut edits = match format {
        Format::ApplyPatch => search(&lines, hunks)?,
        Format::Unified => locate(&lines, hunks)?,
    };
    // Lines that are appended come last, in the order of the patch.
    edits.sort_by_key(|edit| edit.at);
    Ok(render(&lines, &edits, format))
}

/// New lines in the place of `size` old lines.
struct Edit<'a> {
    at: usize,
    size: usize,
    new: Vec<New<'a>>,
    unended: bool,
}

enum New<'a> {
    /// An old line, by its distance from the start of the edit.
    Keep(usize, &'a str),
    Text(&'a str),
}

impl New<'_> {
    fn text(&self) -> &str {
        match self {
            New::Keep(_, text) | New::Text(text) => text,
        }
    }
}

/// The old lines of a hunk, and the new ones.
fn sides(hunk: &Hunk) -> (Vec<&str>, Vec<New<'_>>) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for (role, text) in &hunk.lines {
        match role {
            Role::Context => new.push(New::Keep(old.len(), text)),
            Role::Add => new.push(New::Text(text)),
            Role::Remove => {}
        }
        if *role != Role::Add {
            old.push(text.as_str());
        }
    }
    (old, new)
}

// --- apply_patch ----------

fn search<'h>(lines: &Lines<'_>, hunks: &'h [Hunk]) -> Result<Vec<Edit<'h>>, Mismatch> {
    let views = Views::new(lines);
    let mut from = 0;
    let mut edits = Vec::new();
    for hunk in hunks {
        if let Some(anchor) = &hunk.anchor {
            let found = views.find(&[anchor], from, false);
            from = found.ok_or_else(|| Mismatch::Anchor(anchor.clone()))? + 1;
        }
        let (mut old, mut new) = sides(hunk);
        if old.is_empty() {
            edits.push(Edit { at: lines.lines.len(), size: 0, new, unended: false });
            continue;
        }
        let mut found = views.find(&old, from, hunk.end_of_file);
        // An empty line at the end of a hunk may stand for the end of the file.
        if let (None, Some(&"")) = (found, old.last()) {
            old.pop();
            if new.last().is_some_and(|line| line.text().is_empty()) {
                new.pop();
            }
            if !old.is_empty() {
                found = views.find(&old, from, hunk.end_of_file);
            }
        }
        let Some(at) = found else {
            return Err(missing(hunk));
        };
        for line in &mut new {
            if let New::Keep(n, text) = *line
                && n >= old.len()
            {
                *line = New::Text(text);
            }
        }
        edits.push(Edit { at, size: old.len(), new, unended: false });
        from = at + old.len();
    }
    Ok(edits)
}

fn missing(hunk: &Hunk) -> Mismatch {
    Mismatch::Lines(sides(hunk).0.join("\n"))
}

/// The passes of the search. The first pass that finds a hunk wins.
const PASSES: [fn(&str) -> Cow<'_, str>; 4] = [
    |line| Cow::Borrowed(line),
    |line| Cow::Borrowed(line.trim_end()),
    |line| Cow::Borrowed(line.trim()),
    |line| plain(line.trim()),
];

/// The lines of a file as each pass sees them, made when a pass needs them.
struct Views<'a> {
    lines: &'a Lines<'a>,
    views: [OnceCell<Vec<Cow<'a, str>>>; 4],
}

impl<'a> Views<'a> {
    fn new(lines: &'a Lines<'a>) -> Self {
        Views { lines, views: Default::default() }
    }

    fn find(&self, old: &[impl AsRef<str>], from: usize, at_end: bool) -> Option<usize> {
        PASSES.iter().zip(&self.views).find_map(|(pass, view)| {
            let view =
                view.get_or_init(|| self.lines.lines.iter().map(|line| pass(line.0)).collect());
            let old: Vec<_> = old.iter().map(|line| pass(line.as_ref())).collect();
            let last = view.len().checked_sub(old.len())?;
            let from = if at_end { from.max(last) } else { from };
            view.get(from..).and_then(|rest| position(rest, &old)).map(|at| from + at)
        })
    }
}

/// The first place of a sequence, in linear time (Knuth, Morris, Pratt): files and hunks may
/// consist of equal lines.
fn position(lines: &[Cow<'_, str>], wanted: &[Cow<'_, str>]) -> Option<usize> {
    // borders[n]: the length of the longest proper prefix of wanted[..=n] that is its suffix, too.
    let mut borders = vec![0; wanted.len()];
    let step = |borders: &[usize], mut matched: usize, line: &Cow<'_, str>| {
        while matched > 0 && wanted[matched] != *line {
            matched = borders[matched - 1];
        }
        if wanted[matched] == *line { matched + 1 } else { 0 }
    };
    for n in 1..wanted.len() {
        borders[n] = step(&borders, borders[n - 1], &wanted[n]);
    }
    let mut matched = 0;
    for (n, line) in lines.iter().enumerate() {
        matched = step(&borders, matched, line);
        if matched == wanted.len() {
            return Some(n + 1 - matched);
        }
    }
    None
}

/// Typographic dashes, quotes and spaces as ASCII.
fn plain(line: &str) -> Cow<'_, str> {
    if line.is_ascii() {
        return Cow::Borrowed(line);
    }
    let plain = |c| match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201B}' => '\'',
        '\u{201C}'..='\u{201F}' => '"',
        '\u{00A0}' | '\u{2002}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => ' ',
        c => c,
    };
    Cow::Owned(line.chars().map(plain).collect())
}

// --- Unified diffs ----------

fn locate<'h>(lines: &Lines<'_>, hunks: &'h [Hunk]) -> Result<Vec<Edit<'h>>, Mismatch> {
    let texts: Vec<_> = lines.lines.iter().map(|line| Cow::Borrowed(line.0)).collect();
    let ended = lines.lines.last().is_none_or(|line| !line.1.is_empty());
    let mut from = 0;
    let mut edits = Vec::new();
    // The distance of the previous hunk from its stated line.
    let mut shift = 0_isize;
    for hunk in hunks {
        let (old, new) = sides(hunk);
        let stated = hunk.start.map(|start| if old.is_empty() { start } else { start.max(1) - 1 });
        let expected = stated.map(|at| at.saturating_add_signed(shift));
        let at = if old.is_empty() {
            expected.or(Some(texts.len())).filter(|at| (from..=texts.len()).contains(at))
        } else {
            let old: Vec<_> = old.iter().map(|line| Cow::Borrowed(*line)).collect();
            nearest(&texts, &old, from, expected, hunk.old_unended)
        };
        let at = at.ok_or_else(|| missing(hunk))?;
        let end = at + old.len();
        let at_end = end == texts.len();
        if hunk.old_unended && (ended || !at_end) || hunk.new_unended && !at_end {
            return Err(missing(hunk));
        }
        if let Some(stated) = stated {
            shift = at as isize - stated as isize;
        }
        edits.push(Edit { at, size: old.len(), new, unended: hunk.new_unended });
        from = end;
    }
    Ok(edits)
}

/// The place that is nearest to the expected one.
fn nearest(
    texts: &[Cow<'_, str>],
    old: &[Cow<'_, str>],
    from: usize,
    expected: Option<usize>,
    at_end: bool,
) -> Option<usize> {
    let last = texts.len().checked_sub(old.len())?;
    if at_end {
        return (last >= from && texts[last..] == *old).then_some(last);
    }
    let expected = expected.unwrap_or(from);
    if expected >= from && texts.get(expected..expected.saturating_add(old.len())) == Some(old) {
        return Some(expected);
    }
    let mut best: Option<usize> = None;
    let mut at = from;
    while let Some(found) = texts.get(at..).and_then(|rest| position(rest, old)) {
        let found = at + found;
        if best.is_none_or(|best| found.abs_diff(expected) < best.abs_diff(expected)) {
            best = Some(found);
        }
        if found >= expected {
            break;
        }
        at = found + 1;
    }
    best
}

// --- The new text ----------

fn render(lines: &Lines<'_>, edits: &[Edit<'_>], format: Format) -> String {
    let mut new: Vec<(&str, &str)> = Vec::with_capacity(lines.lines.len());
    let mut unended = None;
    let mut at = 0;
    for edit in edits {
        new.extend(lines.lines.get(at..edit.at).unwrap_or_default());
        for line in &edit.new {
            match line {
                New::Keep(n, _) => new.extend(lines.lines.get(edit.at + n)),
                New::Text(text) => new.push((text, lines.ending)),
            }
        }
        at = edit.at + edit.size;
        unended = (edit.unended && at >= lines.lines.len()).then_some(new.len());
    }
    new.extend(lines.lines.get(at..).unwrap_or_default());
    let count = new.len();
    let keep = format == Format::Unified;
    let mut text = String::with_capacity(new.iter().map(|line| line.0.len() + 2).sum());
    for (n, (line, ending)) in new.into_iter().enumerate() {
        text.push_str(line);
        let last = n + 1 == count;
        if last && unended == Some(count) {
            break;
        }
        text.push_str(if ending.is_empty() && !(last && keep) { lines.ending } else { ending });
    }
    text
}
