//! A small read-only map from byte strings, for the few hundred names that a schema knows.

/// Names and what they stand for, looked up by a hash of the length and both ends of the name.
#[derive(Debug, Clone)]
pub(crate) struct KeyTable<V> {
    buckets: Vec<Option<(Box<[u8]>, V)>>,
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
        let mut buckets: Vec<Option<(Box<[u8]>, V)>> = (0..size).map(|_| None).collect();
        for (name, value) in entries {
            let mut at = hash(name.as_bytes()) as usize & (size - 1);
            while buckets[at].as_ref().is_some_and(|(taken, _)| **taken != *name.as_bytes()) {
                at = (at + 1) & (size - 1);
            }
            buckets[at] = Some((name.into_bytes().into(), value));
        }
        KeyTable { buckets }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.buckets.iter().flatten().map(|(_, value)| value)
    }

    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<&V> {
        let mask = self.buckets.len() - 1;
        let mut at = hash(name) as usize & mask;
        while let Some((found, value)) = &self.buckets[at] {
            if **found == *name {
                return Some(value);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// Not for untrusted tables: two names that share their length and their first and last eight bytes collide, which costs
/// one more comparison.
#[inline(always)]
pub(crate) fn hash(name: &[u8]) -> u64 {
    let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(head), Some(tail)) => (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail))),
            _ => match name {
                [] => (0, 0),
                [.., last] => (u64::from(name[0]) | u64::from(name[name.len() / 2]) << 8, u64::from(*last)),
            },
        },
    };
    let mixed = (head ^ tail.rotate_left(29) ^ (name.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let names = ["", "a", "ab", "id", "type", "thread_id", "turn_id", "item.completed", "item.compleXed"];
        let table = KeyTable::new(names.iter().enumerate().map(|(i, n)| (n.to_string(), i)));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(table.get(name.as_bytes()), Some(&i), "{name}");
        }
        assert_eq!(table.get(b"item.comple\xffed"), None);
        assert_eq!(KeyTable::<u8>::default().get(b"a"), None);
        assert_eq!(KeyTable::<u8>::new([]).get(b"a"), None);
    }
}
