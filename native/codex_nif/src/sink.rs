//! Builds BEAM terms. All `unsafe` of the library is here and in `entry.rs`; here, the term
//! constructors of `erl_nif` are called without a wrapper in between, because decoding is mostly
//! these calls.
//!
//! All blocks are sound for the same reason: `env` is the environment of the running call (the sink
//! borrows it, so it cannot outlive the call), every term handed in was made in that environment or
//! is an atom, and lengths are those of the slices that the pointers come from.

use std::mem::MaybeUninit;

use codex_core::{Ends, Fault, Sink, Tree};
use rustler::sys::{self, ErlNifEnv, ErlNifTerm};
use rustler::{Atom, BigInt, Encoder, Env, Term};

use crate::faults;

mod atoms {
    rustler::atoms! { nil, lossy, unknown, rejected, oversized, overfull }
}

/// Keys of untyped objects repeat a lot: those up to this length are made once a call.
const CACHED_KEY: usize = 32;
const CACHE: usize = 128;

#[derive(Clone, Copy)]
struct CachedKey {
    ends: Ends,
    text: [u8; CACHED_KEY],
    term: ErlNifTerm,
}

/// Maps with so many keys are flat: nothing is sorted by a hash.
const SMALL_MAP: usize = 32;

/// The kind of a thread that is not of the VM (`ERL_NIF_THR_UNDEFINED`).
const NO_SCHEDULER: i32 = 0;

pub struct TermSink<'e, 'n> {
    env: Env<'e>,
    raw: *mut ErlNifEnv,
    names: &'n [Atom],
    nil: ErlNifTerm,
    keys: Vec<Option<CachedKey>>,
    /// The tuple that is being put together.
    items: Vec<ErlNifTerm>,
}

impl<'e, 'n> TermSink<'e, 'n> {
    /// `names` are the atoms of the schema that the sink is used with.
    pub fn new(env: Env<'e>, names: &'n [Atom]) -> Self {
        TermSink {
            env,
            raw: env.as_c_arg(),
            names,
            nil: atom(env, atoms::nil()),
            keys: Vec::new(),
            items: Vec::new(),
        }
    }

    /// A term that this sink made, for the rest of the glue.
    pub fn term(&self, made: ErlNifTerm) -> Term<'e> {
        // SAFETY: see the head of the file.
        unsafe { Term::new(self.env, made) }
    }

    fn tuple(&self, items: &[ErlNifTerm]) -> ErlNifTerm {
        // SAFETY: see the head of the file.
        unsafe { sys::enif_make_tuple_from_array(self.raw, items.as_ptr(), items.len() as u32) }
    }

    fn binary(&self, bytes: &[u8]) -> ErlNifTerm {
        binary(self.raw, self.nil, bytes)
    }

    fn int64(&self, value: i64) -> ErlNifTerm {
        // SAFETY: see the head of the file.
        unsafe { sys::enif_make_int64(self.raw, value) }
    }

    /// Puts one key after the other. The VM sorts the keys of a large map with a random number of
    /// its scheduler, which other threads do not have: it would crash there.
    #[cold]
    fn map_by_keys(&self, keys: &[ErlNifTerm], values: &[ErlNifTerm]) -> ErlNifTerm {
        // SAFETY: see the head of the file.
        let mut map = unsafe { sys::enif_make_new_map(self.raw) };
        for (key, value) in keys.iter().zip(values) {
            // SAFETY: see the head of the file.
            unsafe { sys::enif_make_map_put(self.raw, map, *key, *value, &mut map) };
        }
        map
    }

    /// Of equal keys the last one counts. They are sorted out first: putting one key after the
    /// other would leave a piece of every map on the way behind.
    #[cold]
    fn map_of_repeated(&self, keys: &[ErlNifTerm], values: &[ErlNifTerm]) -> ErlNifTerm {
        // SAFETY: see the head of the file.
        let compare = |a: ErlNifTerm, b: ErlNifTerm| unsafe { sys::enif_compare(a, b) }.cmp(&0);
        let mut members: Vec<_> = keys.iter().copied().zip(values.iter().copied()).collect();
        members.reverse();
        members.sort_by(|a, b| compare(a.0, b.0));
        members.dedup_by(|later, kept| compare(later.0, kept.0).is_eq());
        let (keys, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let mut map = self.nil;
        // SAFETY: see the head of the file. It makes no map of equal keys, and there are none.
        unsafe {
            sys::enif_make_map_from_arrays(
                self.raw,
                keys.as_ptr(),
                values.as_ptr(),
                keys.len(),
                &mut map,
            )
        };
        map
    }
}

fn binary(env: *mut ErlNifEnv, mut term: ErlNifTerm, bytes: &[u8]) -> ErlNifTerm {
    // SAFETY: see the head of the file; the call returns room for exactly `bytes.len()` bytes, and
    // the VM ends itself where it has no memory for them.
    unsafe {
        let room = sys::enif_make_new_binary(env, bytes.len(), &mut term);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
    }
    term
}

fn atom(env: Env, atom: Atom) -> ErlNifTerm {
    atom.encode(env).as_c_arg()
}

impl Sink for TermSink<'_, '_> {
    type Term = ErlNifTerm;

    #[inline(always)]
    fn null(&mut self) -> ErlNifTerm {
        self.nil
    }

    fn bool(&mut self, value: bool) -> ErlNifTerm {
        value.encode(self.env).as_c_arg()
    }

    #[inline]
    fn int(&mut self, value: i64) -> ErlNifTerm {
        self.int64(value)
    }

    fn big_int(&mut self, digits: &str) -> ErlNifTerm {
        match digits.parse::<BigInt>() {
            Ok(value) => value.encode(self.env).as_c_arg(),
            // Digits are all that the parser lets through; a string loses nothing.
            Err(_) => self.binary(digits.as_bytes()),
        }
    }

    fn float(&mut self, value: f64) -> ErlNifTerm {
        // SAFETY: see the head of the file; the value is finite, as the trait says.
        unsafe { sys::enif_make_double(self.raw, value) }
    }

    // Always a copy: a small string that somebody keeps must not keep the chunk that it came in.
    #[inline]
    fn string(&mut self, text: &[u8]) -> ErlNifTerm {
        self.binary(text)
    }

    fn key(&mut self, text: &[u8]) -> ErlNifTerm {
        if text.len() > CACHED_KEY {
            return self.binary(text);
        }
        if self.keys.is_empty() {
            self.keys.resize(CACHE, None);
        }
        let ends = Ends::of(text);
        let slot = ends.hash() as usize % CACHE;
        match &self.keys[slot] {
            Some(cached)
                if cached.ends == ends
                    && (ends.are_all() || cached.text[..text.len()] == *text) =>
            {
                cached.term
            }
            _ => {
                let term = self.binary(text);
                let mut fresh = CachedKey { ends, text: [0; CACHED_KEY], term };
                fresh.text[..text.len()].copy_from_slice(text);
                self.keys[slot] = Some(fresh);
                term
            }
        }
    }

    fn list(&mut self, items: &[ErlNifTerm]) -> ErlNifTerm {
        // SAFETY: see the head of the file.
        unsafe { sys::enif_make_list_from_array(self.raw, items.as_ptr(), items.len() as u32) }
    }

    fn map(&mut self, keys: &[ErlNifTerm], values: &[ErlNifTerm]) -> ErlNifTerm {
        let length = keys.len().min(values.len());
        // SAFETY: it only asks for the kind of this thread.
        if length > SMALL_MAP && unsafe { sys::enif_thread_type() } == NO_SCHEDULER {
            return self.map_by_keys(keys, values);
        }
        let mut map = self.nil;
        // SAFETY: see the head of the file.
        let unique = unsafe {
            sys::enif_make_map_from_arrays(
                self.raw,
                keys.as_ptr(),
                values.as_ptr(),
                length,
                &mut map,
            )
        };
        if unique == 0 { self.map_of_repeated(keys, values) } else { map }
    }

    #[inline]
    fn name(&mut self, name: u32) -> ErlNifTerm {
        atom(self.env, self.names[name as usize])
    }

    fn variant(&mut self, tag: u32, fields: &[ErlNifTerm], extra: ErlNifTerm) -> ErlNifTerm {
        let tag = self.int64(i64::from(tag));
        self.items.clear();
        self.items.push(tag);
        self.items.extend_from_slice(fields);
        self.items.push(extra);
        self.tuple(&self.items)
    }

    #[inline]
    fn line(&mut self, value: ErlNifTerm, known: bool, lossy: bool) -> ErlNifTerm {
        let value = match known {
            true => value,
            false => self.tuple(&[atom(self.env, atoms::unknown()), value]),
        };
        match lossy {
            false => value,
            true => self.tuple(&[atom(self.env, atoms::lossy()), value]),
        }
    }

    fn rejected(&mut self, line: &[u8], fault: Fault, at: usize) -> ErlNifTerm {
        let tag = atom(self.env, atoms::rejected());
        let fault = atom(self.env, faults::atom(fault));
        let at = self.int64(at as i64);
        self.tuple(&[tag, self.binary(line), fault, at])
    }

    fn oversized(&mut self, size: u64) -> ErlNifTerm {
        let tag = atom(self.env, atoms::oversized());
        self.tuple(&[tag, size.encode(self.env).as_c_arg()])
    }

    fn overfull(&mut self, limit: u64, size: u64) -> ErlNifTerm {
        let tag = atom(self.env, atoms::overfull());
        self.tuple(&[tag, limit.encode(self.env).as_c_arg(), size.encode(self.env).as_c_arg()])
    }
}

// Terms stay where they are during a call, and so do the bytes of a binary.
impl Tree for TermSink<'_, '_> {
    fn members(&self, value: ErlNifTerm, out: &mut Vec<(ErlNifTerm, ErlNifTerm)>) -> bool {
        let mut room = MaybeUninit::uninit();
        // SAFETY: see the head of the file. The iterator is initialised if the first call succeeds,
        // and destroyed before `room` goes; key and value are set if a pair was found.
        unsafe {
            let first = sys::ErlNifMapIteratorEntry::ERL_NIF_MAP_ITERATOR_HEAD;
            if sys::enif_map_iterator_create(self.raw, value, room.as_mut_ptr(), first) == 0 {
                return false;
            }
            let mut iterator = room.assume_init();
            let (mut key, mut value) = (self.nil, self.nil);
            let pair = sys::enif_map_iterator_get_pair;
            while pair(self.raw, &mut iterator, &mut key, &mut value) != 0 {
                out.push((key, value));
                sys::enif_map_iterator_next(self.raw, &mut iterator);
            }
            sys::enif_map_iterator_destroy(self.raw, &mut iterator);
        }
        true
    }

    fn elements(&self, value: ErlNifTerm, out: &mut Vec<ErlNifTerm>) -> bool {
        let before = out.len();
        let (mut list, mut head) = (value, self.nil);
        // SAFETY: see the head of the file; head and tail are set if the list has another cell.
        while unsafe { sys::enif_get_list_cell(self.raw, list, &mut head, &mut list) } != 0 {
            out.push(head);
        }
        // SAFETY: see the head of the file.
        let proper = unsafe { sys::enif_is_empty_list(self.raw, list) } != 0;
        if !proper {
            out.truncate(before);
        }
        proper
    }

    fn text(&self, value: ErlNifTerm) -> Option<&[u8]> {
        let mut binary = MaybeUninit::uninit();
        // SAFETY: see the head of the file. The bytes are the VM's; they are valid until the call
        // ends, and the slice does not outlive this sink.
        unsafe {
            if sys::enif_inspect_binary(self.raw, value, binary.as_mut_ptr()) == 0 {
                return None;
            }
            let binary = binary.assume_init();
            if binary.size == 0 {
                return Some(&[]);
            }
            Some(std::slice::from_raw_parts(binary.data, binary.size))
        }
    }

    fn is_null(&self, value: ErlNifTerm) -> bool {
        value == self.nil
    }

    fn is_integer(&self, value: ErlNifTerm) -> bool {
        self.term(value).is_integer()
    }

    fn integer(&self, value: ErlNifTerm) -> Option<i64> {
        self.term(value).decode().ok()
    }
}
