//! The sum of a rollout.

use super::payload::Meta;
use super::tokens::Tokens;
use super::turns::Turn;

/// The facts of one rollout file, without the lines that were copied from another thread.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The first line.
    pub meta: Meta,
    /// The generation of its lines, 1 to 4; 0 for a file without a line.
    pub generation: u8,
    /// The models, in the order of their first use.
    pub models: Vec<String>,
    /// The working directories of turns, in the order of their first use.
    pub cwds: Vec<String>,
    /// The first prompt.
    pub title: Option<String>,
    /// The time of the last line.
    pub ended: Option<String>,
    /// Images in prompts.
    pub images: u32,
    /// How often the history was made shorter.
    pub compactions: u32,
    /// Lines that are not blank.
    pub lines: u64,
    /// Lines that are not whole.
    pub bad_lines: u64,
    /// Bad lines whose end is a whole line of its own, which counts.
    pub salvaged_lines: u64,
    /// Lines over the limit, which are bad, too.
    pub long_lines: u64,
    /// The position of the first bad line.
    pub first_bad: Option<u64>,
    /// The last known limits of the account, as JSON.
    pub rate_limits: Option<String>,
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// The tokens of calls before the first turn.
    pub before: Vec<Cell>,
    /// The reports of usage that were counted, and those that were not.
    pub audit: Audit,
}

impl Summary {
    /// Whether a call was recorded.
    pub fn has_usage(&self) -> bool {
        self.audit.counted.calls > 0
    }

    /// All tokens by day, model and directory.
    pub fn spent(&self) -> Vec<Cell> {
        let mut sum = Vec::new();
        let turns = self.turns.iter().flat_map(|turn| &turn.spent);
        for cell in turns.chain(&self.before) {
            let key = (cell.day.as_str(), cell.model, cell.cwd);
            add(&mut sum, key, cell.calls, &cell.tokens);
        }
        sum
    }
}

/// The tokens of calls that have the day, the model and the directory in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The day as `YYYY-MM-DD`, in UTC.
    pub day: String,
    /// The index of the model.
    pub model: Option<u16>,
    /// The index of the working directory.
    pub cwd: Option<u16>,
    /// The number of calls.
    pub calls: u64,
    /// Their tokens.
    pub tokens: Tokens,
}

/// Adds calls to the cell of their day, model and directory.
pub(super) fn add(
    cells: &mut Vec<Cell>,
    (day, model, cwd): (&str, Option<u16>, Option<u16>),
    calls: u64,
    tokens: &Tokens,
) {
    let same = |cell: &&mut Cell| cell.model == model && cell.cwd == cwd && cell.day == day;
    match cells.iter_mut().rev().find(same) {
        Some(cell) => {
            cell.calls += calls;
            cell.tokens.add(tokens);
        }
        None => cells.push(Cell { day: day.to_string(), model, cwd, calls, tokens: *tokens }),
    }
}

/// Reports of usage of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of reports.
    pub calls: u64,
    /// Their tokens.
    pub tokens: Tokens,
}

impl Tally {
    pub(super) fn add(&mut self, tokens: &Tokens) {
        self.calls += 1;
        self.tokens.add(tokens);
    }
}

/// The reports of usage in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Calls of this thread.
    pub counted: Tally,
    /// The report of a call that was counted before.
    pub repeated: Tally,
    /// The report of a call in lines that were copied from another thread.
    pub inherited: Tally,
    /// The record of another thread.
    pub foreign: Tally,
    /// Reports beside the record of the same call; their tokens are not looked at.
    pub covered: u64,
    /// Times that the running total began again.
    pub resets: u64,
}
