//! Threads and their problems as the structs `Codex.Sessions.Session` and `Codex.Sessions.Problem`.

use std::os::unix::ffi::OsStrExt;

use codex_core::files::FileError;
use codex_core::rollout::{Detail, Kind, Problem, ProblemKind, Record, ScanError, Store, Tokens};
use rustler::{Atom, Encoder, Env, Term};

use crate::files::{binary, file_reason};
use crate::rollout::{json, scan_reason};

mod atoms {
    rustler::atoms! {
        nil, __struct__,
        session_struct = "Elixir.Codex.Sessions.Session",
        problem_struct = "Elixir.Codex.Sessions.Problem",
        archived, cli_version, compactions, cwd, ended, files, generation, git, history_base, id,
        images, lines, bad_lines, model_provider, models, name, originator, parent, parent_kind,
        parent_missing, rate_limits, salvaged_lines, source, started, title, usage,
        kind, path, session, count, detail,
        fork, subagent, review,
        long_lines, duplicate, shadowed, empty, gone, unreadable, missing_parent, missing_base,
        wrong_id
    }
}

/// Makes terms of one environment; what many threads have in common is made once.
pub struct Terms<'e> {
    pub env: Env<'e>,
    session: Vec<Term<'e>>,
    problem: Vec<Term<'e>>,
    tokens: Vec<Term<'e>>,
    base: Vec<Term<'e>>,
    git: Vec<Term<'e>>,
    /// The last value of members that many threads have in common.
    known: [Option<(String, Term<'e>)>; 6],
}

impl<'e> Terms<'e> {
    pub fn new(env: Env<'e>) -> Self {
        let keys = |atoms: &[Atom]| atoms.iter().map(|atom| atom.encode(env)).collect();
        let texts = |texts: &[&str]| texts.iter().map(|text| text.encode(env)).collect();
        Terms {
            env,
            session: keys(&[
                atoms::__struct__(),
                atoms::archived(),
                atoms::bad_lines(),
                atoms::cli_version(),
                atoms::compactions(),
                atoms::cwd(),
                atoms::ended(),
                atoms::files(),
                atoms::generation(),
                atoms::git(),
                atoms::history_base(),
                atoms::id(),
                atoms::images(),
                atoms::lines(),
                atoms::model_provider(),
                atoms::models(),
                atoms::name(),
                atoms::originator(),
                atoms::parent(),
                atoms::parent_kind(),
                atoms::parent_missing(),
                atoms::rate_limits(),
                atoms::salvaged_lines(),
                atoms::source(),
                atoms::started(),
                atoms::title(),
                atoms::usage(),
            ]),
            problem: keys(&[
                atoms::__struct__(),
                atoms::count(),
                atoms::detail(),
                atoms::kind(),
                atoms::path(),
                atoms::session(),
            ]),
            tokens: texts(&[
                "cache_write_input_tokens",
                "cached_input_tokens",
                "input_tokens",
                "output_tokens",
                "reasoning_output_tokens",
            ]),
            base: texts(&["end_byte_offset", "end_ordinal_exclusive", "thread_id"]),
            git: texts(&["branch", "commit_hash", "repository_url"]),
            known: Default::default(),
        }
    }

    /// The keys differ, so that there is a map.
    fn map(&self, keys: &[Term<'e>], values: &[Term<'e>]) -> Term<'e> {
        Term::map_from_term_arrays(self.env, keys, values)
            .unwrap_or_else(|_| Term::map_new(self.env))
    }

    /// A `Codex.Sessions.Session`.
    pub fn session(&mut self, record: &Record, store: &Store) -> Term<'e> {
        let env = self.env;
        let nil = atoms::nil().encode(env);
        let id = record.id();
        let paths = record.files.iter();
        let paths: Vec<_> =
            paths.map(|(file, _)| binary(env, file.path().as_os_str().as_bytes())).collect();
        let (kind, parent) = record.parent();
        let missing = parent.as_deref().is_some_and(|parent| !store.has_thread(parent));
        let kind = match kind {
            Some(Kind::Fork) => atoms::fork().encode(env),
            Some(Kind::Subagent) => atoms::subagent().encode(env),
            Some(Kind::Review) => atoms::review().encode(env),
            None => nil,
        };
        let empty = codex_core::rollout::Meta::default();
        let meta = record.meta().unwrap_or(&empty);
        let sum = |count: fn(&codex_core::rollout::Summary) -> u64| {
            record.summaries().map(count).sum::<u64>().encode(env)
        };
        let generation = record.summaries().map(|summary| summary.generation).max();
        let generation = generation.filter(|generation| *generation > 0);
        let ended = record.summaries().rev().find_map(|summary| summary.ended.as_deref());
        let limits = record.summaries().rev().find_map(|summary| summary.rate_limits.as_deref());
        let source = meta.source.as_ref().map(|source| &*source.0);
        let git = meta.git.as_ref().map(|git| &*git.0);
        let base = meta.history_base.as_ref().map_or(nil, |base| {
            let offset = base.end_byte_offset.encode(env);
            let values =
                [offset, base.end_ordinal_exclusive.encode(env), base.thread_id.encode(env)];
            self.map(&self.base, &values)
        });
        let values = [
            atoms::session_struct().encode(env),
            record.archived().encode(env),
            sum(|summary| summary.bad_lines),
            self.text(2, meta.cli_version.as_deref()),
            sum(|summary| summary.compactions.into()),
            self.text(3, meta.cwd.as_deref()),
            ended.encode(env),
            paths.encode(env),
            generation.encode(env),
            self.git(git),
            base,
            id.encode(env),
            sum(|summary| summary.images.into()),
            sum(|summary| summary.lines),
            self.text(4, meta.model_provider.as_deref()),
            record.models().encode(env),
            store.names.get(id).encode(env),
            self.text(5, meta.originator.as_deref()),
            parent.encode(env),
            kind,
            missing.encode(env),
            self.json(0, limits),
            sum(|summary| summary.salvaged_lines),
            self.json(1, source),
            meta.timestamp.encode(env),
            record.title().encode(env),
            record.usage().map_or(nil, |usage| self.usage(&usage)),
        ];
        self.map(&self.session, &values)
    }

    fn usage(&self, tokens: &Tokens) -> Term<'e> {
        let [input, cached, cache_write, output, reasoning] = tokens.values();
        let values = [cache_write, cached, input, output, reasoning];
        self.map(&self.tokens, &values.map(|number| number.encode(self.env)))
    }

    fn json(&mut self, member: usize, text: Option<&str>) -> Term<'e> {
        self.known(member, text, |env, text| json(env, Some(text)))
    }

    fn text(&mut self, member: usize, text: Option<&str>) -> Term<'e> {
        self.known(member, text, |env, text| text.encode(env))
    }

    fn known(
        &mut self,
        member: usize,
        text: Option<&str>,
        make: impl FnOnce(Env<'e>, &str) -> Term<'e>,
    ) -> Term<'e> {
        let Some(text) = text else { return atoms::nil().encode(self.env) };
        match &self.known[member] {
            Some((known, term)) if known == text => *term,
            _ => {
                let term = make(self.env, text);
                self.known[member] = Some((text.to_string(), term));
                term
            }
        }
    }

    /// Facts about a repository, with all three members.
    fn git(&self, text: Option<&str>) -> Term<'e> {
        let git = json(self.env, text);
        if !git.is_map() {
            return atoms::nil().encode(self.env);
        }
        self.git.iter().fold(git, |git, key| match git.map_get(*key) {
            Ok(_) => git,
            Err(_) => git.map_put(*key, atoms::nil()).unwrap_or(git),
        })
    }

    /// A `Codex.Sessions.Problem` of a thread.
    pub fn thread(&mut self, problem: &Problem) -> Term<'e> {
        let env = self.env;
        let detail = match &problem.detail {
            Detail::None => atoms::nil().encode(env),
            Detail::Offset(offset) => offset.encode(env),
            Detail::Id(id) => id.encode(env),
            Detail::Path(path) => binary(env, path.as_os_str().as_bytes()),
            Detail::Error(error) => self.scan_error(error),
        };
        let path = problem.path.as_os_str().as_bytes();
        self.problem(atom(problem.kind), path, problem.thread.encode(env), problem.count, detail)
    }

    fn scan_error(&self, error: &ScanError) -> Term<'e> {
        scan_reason(self.env, error)
    }

    pub fn file_error(&self, error: &FileError) -> Term<'e> {
        file_reason(self.env, error)
    }

    /// A `Codex.Sessions.Problem`.
    pub fn problem(
        &mut self,
        kind: Atom,
        path: &[u8],
        session: Term<'e>,
        count: u64,
        detail: Term<'e>,
    ) -> Term<'e> {
        let env = self.env;
        let values = [
            atoms::problem_struct().encode(env),
            count.encode(env),
            detail,
            kind.encode(env),
            binary(env, path),
            session,
        ];
        self.map(&self.problem, &values)
    }
}

fn atom(kind: ProblemKind) -> Atom {
    match kind {
        ProblemKind::BadLines => atoms::bad_lines(),
        ProblemKind::SalvagedLines => atoms::salvaged_lines(),
        ProblemKind::LongLines => atoms::long_lines(),
        ProblemKind::Duplicate => atoms::duplicate(),
        ProblemKind::Shadowed => atoms::shadowed(),
        ProblemKind::Empty => atoms::empty(),
        ProblemKind::Gone => atoms::gone(),
        ProblemKind::Unreadable => atoms::unreadable(),
        ProblemKind::MissingParent => atoms::missing_parent(),
        ProblemKind::MissingBase => atoms::missing_base(),
        ProblemKind::WrongId => atoms::wrong_id(),
    }
}
