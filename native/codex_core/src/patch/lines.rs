//! The lines of a file with their line ends.

/// The lines of a text. A line end is `\n`, `\r\n` or a lone `\r`.
pub struct Lines<'a> {
    /// Text and line end of each line. Only the last line may have no line end.
    pub lines: Vec<(&'a str, &'a str)>,
    /// The line end of new lines: that of the first line.
    pub ending: &'a str,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut lines = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let (line, tail) = rest.split_at(end);
            let size = if tail.starts_with("\r\n") { 2 } else { tail.len().min(1) };
            let (ending, tail) = tail.split_at(size);
            lines.push((line, ending));
            rest = tail;
        }
        let ending = lines.first().map(|line| line.1).filter(|ending| !ending.is_empty());
        Lines { lines, ending: ending.unwrap_or("\n") }
    }
}

/// The lines of a unified diff or file that end at `\n` only.
pub fn feeds(text: &str) -> Lines<'_> {
    let lines: Vec<_> = text
        .split_inclusive('\n')
        .map(|line| {
            let size = match line {
                line if line.ends_with("\r\n") => 2,
                line if line.ends_with('\n') => 1,
                _ => 0,
            };
            line.split_at(line.len() - size)
        })
        .collect();
    let ending = lines.first().map(|line| line.1).filter(|ending| !ending.is_empty());
    Lines { lines, ending: ending.unwrap_or("\n") }
}
