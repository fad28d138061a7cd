//! From lines to the facts of a thread.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::finders::{BEGIN, FINDERS, Finders, after};
use super::head::Head;
use super::lines::Line;
use super::payload::{
    AgentMessage, ItemCompleted, Message, Meta, Payload, Record, RolledBack, TaskComplete,
    TokenCount, TurnContext, TurnId, UserMessage, text_of,
};
use super::summary::{Summary, Tally, add};
use super::tokens::Tokens;
use super::turns::{Start, Status, Turns};

/// The texts that a summary has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// The first prompt of the thread only. Turns have no end and no status.
    Title,
    /// The first prompt and the last answer of each turn.
    Turns,
}

/// What a line is to its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A blank line.
    Blank,
    /// A line of the thread, and the index of its turn.
    Own(Option<usize>),
    /// A line that was copied from another thread, or is of another one.
    Other,
    /// Not a whole line.
    Bad,
    /// Not a whole line, but a whole one stands at its end, from this byte on.
    Salvaged(usize, Option<usize>),
}

/// Reads lines in their order.
pub struct Scanner {
    texts: Texts,
    summary: Summary,
    turns: Turns,
    /// The id of the thread.
    id: String,
    met: bool,
    /// The lines are a copy of another thread's.
    inherited: bool,
    /// Copied lines make turns, too.
    history: bool,
    /// The lines are those of a reviewer's thread.
    reviewing: bool,
    /// The running total of the last report.
    total: Tokens,
    /// The file has records of calls.
    records: bool,
    /// The model and the directory of the last context.
    model: Option<u16>,
    cwd: Option<u16>,
    /// The last line with rate limits.
    limits: String,
    /// Every line is parsed.
    strict: bool,
    finders: &'static Finders,
    seen: Seen,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Scanner {
    /// A scanner for the rollout of a thread.
    pub fn new(thread: &str, texts: Texts) -> Self {
        Scanner {
            texts,
            summary: Summary::default(),
            turns: Turns::default(),
            id: thread.to_string(),
            met: false,
            inherited: false,
            history: false,
            reviewing: false,
            total: Tokens::default(),
            records: false,
            model: None,
            cwd: None,
            limits: String::new(),
            strict: false,
            finders: &FINDERS,
            seen: Seen::Blank,
        }
    }

    /// Turns of lines that were copied from another thread are turns as well. Their tokens do not
    /// count.
    pub fn with_history(mut self) -> Self {
        self.history = true;
        self
    }

    /// Parses every line. Otherwise a damaged line without facts may pass for a whole one if its
    /// ends are those of a line.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The tokens of a turn so far; nothing if no call of the thread was recorded yet.
    pub fn tokens(&self, turn: usize) -> Option<Tokens> {
        let turn = self.turns.all.get(turn)?;
        self.summary.has_usage().then(|| turn.tokens())
    }

    /// The generation of the lines so far.
    pub fn generation(&self) -> u8 {
        self.summary.generation
    }

    /// Lines that belong to another thread and are not wanted.
    fn hidden(&self) -> bool {
        self.inherited && !self.history
    }

    /// Reads a line of a file.
    pub fn read(&mut self, line: Line<'_>) -> Seen {
        match line {
            Line::Whole(bytes, offset) => self.line(bytes, offset),
            Line::Null(bytes, offset) => self.damaged(bytes, offset),
            Line::Unended(bytes, offset) if json(bytes).is_some() => self.line(bytes, offset),
            Line::Unended(bytes, offset) => self.damaged(bytes, offset),
            Line::TooLong(offset) => {
                self.summary.lines += 1;
                self.summary.long_lines += 1;
                self.bad(offset)
            }
        }
    }

    /// Reads a line that ends in a newline, without it.
    pub fn line(&mut self, line: &[u8], offset: u64) -> Seen {
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            return Seen::Blank;
        }
        let Some(text) = self.whole(line) else { return self.damaged(line, offset) };
        self.summary.lines += 1;
        match self.accept(text, offset) {
            Some(()) => self.seen,
            None => {
                self.summary.lines -= 1;
                self.damaged(line, offset)
            }
        }
    }

    /// The text of a whole line. Looks at the ends of a line and for bytes that JSON cannot have. A
    /// line with the beginning of another one inside is parsed.
    fn whole<'a>(&self, line: &'a [u8]) -> Option<&'a str> {
        if line.first() != Some(&b'{') || line.last() != Some(&b'}') {
            return None;
        }
        let text = simdutf8::basic::from_utf8(line).ok()?;
        let single = !self.strict && self.finders.begin.find(&line[1..]).is_none();
        (single || is_object(text)).then_some(text)
    }

    fn bad(&mut self, offset: u64) -> Seen {
        self.summary.bad_lines += 1;
        self.summary.first_bad.get_or_insert(offset);
        Seen::Bad
    }

    /// A writer that was killed leaves half a line, and some versions glue the next line to it.
    fn damaged(&mut self, line: &[u8], offset: u64) -> Seen {
        self.summary.lines += 1;
        self.bad(offset);
        let Some(at) = memmem::rfind(line, BEGIN).filter(|at| *at > 0) else { return Seen::Bad };
        let tail = json(&line[at..]);
        if tail.and_then(|tail| self.accept(tail, offset + at as u64)).is_none() {
            return Seen::Bad;
        }
        self.summary.salvaged_lines += 1;
        match self.seen {
            Seen::Own(turn) => Seen::Salvaged(at, turn),
            other => other,
        }
    }

    /// The sum of the lines.
    pub fn finish(mut self) -> Summary {
        if !self.limits.is_empty()
            && let Ok(line) = serde_json::from_str::<Payload<TokenCount>>(&self.limits)
        {
            let limits = line.payload.rate_limits.map(|limits| limits.get().to_string());
            self.summary.rate_limits = limits.filter(|limits| limits.contains(":{"));
        }
        self.summary.turns = self.turns.all;
        self.summary
    }

    /// The index of the turn that the lines belong to.
    fn own(&self) -> Seen {
        match self.hidden() || self.reviewing {
            true => Seen::Other,
            false => Seen::Own(self.turns.current),
        }
    }

    /// Takes a whole line; nothing if it does not have the form of its type.
    fn accept(&mut self, line: &str, offset: u64) -> Option<()> {
        let head = Head::read(line)?;
        if !head.envelope {
            return self.bare(line, &head, offset);
        }
        if head.ordinal.is_some() {
            self.summary.generation = 4;
        }
        let inherited = self.inherited;
        let start = Start { time: head.time, ordinal: head.ordinal, offset, inherited };
        match (head.kind, head.payload_kind) {
            ("session_meta", _) => self.meta(payload(line)?),
            ("turn_context", _) => self.context(payload(line)?, &start),
            ("token_usage_record", _) => self.record(line, &start)?,
            ("compacted", _) if !self.hidden() => self.summary.compactions += 1,
            ("event_msg", kind) => self.event(kind, line, &start)?,
            _ => {}
        }
        self.seen = self.own();
        if !self.inherited && !head.time.is_empty() {
            set(&mut self.summary.ended, head.time);
        }
        Some(())
    }

    fn event(&mut self, kind: &str, line: &str, start: &Start<'_>) -> Option<()> {
        match kind {
            "token_count" => self.token_count(line, start)?,
            "task_started" => self.task_started(payload(line)?, start),
            "item_completed" => self.item(line, start)?,
            _ if self.hidden() => {}
            "entered_review_mode" => self.enter_review(None, start),
            "exited_review_mode" => self.reviewing = false,
            _ if self.reviewing => {}
            "user_message" => self.user_message(&payload(line)?, start),
            "thread_rolled_back" => {
                let RolledBack { num_turns } = payload(line)?;
                self.turns.roll_back(num_turns);
            }
            "agent_message" if self.texts == Texts::Turns => {
                let AgentMessage { message, phase } = payload(line)?;
                if let Some(turn) = self.turns.now() {
                    turn.answer(message.into_owned(), phase.as_deref());
                }
            }
            "task_complete" if self.texts == Texts::Turns => {
                self.task_complete(payload(line)?, start);
            }
            "turn_aborted" if self.texts == Texts::Turns => {
                let TurnId { turn_id } = payload(line)?;
                if let Some(turn) = self.turns.of(turn_id.as_deref()) {
                    turn.status = Status::Interrupted;
                    turn.ended = Some(start.time.to_string());
                }
            }
            _ => {}
        }
        Some(())
    }

    // --- The thread ---------------------------------------------------------------------------

    fn meta(&mut self, meta: Meta) {
        if self.met {
            // The first line of the thread that the lines were copied from.
            self.inherited |= meta.id.as_ref().is_some_and(|id| *id != self.id);
            return;
        }
        self.met = true;
        if let Some(id) = &meta.id {
            self.id.clone_from(id);
        }
        let generation = match meta.history_mode.as_deref() {
            Some("paginated") => 4,
            Some(_) => 3,
            None => 2,
        };
        self.summary.generation = self.summary.generation.max(generation);
        self.summary.meta = meta;
    }

    /// Lines of the first generation have no envelope; the first line is the thread.
    fn bare(&mut self, line: &str, head: &Head<'_>, offset: u64) -> Option<()> {
        self.summary.generation = self.summary.generation.max(1);
        let start = Start { time: "", ordinal: None, offset, inherited: false };
        match head.kind {
            "" if !self.met => {
                let meta = serde_json::from_str(line).ok()?;
                self.met = true;
                self.summary.meta = meta;
            }
            "message" => {
                let Message { role, content } = serde_json::from_str(line).ok()?;
                let content = content.unwrap_or_default();
                let text = text_of(&content);
                let images = content.iter().filter(|part| part.is_image()).count() as u32;
                match &*role {
                    "user" if images > 0 || !is_context(&text) => {
                        self.summary.images += images;
                        self.turns.open(None, Status::Unknown, &start);
                        self.prompted(Cow::Owned(text));
                    }
                    "user" => self.cwd_of_context(&text),
                    "assistant" if self.texts == Texts::Turns => {
                        if let Some(turn) = self.turns.now() {
                            turn.answer(text, None);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        self.seen = self.own();
        Some(())
    }

    /// Some versions name the directory nowhere else.
    fn cwd_of_context(&mut self, text: &str) {
        let cwd = text.split_once("<cwd>").and_then(|(_, rest)| rest.split_once("</cwd>"));
        if let Some((cwd, _)) = cwd
            && self.summary.meta.cwd.is_none()
        {
            self.summary.meta.cwd = Some(cwd.to_string());
        }
    }

    // --- Turns --------------------------------------------------------------------------------

    /// Copied lines end with the first turn that is not older than the thread: ids of both begin
    /// with their time.
    fn begins(&mut self, turn: &str) {
        if self.inherited && turn >= self.id.as_str() {
            self.inherited = false;
        }
    }

    fn task_started(&mut self, TurnId { turn_id }: TurnId, start: &Start<'_>) {
        let Some(id) = turn_id else { return };
        if self.summary.generation < 3 {
            self.summary.generation = 3;
        }
        self.begins(&id);
        if !self.hidden() && !self.reviewing {
            self.turns.enter(&id, &Start { inherited: self.inherited, ..*start });
        }
    }

    fn context(&mut self, context: TurnContext<'_>, start: &Start<'_>) {
        if let Some(id) = &context.turn_id {
            self.begins(id);
        }
        if self.hidden() || self.reviewing {
            return;
        }
        // The line that began the turn may be lost.
        if let Some(id) = &context.turn_id {
            self.turns.enter(id, &Start { inherited: self.inherited, ..*start });
        }
        self.model = context.model.and_then(|model| index(&mut self.summary.models, &model));
        self.cwd = context.cwd.and_then(|cwd| index(&mut self.summary.cwds, &cwd));
        let (model, cwd) = (self.model, self.cwd);
        if let Some(turn) = self.turns.now() {
            (turn.model, turn.cwd) = (model, cwd);
        }
    }

    fn user_message(&mut self, message: &UserMessage<'_>, start: &Start<'_>) {
        let count = |images: &Option<Vec<IgnoredAny>>| images.as_ref().map_or(0, Vec::len) as u32;
        self.summary.images += count(&message.images) + count(&message.local_images);
        if is_context(&message.message) {
            return;
        }
        // Turns without an id begin with their prompt.
        let open = self.turns.now().is_some_and(|turn| turn.id.is_some() && turn.ended.is_none());
        if !open {
            self.turns.open(None, Status::Unknown, start);
        }
        self.prompted(Cow::Borrowed(&message.message));
    }

    fn prompted(&mut self, text: Cow<'_, str>) {
        if self.summary.title.is_none() && !text.is_empty() && !is_context(&text) {
            self.summary.title = Some(text.clone().into_owned());
        }
        let text = (self.texts == Texts::Turns).then(|| text.into_owned());
        if let Some(turn) = self.turns.now() {
            turn.prompt(text);
        }
    }

    /// A review runs in a thread of its own, whose beginning this thread repeats.
    fn enter_review(&mut self, turn: Option<String>, start: &Start<'_>) {
        self.reviewing = true;
        let open = self.turns.now().is_some_and(|turn| turn.ended.is_none() && turn.id.is_some());
        match turn {
            Some(id) => drop(self.turns.enter(&id, start)),
            None if open => {}
            None => drop(self.turns.open(None, Status::InProgress, start)),
        }
    }

    fn task_complete(&mut self, line: TaskComplete<'_>, start: &Start<'_>) {
        let at = match line.turn_id.as_deref().and_then(|id| self.turns.find(id)) {
            Some(at) => Some(at),
            None => match self.turns.now() {
                Some(turn) if turn.id.is_none() && turn.ended.is_none() => self.turns.current,
                _ => line.turn_id.as_deref().map(|id| self.turns.enter(id, start)),
            },
        };
        let Some(turn) = at.and_then(|at| self.turns.all.get_mut(at)) else { return };
        turn.id = turn.id.take().or(line.turn_id);
        turn.ended = Some(start.time.to_string());
        if let (None, Some(text)) = (&turn.answer, line.last_agent_message) {
            turn.answer = Some(text.into_owned());
        }
        // Versions that record no mode of the history record no errors of turns either.
        let silent = self.summary.meta.history_mode.is_none();
        turn.status = match (line.error.is_some(), turn.answer.is_none() && silent) {
            (true, _) => Status::Failed,
            (false, true) => Status::Unknown,
            (false, false) => Status::Completed,
        };
    }

    fn item(&mut self, line: &str, start: &Start<'_>) -> Option<()> {
        if !self.wants_item(line) {
            return Some(());
        }
        let ItemCompleted { thread_id, turn_id, item } = payload(line)?;
        match &*item.kind {
            _ if self.hidden() => {}
            "EnteredReviewMode" => self.enter_review(turn_id, start),
            "ExitedReviewMode" => self.reviewing = false,
            // The items of the reviewer stand in this file, too.
            _ if self.reviewing || thread_id.is_some_and(|id| id != self.id.as_str()) => {}
            "UserMessage" => {
                let content = item.content.unwrap_or_default();
                self.summary.images += content.iter().filter(|part| part.is_image()).count() as u32;
                if let Some(id) = &turn_id {
                    self.turns.enter(id, start);
                }
                self.prompted(Cow::Owned(text_of(&content)));
            }
            "AgentMessage" if self.texts == Texts::Turns => {
                let text = text_of(&item.content.unwrap_or_default());
                if let Some(turn) = self.turns.of(turn_id.as_deref()) {
                    turn.answer(text, item.phase.as_deref());
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Looks at the beginning of a line for the type of its item, to parse as few as possible.
    fn wants_item(&self, line: &str) -> bool {
        let begin = &line.as_bytes()[..line.len().min(400)];
        let Some(kind) = after(begin, &self.finders.item) else { return true };
        let is = |name: &[u8]| kind.starts_with(name);
        is(b"UserMessage\"")
            || is(b"EnteredReviewMode\"")
            || is(b"ExitedReviewMode\"")
            || (is(b"AgentMessage\"") && self.texts == Texts::Turns)
    }

    // --- Usage --------------------------------------------------------------------------------

    /// The record of one call.
    fn record(&mut self, line: &str, start: &Start<'_>) -> Option<()> {
        self.records = true;
        let record = match self.finders.record(line.as_bytes(), &self.id) {
            Some(record) => record,
            None => payload::<Record>(line)?,
        };
        if self.inherited {
            self.summary.audit.inherited.add(&record.usage);
        } else if record.thread_id.is_some_and(|id| id != self.id.as_str()) {
            self.summary.audit.foreign.add(&record.usage);
        } else {
            self.count(&record.usage, record.turn_id.as_deref(), start.time);
        }
        Some(())
    }

    /// The running total, and the last call. It is written again when the next request starts.
    fn token_count(&mut self, line: &str, start: &Start<'_>) -> Option<()> {
        if self.finders.has_limits(line.as_bytes()) {
            self.limits.clear();
            self.limits.push_str(line);
        }
        if self.records {
            self.summary.audit.covered += 1;
            return Some(());
        }
        let (total, last) = match self.finders.count(line.as_bytes()) {
            Some(pair) => pair,
            None => {
                let TokenCount { info, .. } = payload(line)?;
                let Some(info) = info else {
                    self.reset();
                    return Some(());
                };
                (
                    info.total_token_usage.unwrap_or_default(),
                    info.last_token_usage.unwrap_or_default(),
                )
            }
        };
        let repeated = total == self.total;
        if total.input < self.total.input {
            self.summary.audit.resets += 1;
        }
        self.total = total;
        if self.inherited {
            self.summary.audit.inherited.add(&last);
        } else if repeated {
            self.summary.audit.repeated.add(&last);
        } else {
            self.count(&last, None, start.time);
        }
        Some(())
    }

    /// A run of the CLI begins, with a total of its own in some versions.
    fn reset(&mut self) {
        if !self.total.is_zero() {
            self.summary.audit.resets += 1;
        }
        self.total = Tokens::default();
    }

    fn count(&mut self, tokens: &Tokens, turn: Option<&str>, time: &str) {
        Tally::add(&mut self.summary.audit.counted, tokens);
        let (mut model, mut cwd) = (self.model, self.cwd);
        let turn = self.turns.of(turn);
        if let Some(turn) = &turn {
            (model, cwd) = (turn.model.or(model), turn.cwd.or(cwd));
        }
        let key = (time.get(..10).unwrap_or_default(), model, cwd);
        let cells = turn.map_or(&mut self.summary.before, |turn| &mut turn.spent);
        add(cells, key, 1, tokens);
    }
}

fn payload<'a, T: Deserialize<'a>>(line: &'a str) -> Option<T> {
    serde_json::from_str::<Payload<T>>(line).ok().map(|line| line.payload)
}

/// The text of a JSON object.
fn json(line: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(line).ok().filter(|line| is_object(line))
}

fn is_object(line: &str) -> bool {
    line.bytes().find(|byte| !byte.is_ascii_whitespace()) == Some(b'{')
        && serde_json::from_str::<IgnoredAny>(line).is_ok()
}

/// The position of a text in a list; it is appended if it is new.
fn index(list: &mut Vec<String>, text: &str) -> Option<u16> {
    let at = list.iter().rposition(|known| known == text).unwrap_or_else(|| {
        list.push(text.to_string());
        list.len() - 1
    });
    u16::try_from(at).ok()
}

fn set(text: &mut Option<String>, value: &str) {
    match text {
        Some(text) => {
            text.clear();
            text.push_str(value);
        }
        None => *text = Some(value.to_string()),
    }
}

/// Messages of the user that the CLI itself writes.
fn is_context(text: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "<environment_context>",
        "<user_instructions>",
        "# AGENTS.md instructions",
        "<permissions instructions>",
        "<skills_instructions>",
        "<turn_aborted>",
        "<subagent_notification>",
        "<user_action>",
    ];
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}
