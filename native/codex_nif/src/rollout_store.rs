//! The rollouts of a home: listed, read page by page, and summed up on threads of the pool.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use codex_core::rollout::{
    File, Filter, Index, NAMES, Page, Part, Range, Reason, Record, Referrers, Scope, Skipped,
    Spent, Store, Survey, Texts, walk,
};
use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};

use crate::files::{binary, kind_atom, posix};
use crate::kept_page::{Answer, Question};
use crate::pool::{CallResource, PoolResource, answer_guarded, path};
use crate::rollout::{WORKSPACE, audit_term, scan_error, summary_term, tokens};
use crate::rollout_session::Terms;

mod atoms {
    rustler::atoms! {
        ok, error, nil, stopped, name, outside, not_regular, unknown,
        ignored_name, unreadable, bad_lines,
        thread, tree
    }
}

type Pool = ResourceArc<PoolResource>;
type Call = ResourceArc<CallResource>;

pub struct StoreResource(Store);

impl Resource for StoreResource {}

/// Lists a home: `{ok, Store, Threads, Names, Problems}`. With `files`, threads are
/// `{Id, [{Path, Rollout, Time, Archived, Compressed, Size}]}`, the newest first, otherwise there
/// are none, nor names. Names are `{Id, Name}`. Problems are those of files that belong to no
/// thread, and of files that were left out.
#[rustler::nif]
fn rollout_store(env: Env<'_>, pool: Pool, reference: Term<'_>, home: Binary, files: bool) -> Call {
    let home = path(&home);
    let work = move |guard: &dyn Fn() -> bool| Store::open(&home, guard);
    answer_guarded(env, &pool, reference, work, move |env, store| {
        let mut terms = Terms::new(env);
        let threads = match files {
            true => (0..store.threads.len()).map(|at| thread_term(env, &store, at)).collect(),
            false => Vec::new(),
        };
        let problems = problems(&mut terms, &store);
        let names = match files {
            true => store.names.iter().collect::<Vec<_>>().encode(env),
            false => Vec::<Term>::new().encode(env),
        };
        let store = ResourceArc::new(StoreResource(store));
        (atoms::ok(), store, threads, names, problems).encode(env)
    })
}

/// The files of a thread, or the file of a rollout:
/// `{ok, [{Path, Thread, Rollout, Time, Archived, Compressed, Size}]}`, the oldest first.
#[rustler::nif]
fn rollout_files(env: Env<'_>, pool: Pool, reference: Term<'_>, home: Binary, id: String) -> Call {
    let home = path(&home);
    let work = move |guard: &dyn Fn() -> bool| Store::related(&home, &id, guard);
    answer_guarded(env, &pool, reference, work, |env, files| {
        let files = files.iter().map(|file| {
            let path = binary(env, file.path().as_os_str().as_bytes());
            let ids = (file.thread(), file.rollout());
            let facts = (file.archived, file.compressed(), file.size);
            (path, ids.0, ids.1, file.time(), facts.0, facts.1, facts.2).encode(env)
        });
        (atoms::ok(), files.collect::<Vec<_>>()).encode(env)
    })
}

fn thread_term<'e>(env: Env<'e>, store: &Store, at: usize) -> Term<'e> {
    let files = store.thread(at).iter().map(|file| file_term(env, file)).collect::<Vec<_>>();
    (store.id(at), files).encode(env)
}

fn file_term<'e>(env: Env<'e>, file: &File) -> Term<'e> {
    let path = binary(env, file.path().as_os_str().as_bytes());
    let File { archived, size, .. } = *file;
    (path, file.rollout(), file.time(), archived, file.compressed(), size).encode(env)
}

fn problems<'e>(terms: &mut Terms<'e>, store: &Store) -> Vec<Term<'e>> {
    let mut problems = general_problems(terms, store);
    problems.extend(store.left_out.iter().map(|left| terms.thread(&left.problem())));
    problems
}

/// The problems that belong to no thread.
fn general_problems<'e>(terms: &mut Terms<'e>, store: &Store) -> Vec<Term<'e>> {
    let env = terms.env;
    let (nil, mut problems) = (atoms::nil().encode(env), Vec::new());
    if store.bad_names > 0 {
        let count = store.bad_names;
        let first = 0u64.encode(env);
        problems.push(terms.problem(atoms::bad_lines(), NAMES.as_bytes(), nil, count, first));
    }
    if let Some(error) = &store.names_error {
        let reason = terms.file_error(error);
        problems.push(terms.problem(atoms::unreadable(), NAMES.as_bytes(), nil, 1, reason));
    }
    problems.extend(store.skipped.iter().map(|skipped| skipped_term(terms, skipped)));
    problems
}

fn skipped_term<'e>(terms: &mut Terms<'e>, skipped: &Skipped) -> Term<'e> {
    let env = terms.env;
    let nil = atoms::nil().encode(env);
    let (kind, detail) = match &skipped.reason {
        Reason::Name => (atoms::ignored_name(), nil),
        Reason::Outside => (atoms::outside(), nil),
        Reason::Kind(kind) => {
            (atoms::unreadable(), (atoms::not_regular(), kind_atom(*kind)).encode(env))
        }
        Reason::Io(_, Some(number)) => {
            let error = std::io::Error::from_raw_os_error(*number);
            (atoms::unreadable(), posix(&error).encode(env))
        }
        Reason::Io(_, None) => (atoms::unreadable(), atoms::unknown().encode(env)),
    };
    terms.problem(kind, skipped.path.as_os_str().as_bytes(), nil, 1, detail)
}

/// The values of `Codex.Sessions.Filter`: directory, first and last time, model, source, title, and
/// whether archived.
type Wanted<'a> = (
    (Option<Binary<'a>>, Option<Binary<'a>>, Option<Binary<'a>>),
    (Option<Binary<'a>>, Option<Binary<'a>>, Option<Binary<'a>>),
    Option<bool>,
);

/// What the thread of a page has found.
enum Listed {
    Kept(Arc<Answer>),
    Read(Box<(Store, u64)>, Option<Page>),
}

/// Reads a page: `{ok, Sessions, Problems, More}`. The first page has the problems of no thread,
/// too.
#[rustler::nif]
fn rollout_page<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    home: Binary<'a>,
    wanted: Wanted<'a>,
    range: (Option<Binary<'a>>, usize),
    index: Option<Binary<'a>>,
) -> Call {
    // Sessions have no text that is not UTF-8.
    let text =
        |text: Option<Binary<'_>>| text.map(|text| String::from_utf8_lossy(&text).into_owned());
    let ((cwd, since, until), (model, source, title), archived) = wanted;
    let (cwd, since, until) = (text(cwd), text(since), text(until));
    let (model, source, title) = (text(model), text(source), text(title));
    let filter = Filter { cwd, since, until, model, source, title, archived };
    let range = Range { after: text(range.0), limit: range.1 };
    let (home, first) = (path(&home), range.after.is_none());
    let question = index.map(|index| Question {
        home: home.clone(),
        index: path(&index),
        filter: filter.clone(),
        range: range.clone(),
    });
    let (asked, kept) = (question.clone(), pool.clone());
    let work = move |guard: &dyn Fn() -> bool| {
        let found = walk(&home, guard);
        let stamp = Store::stamp(&home, &found);
        if let Some(answer) = asked.as_ref().and_then(|asked| kept.page.get(asked, stamp)) {
            return Listed::Kept(answer);
        }
        let store = Store::with(&home, found);
        let index = asked.map(|asked| Index::load(&asked.index, &home));
        let page = WORKSPACE.with_borrow_mut(|workspace| {
            Page::read(&store, index.as_ref(), &filter, &range, workspace, guard)
        });
        Listed::Read(Box::new((store, stamp)), page)
    };
    let kept = pool.clone();
    answer_guarded(env, &pool, reference, work, move |env, listed| match listed {
        Listed::Kept(answer) => answer.copy(env),
        Listed::Read(_, None) => stopped(env),
        Listed::Read(read, Some(page)) => {
            let (store, stamp) = *read;
            let answer = page_term(env, &store, &page, first);
            // The reason why a file was not read may be gone without a change of the file.
            if let Some(question) = question
                && page.is_whole(&store)
            {
                kept.page.put(question, stamp, &page, answer);
            }
            answer
        }
    })
}

fn page_term<'e>(env: Env<'e>, store: &Store, page: &Page, first: bool) -> Term<'e> {
    let mut terms = Terms::new(env);
    let sessions = page.records.iter().map(|record| terms.session(record, store));
    let sessions: Vec<_> = sessions.collect();
    let mut problems = if first { general_problems(&mut terms, store) } else { Vec::new() };
    for record in &page.records {
        problems.extend(all_problems(&mut terms, record, store));
    }
    (atoms::ok(), sessions, problems, page.more).encode(env)
}

fn stopped(env: Env<'_>) -> Term<'_> {
    (atoms::error(), atoms::stopped()).encode(env)
}

fn all_problems<'e>(terms: &mut Terms<'e>, record: &Record, store: &Store) -> Vec<Term<'e>> {
    let problems = store.left_out_of(record.id()).chain(record.problems(store));
    problems.map(|problem| terms.thread(&problem)).collect()
}

/// Sums up the tokens of all threads or of one: `{ok, Parts, Audit, Unrecorded, Problems}`. A part
/// is `{Id, [{Day, Model, Cwd, Calls, Tokens}]}`; the scope is `thread`, `tree` or `store`.
#[rustler::nif]
fn rollout_spent<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    store: ResourceArc<StoreResource>,
    scope: Atom,
    only: Option<String>,
    index: Option<Binary<'a>>,
) -> Call {
    let scope = match scope {
        scope if scope == atoms::thread() => Scope::Thread,
        scope if scope == atoms::tree() => Scope::Tree,
        _ => Scope::Store,
    };
    let index = index.as_ref().map(path);
    let work = move |guard: &dyn Fn() -> bool| {
        let store = &store.0;
        let index = index.map(|path| Index::load(&path, &store.home));
        let only = match only {
            Some(id) => Some(store.position(&id)?),
            None => None,
        };
        WORKSPACE.with_borrow_mut(|workspace| {
            Spent::read(store, index.as_ref(), scope, only, workspace, guard)
        })
    };
    answer_guarded(env, &pool, reference, work, |env, spent| {
        let Some(spent) = spent else { return stopped(env) };
        let parts: Vec<_> = spent.parts.iter().map(|part| part_term(env, part)).collect();
        let mut terms = Terms::new(env);
        let problems: Vec<_> = spent.problems.iter().map(|problem| terms.thread(problem)).collect();
        let audit = audit_term(env, &spent.audit);
        (atoms::ok(), parts, audit, spent.unrecorded, problems).encode(env)
    })
}

fn part_term<'e>(env: Env<'e>, (id, cells): &Part) -> Term<'e> {
    let cells = cells.iter().map(|((day, model, cwd), (calls, sum))| {
        (day.as_str(), model, cwd, *calls, tokens(env, sum)).encode(env)
    });
    (id, cells.collect::<Vec<_>>()).encode(env)
}

/// Reads threads, given as ids: `{Session, Problems, Sums}` for each. A sum is `{ok, Summary}` or
/// `{error, Reason}` for each file. With `turns`, summaries have turns and their texts.
#[rustler::nif]
fn rollout_records<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    store: ResourceArc<StoreResource>,
    ids: Vec<String>,
    turns: bool,
) -> Call {
    let ours = store.clone();
    let work = move |guard: &dyn Fn() -> bool| {
        let texts = if turns { Texts::Turns } else { Texts::Title };
        let survey = Survey { store: &ours.0, index: None, texts };
        WORKSPACE.with_borrow_mut(|workspace| {
            let positions = ids.iter().filter_map(|id| ours.0.position(id));
            positions.map(|at| survey.one(at, workspace, guard)).collect::<Vec<_>>()
        })
    };
    answer_guarded(env, &pool, reference, work, move |env, records| {
        let (store, mut terms) = (&store.0, Terms::new(env));
        let records = records.iter().map(|record| {
            let sums = record.files.iter().map(|(_, result)| match result {
                Ok(summary) => (atoms::ok(), summary_term(env, summary, turns)).encode(env),
                Err(error) => scan_error(env, error),
            });
            let sums: Vec<_> = sums.collect();
            let session = terms.session(record, store);
            (session, all_problems(&mut terms, record, store), sums).encode(env)
        });
        records.collect::<Vec<_>>().encode(env)
    })
}

/// Looks for threads that refer to one: `{ok, Parents, Bases}`, the ids of threads that name it as
/// their parent, and of those whose history is in its files.
#[rustler::nif]
fn rollout_referrers<'a>(
    env: Env<'a>,
    pool: Pool,
    reference: Term<'a>,
    store: ResourceArc<StoreResource>,
    id: String,
) -> Call {
    let work = move |guard: &dyn Fn() -> bool| {
        let at = store.0.position(&id)?;
        WORKSPACE.with_borrow_mut(|workspace| Referrers::read(&store.0, at, workspace, guard))
    };
    answer_guarded(env, &pool, reference, work, |env, found| match found {
        Some(Referrers { parents, bases }) => (atoms::ok(), parents, bases).encode(env),
        None => stopped(env),
    })
}
