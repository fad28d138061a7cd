//! The newest bytes of a stream, up to a limit; the oldest are dropped and counted.

use std::collections::VecDeque;

/// A bounded tail of stderr.
pub struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    dropped: u64,
}

impl Tail {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Tail { bytes: VecDeque::new(), limit, dropped: 0 }
    }

    /// Appends, dropping the oldest bytes that fit neither the limit nor the `free` bytes that are
    /// taken at once.
    pub fn push(&mut self, bytes: &[u8], free: usize) {
        let limit = self.limit.saturating_add(free);
        let keep = &bytes[bytes.len().saturating_sub(limit)..];
        let over = (self.bytes.len() + keep.len()).saturating_sub(limit);
        self.bytes.drain(..over);
        self.bytes.extend(keep);
        self.dropped += (over + bytes.len() - keep.len()) as u64;
    }

    /// Removes and shows up to `max` of the oldest bytes, as two slices.
    pub fn take<R>(&mut self, max: usize, f: impl FnOnce(&[u8], &[u8]) -> R) -> R {
        let n = max.min(self.bytes.len());
        let (a, b) = self.bytes.as_slices();
        let a = &a[..n.min(a.len())];
        let b = &b[..n - a.len()];
        let r = f(a, b);
        self.bytes.drain(..n);
        r
    }

    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(t: &mut Tail, max: usize) -> Vec<u8> {
        t.take(max, |a, b| [a, b].concat())
    }

    #[test]
    fn the_newest_bytes_stay_and_the_rest_is_counted() {
        // The oracle keeps everything and cuts at the end.
        for limit in [0usize, 1, 7, 64] {
            let (mut tail, mut whole) = (Tail::new(limit), Vec::new());
            for i in 0u8..100 {
                let bytes = vec![i; usize::from(i) % 13];
                tail.push(&bytes, 0);
                whole.extend(bytes);
            }
            let kept = whole.len().min(limit);
            assert_eq!(tail.len(), kept);
            assert_eq!(tail.dropped(), (whole.len() - kept) as u64);
            assert_eq!(all(&mut tail, usize::MAX), whole[whole.len() - kept..]);
        }
    }

    #[test]
    fn taken_bytes_are_not_dropped_bytes() {
        let mut tail = Tail::new(4);
        tail.push(b"abcd", 0);
        assert_eq!(all(&mut tail, 3), b"abc");
        tail.push(b"efg", 0);
        assert_eq!(tail.dropped(), 0);
        assert_eq!(all(&mut tail, 9), b"defg");
    }

    #[test]
    fn bytes_that_are_taken_at_once_need_no_room() {
        let mut tail = Tail::new(2);
        tail.push(b"abcdef", 3);
        assert_eq!(tail.dropped(), 1);
        assert_eq!(all(&mut tail, 3), b"bcd");
        assert_eq!(all(&mut tail, 9), b"ef");
    }
}
