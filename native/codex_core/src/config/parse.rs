//! TOML into [`Node`]s.

use std::cell::Cell;
use std::ops::Range;

use toml_edit::{Document, Item, Key, Value as Toml};

use super::value::{Node, Position, Table, Value};

/// Why a file is not TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The position.
    pub at: Position,
    /// In the words of the parser, which are also those of the CLI.
    pub message: String,
    /// The line that it is in.
    pub source_line: String,
}

/// Whether a file has at most `max` keys and values, and pieces in proportion. To be asked before
/// it is parsed: each key or value takes some hundred bytes in memory, and an array of one line has
/// one for every second byte.
pub fn is_within(bytes: &[u8], max: usize) -> bool {
    if bytes.len() <= max {
        return true;
    }
    // Invalid UTF-8 is an error of the parser.
    let Ok(text) = std::str::from_utf8(bytes) else { return true };
    let (mut nodes, mut pieces) = (0, 0);
    toml_parser::Source::new(text).lex().all(|token| {
        use toml_parser::lexer::TokenKind;
        pieces += 1;
        nodes += usize::from(matches!(
            token.kind(),
            TokenKind::Dot
                | TokenKind::Equals
                | TokenKind::Comma
                | TokenKind::LeftSquareBracket
                | TokenKind::LeftCurlyBracket
        ));
        nodes <= max && pieces / PIECES <= max
    })
}

/// Pieces of a text for each of its keys and values: the parser holds all of them, spaces, comments
/// and line ends, too.
const PIECES: usize = 20;

/// Reads a file. A byte order mark at its start is skipped.
pub fn parse(bytes: &[u8]) -> Result<Node, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    let lines = Lines::new(text);
    let document = Document::parse(text).map_err(|error| {
        let at = lines.position(error.span().map_or(0, |span| span.start));
        Fault {
            at,
            message: error.message().to_owned(),
            source_line: lines.text(at.line).to_owned(),
        }
    })?;
    let top = Position { line: 1, column: 1 };
    let value = Value::Table(table(
        document.as_table().iter(),
        |key| document.as_table().key(key),
        &lines,
        top,
    ));
    Ok(Node { value, at: top, key: top, layer: 0 })
}

/// Whether a text is TOML, with nothing kept of it: the limit that a benchmark compares with.
pub fn is_toml(text: &str) -> bool {
    std::hint::black_box(Document::parse(text)).is_ok()
}

fn not_utf8(bytes: &[u8], at: usize) -> Fault {
    let good = String::from_utf8_lossy(&bytes[..at]);
    let lines = Lines::new(&good);
    let at = lines.position(good.len());
    let line = bytes.split(|byte| *byte == b'\n').nth(at.line as usize - 1).unwrap_or_default();
    Fault {
        at,
        message: "invalid UTF-8".to_owned(),
        source_line: String::from_utf8_lossy(line).into_owned(),
    }
}

fn table<'d>(
    items: impl Iterator<Item = (&'d str, &'d Item)>,
    key: impl Fn(&str) -> Option<&'d Key>,
    lines: &Lines,
    above: Position,
) -> Table {
    items
        .map(|(name, item)| {
            let span = key(name).and_then(Key::span);
            let key = span.map_or(above, |span| lines.position(span.start));
            (name.to_owned(), node(item, lines, key))
        })
        .collect()
}

fn node(item: &Item, lines: &Lines, key: Position) -> Node {
    match item {
        Item::Value(value) => from_value(value, lines, key),
        Item::Table(found) => {
            let at = place(found.span(), lines, key);
            let value = Value::Table(table(found.iter(), |name| found.key(name), lines, key));
            Node { value, at, key, layer: 0 }
        }
        Item::ArrayOfTables(found) => {
            let tables = found.iter().map(|found| {
                let at = place(found.span(), lines, key);
                let value = Value::Table(table(found.iter(), |name| found.key(name), lines, at));
                Node { value, at, key: at, layer: 0 }
            });
            Node { value: Value::Array(tables.collect()), at: key, key, layer: 0 }
        }
        // The parser leaves none of these behind.
        Item::None => Node { value: Value::Table(Table::new()), at: key, key, layer: 0 },
    }
}

fn from_value(found: &Toml, lines: &Lines, key: Position) -> Node {
    let at = place(found.span(), lines, key);
    let value = match found {
        Toml::String(text) => Value::String(text.value().clone()),
        Toml::Integer(value) => Value::Integer(*value.value()),
        Toml::Float(value) => Value::Float(*value.value()),
        Toml::Boolean(value) => Value::Boolean(*value.value()),
        Toml::Datetime(value) => Value::Datetime(value.value().to_string()),
        Toml::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| {
                    let at = place(item.span(), lines, key);
                    from_value(item, lines, at)
                })
                .collect(),
        ),
        Toml::InlineTable(found) => Value::Table(
            found
                .iter()
                .map(|(name, value)| {
                    let key = place(found.key(name).and_then(Key::span), lines, at);
                    (name.to_owned(), from_value(value, lines, key))
                })
                .collect(),
        ),
    };
    Node { value, at, key, layer: 0 }
}

fn place(span: Option<Range<usize>>, lines: &Lines, otherwise: Position) -> Position {
    span.map_or(otherwise, |span| lines.position(span.start))
}

/// Offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    /// The last answer: offset, and column counted from 0. Columns are counted on from there, or a
    /// long line with many values would be counted once for each of them.
    last: Cell<(usize, usize)>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Lines { text, starts, last: Cell::new((0, 0)) }
    }

    fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let start = self.starts[line];
        let (last, column) = self.last.get();
        let (from, before) =
            if (start..=offset).contains(&last) { (last, column) } else { (start, 0) };
        let column = before + self.text.get(from..offset).map_or(0, |text| text.chars().count());
        self.last.set((offset, column));
        Position { line: line as u32 + 1, column: column as u32 + 1 }
    }

    fn text(&self, line: u32) -> &'t str {
        self.text.split('\n').nth(line as usize - 1).unwrap_or_default().trim_end_matches('\r')
    }
}
