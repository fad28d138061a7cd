//! A thread as it was read: the sums of its files, and the facts that follow from them.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::ScanError;
use super::file::File;
use super::payload::Meta;
use super::store::{LeftOut, Store};
use super::summary::Summary;
use super::tokens::Tokens;

/// A thread: its files, the oldest first, with the sum of each or the reason that there is none.
#[derive(Debug)]
pub struct Record {
    /// The files. One that moved after the home was listed is at its new place.
    pub files: Vec<(File, Result<Summary, Arc<ScanError>>)>,
}

/// What a thread is to the one that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It begins with the history of its parent.
    Fork,
    /// It works for its parent.
    Subagent,
    /// It reviews the work of its parent.
    Review,
}

/// A fact that a reader should know.
#[derive(Debug)]
pub struct Problem {
    /// What it is about.
    pub kind: ProblemKind,
    /// The file, from the home on.
    pub path: PathBuf,
    /// The id of the thread.
    pub thread: String,
    /// The number of lines.
    pub count: u64,
    /// More about it.
    pub detail: Detail,
}

/// The kinds of problems of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // `Codex.Sessions.Problem` tells what they mean
pub enum ProblemKind {
    BadLines,
    SalvagedLines,
    LongLines,
    Duplicate,
    Shadowed,
    Empty,
    Gone,
    Unreadable,
    MissingParent,
    MissingBase,
    WrongId,
}

/// More about a problem.
#[derive(Debug)]
pub enum Detail {
    /// Nothing.
    None,
    /// A position in a file.
    Offset(u64),
    /// An id.
    Id(String),
    /// Another file.
    Path(PathBuf),
    /// The reason why a file was not read.
    Error(Arc<ScanError>),
}

impl Record {
    /// The id of the thread.
    pub fn id(&self) -> &str {
        self.files.first().map_or("", |(file, _)| file.thread())
    }

    /// The sums of the files that were read.
    pub fn summaries(&self) -> impl DoubleEndedIterator<Item = &Summary> {
        self.files.iter().filter_map(|(_, result)| result.as_ref().ok())
    }

    /// The first line.
    pub fn meta(&self) -> Option<&Meta> {
        self.summaries().next().map(|summary| &summary.meta)
    }

    /// Whether all files are archived.
    pub fn archived(&self) -> bool {
        self.files.iter().all(|(file, _)| file.archived)
    }

    /// The models of all files, in the order of their first use.
    pub fn models(&self) -> Vec<&str> {
        let mut models = Vec::new();
        for model in self.summaries().flat_map(|summary| &summary.models) {
            if !models.contains(&model.as_str()) {
                models.push(model);
            }
        }
        models
    }

    /// The first prompt.
    pub fn title(&self) -> Option<&str> {
        self.summaries().find_map(|summary| summary.title.as_deref())
    }

    /// The tokens of its calls; nothing if no call was recorded.
    pub fn usage(&self) -> Option<Tokens> {
        if !self.summaries().any(Summary::has_usage) {
            return None;
        }
        let mut sum = Tokens::default();
        for summary in self.summaries() {
            let turns = summary.turns.iter().flat_map(|turn| &turn.spent);
            turns.chain(&summary.before).for_each(|cell| sum.add(&cell.tokens));
        }
        Some(sum)
    }

    /// The thread that it came from, and what it is to it. The thread of an agent may be a fork,
    /// too: it is an agent's first.
    pub fn parent(&self) -> (Option<Kind>, Option<String>) {
        let Some(meta) = self.meta() else { return (None, None) };
        let (parent, fork) = (meta.parent_thread_id.clone(), meta.forked_from_id.clone());
        match meta.source.as_ref().and_then(|source| subagent(&source.0)) {
            Some(agent) if agent == "review" => (Some(Kind::Review), parent),
            Some(agent) => {
                let spawn = agent.pointer("/thread_spawn/parent_thread_id");
                let spawn = || spawn.and_then(Value::as_str).map(str::to_string);
                (Some(Kind::Subagent), parent.or_else(spawn).or(fork))
            }
            None if fork.is_some() => (Some(Kind::Fork), fork),
            None => (parent.as_ref().map(|_| Kind::Subagent), parent),
        }
    }

    /// The problems of a thread, without the files that were left out.
    pub fn problems(&self, store: &Store) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (file, result) in &self.files {
            let mut push = |kind, count, detail| {
                let (path, thread) = (file.path(), file.thread().to_string());
                problems.push(Problem { kind, path, thread, count, detail });
            };
            match result {
                Err(error) if is_missing(error) => push(ProblemKind::Gone, 1, Detail::None),
                Err(error) => push(ProblemKind::Unreadable, 1, Detail::Error(error.clone())),
                Ok(summary) if summary.lines == 0 => push(ProblemKind::Empty, 1, Detail::None),
                Ok(summary) => of_summary(summary, file.thread(), store, &mut push),
            }
        }
        if let (_, Some(parent)) = self.parent()
            && !store.has_thread(&parent)
            && let Some((file, _)) = self.files.first()
        {
            let (path, thread) = (file.path(), file.thread().to_string());
            let (kind, detail) = (ProblemKind::MissingParent, Detail::Id(parent));
            problems.push(Problem { kind, path, thread, count: 1, detail });
        }
        problems
    }
}

fn of_summary(
    summary: &Summary,
    thread: &str,
    store: &Store,
    push: &mut impl FnMut(ProblemKind, u64, Detail),
) {
    let first = summary.first_bad.map_or(Detail::None, Detail::Offset);
    for (kind, count, detail) in [
        (ProblemKind::BadLines, summary.bad_lines, first),
        (ProblemKind::SalvagedLines, summary.salvaged_lines, Detail::None),
        (ProblemKind::LongLines, summary.long_lines, Detail::None),
    ] {
        if count > 0 {
            push(kind, count, detail);
        }
    }
    if let Some(base) = &summary.meta.history_base
        && !store.has_rollout(&base.thread_id)
    {
        push(ProblemKind::MissingBase, 1, Detail::Id(base.thread_id.clone()));
    }
    if let Some(id) = &summary.meta.id
        && id != thread
    {
        push(ProblemKind::WrongId, 1, Detail::Id(id.clone()));
    }
}

fn is_missing(error: &ScanError) -> bool {
    matches!(error, ScanError::File(error) if error.is_missing())
}

/// The agent that a source names.
fn subagent(source: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Source {
        subagent: Option<Value>,
    }

    if !source.starts_with('{') {
        return None;
    }
    serde_json::from_str::<Source>(source).ok()?.subagent
}

impl LeftOut {
    /// What a reader should know.
    pub fn problem(&self) -> Problem {
        let same = self.file.archived == self.read.archived;
        let kind = if same { ProblemKind::Shadowed } else { ProblemKind::Duplicate };
        let (path, thread) = (self.file.path(), self.file.thread().to_string());
        Problem { kind, path, thread, count: 1, detail: Detail::Path(self.read.path()) }
    }
}

impl Store {
    /// The problems of files of a thread that were left out.
    pub fn left_out_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = Problem> + 'a {
        // In the order of the threads.
        let from = self.left_out.partition_point(|left| left.file.thread() < id);
        let of = self.left_out[from..].iter().take_while(move |left| left.file.thread() == id);
        of.map(LeftOut::problem)
    }
}
