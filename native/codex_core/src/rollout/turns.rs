//! The turns of a rollout.

use super::summary::Cell;
use super::tokens::Tokens;

/// How a turn ended, as far as the lines tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ended.
    Completed,
    /// It ended with an error.
    Failed,
    /// Somebody stopped it.
    Interrupted,
    /// It began, and no line ends it: it runs, or its writer was killed.
    InProgress,
    /// The format cannot tell.
    Unknown,
}

/// One turn. `model` and `cwd` of cells index the lists of the summary.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its id; older files have none.
    pub id: Option<String>,
    /// How it ended.
    pub status: Status,
    /// The first prompt.
    pub prompt: Option<String>,
    /// The last answer.
    pub answer: Option<String>,
    /// The model that it was told to use.
    pub model: Option<u16>,
    /// The working directory that it was told to use.
    pub cwd: Option<u16>,
    /// It was taken out of the history of the thread by a line of the same file.
    pub reverted: bool,
    /// Its lines were copied from another thread.
    pub inherited: bool,
    /// The tokens of its calls.
    pub spent: Vec<Cell>,
    /// The ordinal of its first line.
    pub ordinal: Option<u64>,
    /// The position of its first line in the plain file.
    pub offset: u64,
    /// The time of its first line.
    pub started: String,
    /// The time of the line that ended it.
    pub ended: Option<String>,
    /// The answer is one that was marked as final.
    is_final: bool,
    /// A user message came.
    prompted: bool,
}

/// Where a turn begins.
pub(super) struct Start<'a> {
    pub time: &'a str,
    pub ordinal: Option<u64>,
    pub offset: u64,
    pub inherited: bool,
}

impl Turn {
    /// Takes the first prompt of the turn.
    pub(super) fn prompt(&mut self, text: Option<String>) {
        if !self.prompted {
            self.prompted = true;
            self.prompt = text;
        }
    }

    /// Takes an answer. The last one counts, unless one was marked as final.
    pub(super) fn answer(&mut self, text: String, phase: Option<&str>) {
        let is_final = phase == Some("final_answer");
        if is_final || !self.is_final {
            self.is_final |= is_final;
            self.answer = Some(text);
        }
    }

    /// The tokens of all calls.
    pub fn tokens(&self) -> Tokens {
        let mut sum = Tokens::default();
        self.spent.iter().for_each(|cell| sum.add(&cell.tokens));
        sum
    }
}

/// All turns so far, and the one that lines belong to.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub all: Vec<Turn>,
    pub current: Option<usize>,
}

impl Turns {
    /// Goes to the turn of an id, and opens it if it is new.
    pub fn enter(&mut self, id: &str, start: &Start<'_>) -> usize {
        let at = match self.find(id) {
            Some(at) => at,
            None => self.open(Some(id.to_string()), Status::InProgress, start),
        };
        self.current = Some(at);
        at
    }

    /// Opens a turn.
    pub fn open(&mut self, id: Option<String>, status: Status, start: &Start<'_>) -> usize {
        self.all.push(Turn {
            id,
            status,
            prompt: None,
            answer: None,
            model: None,
            cwd: None,
            reverted: false,
            inherited: start.inherited,
            spent: Vec::new(),
            ordinal: start.ordinal,
            offset: start.offset,
            started: start.time.to_string(),
            ended: None,
            is_final: false,
            prompted: false,
        });
        self.current = Some(self.all.len() - 1);
        self.all.len() - 1
    }

    /// The turn of an id. It is among the last ones.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.all.iter().rposition(|turn| turn.id.as_deref() == Some(id))
    }

    /// The turn that the lines belong to.
    pub fn now(&mut self) -> Option<&mut Turn> {
        self.current.and_then(|at| self.all.get_mut(at))
    }

    /// The turn of an id, or else the current one.
    pub fn of(&mut self, id: Option<&str>) -> Option<&mut Turn> {
        let at = id.and_then(|id| self.find(id)).or(self.current)?;
        self.all.get_mut(at)
    }

    /// Marks the last turns as reverted.
    pub fn roll_back(&mut self, count: u32) {
        let kept = self.all.iter_mut().rev().filter(|turn| !turn.reverted);
        kept.take(count as usize).for_each(|turn| turn.reverted = true);
    }
}
