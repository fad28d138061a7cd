//! A small read-only map from byte strings, for the few hundred names that a schema knows.

/// The length and both ends of a name. Up to 16 bytes that is all of it: comparing takes no call
/// then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    head: u64,
    tail: u64,
    length: usize,
}

impl Ends {
    /// The ends of `name`.
    #[inline(always)]
    pub fn of(name: &[u8]) -> Ends {
        let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(head), Some(tail)) => {
                    (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
                }
                _ => match name {
                    [] => (0, 0),
                    [.., last] => (
                        u64::from(name[0]) | u64::from(name[name.len() / 2]) << 8,
                        u64::from(*last),
                    ),
                },
            },
        };
        Ends { head, tail, length: name.len() }
    }

    /// Whether two names with these same ends are the same without another look.
    #[inline(always)]
    pub fn are_all(self) -> bool {
        self.length <= 16
    }

    /// Not for untrusted tables: names with the same ends collide, which costs one more comparison.
    #[inline(always)]
    pub fn hash(self) -> u64 {
        let mixed = (self.head ^ self.tail.rotate_left(29) ^ (self.length as u64) << 56)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    }
}

/// Names and their values, looked up by a hash of their ends.
#[derive(Debug, Clone)]
pub(crate) struct KeyTable<V> {
    buckets: Vec<Option<Entry<V>>>,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    ends: Ends,
    value: V,
    name: Box<[u8]>,
}

impl<V> Entry<V> {
    #[inline(always)]
    fn is(&self, ends: Ends, name: &[u8]) -> bool {
        self.ends == ends && (ends.are_all() || *self.name == *name)
    }
}

impl<V> Default for KeyTable<V> {
    fn default() -> Self {
        KeyTable::new([])
    }
}

impl<V> KeyTable<V> {
    /// A later entry of the same name takes the place of an earlier one.
    pub(crate) fn new(entries: impl IntoIterator<Item = (String, V)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        // At most a quarter full, so that a miss ends at the first bucket nearly always.
        let size = (entries.len() * 4).max(1).next_power_of_two();
        let mut buckets: Vec<Option<Entry<V>>> = (0..size).map(|_| None).collect();
        for (name, value) in entries {
            let name = name.into_bytes();
            let ends = Ends::of(&name);
            let mut at = ends.hash() as usize & (size - 1);
            while buckets[at].as_ref().is_some_and(|taken| !taken.is(ends, &name)) {
                at = (at + 1) & (size - 1);
            }
            buckets[at] = Some(Entry { ends, value, name: name.into() });
        }
        KeyTable { buckets }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.buckets.iter().flatten().map(|entry| &entry.value)
    }

    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<&V> {
        let ends = Ends::of(name);
        let mask = self.buckets.len() - 1;
        let mut at = ends.hash() as usize & mask;
        while let Some(entry) = &self.buckets[at] {
            if entry.is(ends, name) {
                return Some(&entry.value);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let names = [
            "",
            "a",
            "ab",
            "abc",
            "id",
            "type",
            "thread_id",
            "turn_id",
            "item.completed",
            "item.compleXed",
            "8 bytes.8 bytes.",
            "8 bytes. same 8 bytes.",
            "8 bytes. SAME 8 bytes.",
        ];
        let table = KeyTable::new(names.iter().enumerate().map(|(i, n)| (n.to_string(), i)));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(table.get(name.as_bytes()), Some(&i), "{name}");
        }
        assert_eq!(table.get(b"item.comple\xffed"), None);
        assert_eq!(KeyTable::<u8>::default().get(b"a"), None);
        assert_eq!(KeyTable::<u8>::new([]).get(b"a"), None);
    }
}
