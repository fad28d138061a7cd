//! Finding the end of a piece of a JSON string, many bytes at a time.

use wide::u8x16;

const STEP: usize = 16;

/// How many bytes [`special_mask`] looks at. Text has an escape every line or so: most pieces end
/// in the first block, so that the processor guesses right about going on.
pub(crate) const BLOCK: usize = 4 * STEP;

/// Bit i is set where `block[i]` ends a run of plain string bytes: a quote, a backslash or a
/// control character.
#[inline(always)]
pub(crate) fn special_mask(block: &[u8; BLOCK]) -> u64 {
    let (steps, _) = block.as_chunks::<STEP>();
    let part = |i: usize| u64::from(step_mask(&steps[i])) << (STEP * i);
    part(0) | part(1) | part(2) | part(3)
}

#[inline(always)]
fn step_mask(step: &[u8; STEP]) -> u32 {
    let bytes = u8x16::from(*step);
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let backslash = bytes.simd_eq(u8x16::splat(b'\\'));
    let control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (quote | backslash | control).to_bitmask()
}

/// The first position at or after `from` whose byte ends a run of plain string bytes, or
/// `bytes.len()`.
#[inline(always)]
pub(crate) fn find_special(bytes: &[u8], from: usize) -> usize {
    // Keys and most short values end here.
    if let Some(step) = bytes.get(from..).and_then(|rest| rest.first_chunk::<STEP>()) {
        let mask = step_mask(step);
        if mask != 0 {
            return from + mask.trailing_zeros() as usize;
        }
    }
    let mut at = from;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let mask = special_mask(block);
        if mask != 0 {
            return at + mask.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    while at < bytes.len() && !is_special(bytes[at]) {
        at += 1;
    }
    at
}

#[inline(always)]
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0usize..200) {
            let from = from.min(bytes.len());
            let plain = (from..bytes.len()).find(|&i| is_special(bytes[i])).unwrap_or(bytes.len());
            prop_assert_eq!(find_special(&bytes, from), plain);
        }
    }
}
