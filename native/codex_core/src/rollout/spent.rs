//! Tokens of the threads of a store.

use std::collections::{BTreeMap, HashMap};

use super::index::Index;
use super::record::{Kind, Problem, Record};
use super::store::Store;
use super::summary::{Audit, Cell, Summary, Tally};
use super::survey::Survey;
use super::tokens::Tokens;
use super::{Texts, Workspace};

/// The parts that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Threads.
    Thread,
    /// Threads with their agents and reviews, and theirs.
    Tree,
    /// Nothing: all of it is one sum.
    Store,
}

/// The day, the model and the working directory of calls.
pub type Key = (String, Option<String>, Option<String>);

/// Calls and their tokens.
pub type Sum = (u64, Tokens);

/// A part and its cells. It is named by the id of its thread or of the root of its tree; the whole
/// store has no name.
pub type Part = (Option<String>, Vec<(Key, Sum)>);

/// What was spent.
#[derive(Debug, Default)]
pub struct Spent {
    /// The parts, in the order of the threads. A tree has a part for each of its threads.
    pub parts: Vec<Part>,
    /// The reports that were counted, and those that were not.
    pub audit: Audit,
    /// The ids of threads without a recorded call.
    pub unrecorded: Vec<String>,
    /// The problems of the threads.
    pub problems: Vec<Problem>,
}

/// What is kept of a thread: the rest of a large store would not fit.
#[derive(Default)]
struct Thread {
    place: usize,
    audit: Audit,
    recorded: bool,
    parent: Option<String>,
    cells: Vec<(Key, Sum)>,
    problems: Vec<Problem>,
}

/// What a worker keeps.
#[derive(Default)]
struct State {
    /// The cells of all threads, if they are not told apart.
    cells: BTreeMap<Key, Sum>,
    audit: Audit,
    /// Threads of which more is known than their cells.
    threads: Vec<Thread>,
}

impl Spent {
    /// Sums up all threads, or one. With [`Scope::Tree`], the tree of that one. Nothing if the
    /// guard stops it.
    pub fn read(
        store: &Store,
        index: Option<&Index>,
        scope: Scope,
        only: Option<usize>,
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
    ) -> Option<Spent> {
        // The agents of a thread are among all threads.
        let wanted: Vec<_> = match only {
            Some(at) if scope != Scope::Tree => vec![at],
            _ => (0..store.threads.len()).collect(),
        };
        let survey = Survey { store, index, texts: Texts::Title };
        let take = |state: &mut State, place, record| state.take(store, scope, place, &record);
        let (states, fresh) = survey.run(&wanted, workspace, guard, State::default, take)?;
        if let Some(index) = index {
            index.save(&store.home, &store.files, &fresh);
        }
        let mut all = State::default();
        for state in states {
            state.cells.into_iter().for_each(|(key, sum)| add(&mut all.cells, key, sum));
            merge(&mut all.audit, &state.audit);
            all.threads.extend(state.threads);
        }
        all.threads.sort_unstable_by_key(|thread| thread.place);
        let roots = if scope == Scope::Tree { roots(store, &all.threads) } else { Vec::new() };
        if let (Scope::Tree, Some(only)) = (scope, only) {
            all.threads.retain(|thread| roots[thread.place] == roots[only]);
        }
        let mut spent = Spent { audit: all.audit, ..Spent::default() };
        if !all.cells.is_empty() {
            spent.parts.push((None, all.cells.into_iter().collect()));
        }
        for thread in all.threads {
            let at = wanted[thread.place];
            merge(&mut spent.audit, &thread.audit);
            spent.problems.extend(thread.problems);
            if !thread.recorded {
                spent.unrecorded.push(store.id(at).to_string());
            }
            if !thread.cells.is_empty() {
                let part = if scope == Scope::Tree { roots[thread.place] } else { at };
                spent.parts.push((Some(store.id(part).to_string()), thread.cells));
            }
        }
        Some(spent)
    }
}

impl State {
    fn take(&mut self, store: &Store, scope: Scope, place: usize, record: &Record) {
        let mut problems: Vec<_> = store.left_out_of(record.id()).collect();
        problems.extend(record.problems(store));
        let recorded = record.summaries().any(Summary::has_usage);
        let mut thread = Thread { place, recorded, problems, ..Thread::default() };
        let mut cells = BTreeMap::new();
        for summary in record.summaries() {
            let audit = if scope == Scope::Store { &mut self.audit } else { &mut thread.audit };
            merge(audit, &summary.audit);
            let cells = if scope == Scope::Store { &mut self.cells } else { &mut cells };
            for cell in summary.spent() {
                add(cells, key(&cell, summary), (cell.calls, cell.tokens));
            }
        }
        thread.cells = cells.into_iter().collect();
        if scope == Scope::Tree
            && let (Some(Kind::Subagent | Kind::Review), parent) = record.parent()
        {
            thread.parent = parent;
        }
        if scope != Scope::Store || !recorded || !thread.problems.is_empty() {
            self.threads.push(thread);
        }
    }
}

/// A cell that names no directory has that of the thread.
fn key(cell: &Cell, summary: &Summary) -> Key {
    let name = |list: &[String], at: Option<u16>| at.and_then(|at| list.get(at as usize).cloned());
    let cwd = name(&summary.cwds, cell.cwd).or_else(|| summary.meta.cwd.clone());
    (cell.day.clone(), name(&summary.models, cell.model), cwd)
}

fn add(cells: &mut BTreeMap<Key, Sum>, key: Key, (calls, tokens): Sum) {
    let sum = cells.entry(key).or_default();
    sum.0 += calls;
    sum.1.add(&tokens);
}

fn merge(sum: &mut Audit, more: &Audit) {
    let add = |sum: &mut Tally, more: &Tally| {
        sum.calls += more.calls;
        sum.tokens.add(&more.tokens);
    };
    add(&mut sum.counted, &more.counted);
    add(&mut sum.repeated, &more.repeated);
    add(&mut sum.inherited, &more.inherited);
    add(&mut sum.foreign, &more.foreign);
    sum.covered += more.covered;
    sum.resets += more.resets;
}

/// The root of the tree of each thread. Agents and reviews belong to the tree of the thread that
/// started them; forks have their own.
fn roots(store: &Store, threads: &[Thread]) -> Vec<usize> {
    let positions = store.positions();
    let mut parents: HashMap<usize, usize> = HashMap::new();
    for thread in threads {
        if let Some(parent) = thread.parent.as_deref().and_then(|id| positions.get(id)) {
            parents.insert(thread.place, *parent);
        }
    }
    let climb = |mut at| {
        let mut seen = vec![];
        while let Some(parent) = parents.get(&at).filter(|parent| !seen.contains(*parent)) {
            seen.push(at);
            at = *parent;
        }
        at
    };
    (0..store.threads.len()).map(climb).collect()
}
