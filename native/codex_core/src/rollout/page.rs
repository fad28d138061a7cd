//! Pages of threads.

use super::index::Index;
use super::record::Record;
use super::store::Store;
use super::survey::Survey;
use super::{Texts, Workspace};

/// The threads of a page, the newest first.
#[derive(Debug, Default)]
pub struct Page {
    /// The threads.
    pub records: Vec<Record>,
    /// More threads match.
    pub more: bool,
}

/// The threads that are wanted. Nothing means that all values will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The working directory.
    pub cwd: Option<String>,
    /// Started at this time or later.
    pub since: Option<String>,
    /// Started before this time.
    pub until: Option<String>,
    /// Used this model.
    pub model: Option<String>,
    /// The source, or the member of a source that is an object.
    pub source: Option<String>,
    /// A part of the title or the name, in any case.
    pub title: Option<String>,
    /// Archived or not.
    pub archived: Option<bool>,
}

/// The threads that are read at a time if not all match.
const CHUNK: usize = 256;

/// The part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The id of the last thread of the page before.
    pub after: Option<String>,
    /// The most threads.
    pub limit: usize,
}

impl Page {
    /// Whether all files were read, that of the names, too.
    pub fn is_whole(&self, store: &Store) -> bool {
        let mut files = self.records.iter().flat_map(|record| &record.files);
        store.names_error.is_none() && files.all(|(_, result)| result.is_ok())
    }

    /// Reads a page. Reads few more threads than the page has; nothing if the guard stops it.
    pub fn read(
        store: &Store,
        index: Option<&Index>,
        filter: &Filter,
        range: &Range,
        workspace: &mut Workspace,
        guard: &dyn Fn() -> bool,
    ) -> Option<Page> {
        let survey = Survey { store, index, texts: Texts::Title };
        let begin = range.after.as_deref().map_or(0, |id| behind(store, id));
        let may_match: Vec<_> =
            (begin..store.threads.len()).filter(|at| filter.may_match(store, *at)).collect();
        let (mut page, mut fresh, mut rest) = (Page::default(), Vec::new(), &may_match[..]);
        while !rest.is_empty() && !page.more {
            let wanted = range.limit - page.records.len();
            if wanted == 0 && filter.is_fast() {
                page.more = true;
                break;
            }
            let size = if filter.is_fast() { wanted } else { CHUNK };
            let (now, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            let take = |read: &mut Vec<_>, place, record| read.push((place, record));
            let (read, new) = survey.run(now, workspace, guard, Vec::new, take)?;
            fresh.extend(new);
            let mut read: Vec<_> = read.into_iter().flatten().collect();
            read.sort_unstable_by_key(|(place, _)| *place);
            for (_, record) in read.into_iter().filter(|(_, record)| filter.matches(store, record))
            {
                if page.records.len() == range.limit {
                    page.more = true;
                    break;
                }
                page.records.push(record);
            }
        }
        if let Some(index) = index {
            index.save(&store.home, &store.files, &fresh);
        }
        Some(page)
    }
}

/// The position behind a thread. One that was deleted meanwhile still has its place: ids are sorted
/// by time and id.
fn behind(store: &Store, id: &str) -> usize {
    match store.position(id) {
        Some(at) => at + 1,
        None => (0..store.threads.len()).find(|at| store.id(*at) < id).unwrap_or(usize::MAX),
    }
    .min(store.threads.len())
}

impl Filter {
    /// Whether every thread that may match does.
    fn is_fast(&self) -> bool {
        Filter { archived: self.archived, ..Filter::default() } == *self
    }

    fn may_match(&self, store: &Store, at: usize) -> bool {
        let archived = || store.thread(at).iter().all(|file| file.archived);
        self.archived.is_none_or(|wanted| wanted == archived())
    }

    fn matches(&self, store: &Store, record: &Record) -> bool {
        if self.is_fast() {
            return true;
        }
        let meta = record.meta();
        let same =
            |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        let started = meta.and_then(|meta| meta.timestamp.as_deref());
        let cwd = meta.and_then(|meta| meta.cwd.as_deref());
        let source = meta.and_then(|meta| meta.source.as_ref());
        let name = store.names.get(record.id()).map(String::as_str);
        same(&self.cwd, &|wanted| cwd == Some(wanted))
            && same(&self.since, &|wanted| started.is_some_and(|started| started >= wanted))
            && same(&self.until, &|wanted| started.is_some_and(|started| started < wanted))
            && same(&self.model, &|wanted| record.models().contains(&wanted))
            && same(&self.source, &|wanted| source.is_some_and(|source| is_of(&source.0, wanted)))
            && same(&self.title, &|wanted| {
                let wanted = lower(wanted);
                [record.title(), name]
                    .into_iter()
                    .flatten()
                    .any(|text| lower(text).contains(&wanted))
            })
    }
}

fn is_of(source: &str, wanted: &str) -> bool {
    match serde_json::from_str(source) {
        Ok(serde_json::Value::Object(members)) => members.contains_key(wanted),
        Ok(serde_json::Value::String(text)) => text == wanted,
        _ => false,
    }
}

/// Each character by itself, whatever stands beside it.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}
