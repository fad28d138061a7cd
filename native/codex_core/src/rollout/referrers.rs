//! Threads that refer to another one.

use super::store::Store;
use super::survey::Survey;
use super::{Texts, Workspace};

/// The ids of threads that refer to a thread, the newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// It is their parent.
    pub parents: Vec<String>,
    /// Its files hold their history.
    pub bases: Vec<String>,
}

impl Referrers {
    /// Looks for the referrers of the thread of a position. Nothing if the guard stops it.
    pub fn read(
        store: &Store,
        at: usize,
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
    ) -> Option<Referrers> {
        let others: Vec<_> = (0..store.threads.len()).filter(|other| *other != at).collect();
        let survey = Survey { store, index: None, texts: Texts::Title };
        let holds = |id: &str| store.thread(at).iter().any(|file| file.rollout() == id);
        let (found, _) =
            survey.run(&others, workspace, guard, Vec::new, |found, place, record| {
                let is_parent = record.parent().1.as_deref() == Some(store.id(at));
                let mut bases =
                    record.summaries().filter_map(|summary| summary.meta.history_base.as_ref());
                let is_base = bases.any(|base| holds(&base.thread_id));
                if is_parent || is_base {
                    found.push((place, is_parent, is_base));
                }
            })?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable();
        let mut referrers = Referrers::default();
        for (place, is_parent, is_base) in found {
            let id = store.id(others[place]).to_string();
            if is_base {
                referrers.bases.push(id.clone());
            }
            if is_parent {
                referrers.parents.push(id);
            }
        }
        Some(referrers)
    }
}
