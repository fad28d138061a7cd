//! The last page of sessions that was read with an index. It holds while the home and the index do
//! not change: making its terms again costs more than looking at all files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codex_core::rollout::{FileStamp, Filter, Page, Range, file_stamp};
use rustler::env::SavedTerm;
use rustler::{Env, OwnedEnv, Term};

/// A page with more sessions is not kept.
const MAX_SESSIONS: usize = 10_000;

/// A page whose titles have more bytes is not kept: they are whole prompts.
const MAX_TITLES: usize = 4 * 1024 * 1024;

/// What was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    pub home: PathBuf,
    pub index: PathBuf,
    pub filter: Filter,
    pub range: Range,
}

/// What the answer depends on: the stamps of the home and of the index.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State(u64, Option<FileStamp>);

/// An answer, and the environment that its term lives in.
pub struct Answer(Mutex<(OwnedEnv, SavedTerm)>);

impl Answer {
    /// A copy of the answer.
    pub fn copy<'e>(&self, env: Env<'e>) -> Term<'e> {
        let own = lock(&self.0);
        own.0.run(|inner| own.1.load(inner).in_env(env))
    }
}

/// Keeps one answer.
#[derive(Default)]
pub struct KeptPage(Mutex<Option<(Question, State, Arc<Answer>)>>);

impl KeptPage {
    /// The answer, if the question, the home and the index are still the same.
    pub fn get(&self, question: &Question, home: u64) -> Option<Arc<Answer>> {
        let kept = lock(&self.0);
        let (asked, state, answer) = kept.as_ref()?;
        let same = asked == question && *state == State(home, file_stamp(&question.index));
        same.then(|| answer.clone())
    }

    /// Keeps an answer instead of the last one.
    pub fn put(&self, question: Question, home: u64, page: &Page, answer: Term<'_>) {
        let titles = page.records.iter().filter_map(|record| record.title());
        let small =
            page.records.len() <= MAX_SESSIONS && titles.map(str::len).sum::<usize>() <= MAX_TITLES;
        let kept = small.then(|| {
            let state = State(home, file_stamp(&question.index));
            let own = OwnedEnv::new();
            let saved = own.save(answer);
            (question, state, Arc::new(Answer(Mutex::new((own, saved)))))
        });
        let before = std::mem::replace(&mut *lock(&self.0), kept);
        drop(before);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
