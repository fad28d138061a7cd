//! Tells whether a rollout holds some bytes, to leave the others unread.

use std::io::Read;
use std::path::Path;

use memchr::memmem::Finder;

use super::lines::BLOCK;
use super::{ScanError, open};

/// Whether the plain content of a rollout holds these bytes. Reads as far as it has to.
pub fn contains(path: &Path, bytes: &[u8], guard: &dyn Fn() -> bool) -> Result<bool, ScanError> {
    Ok(find(open(path)?, bytes, guard)?.unwrap_or(false))
}

fn find(
    mut source: impl Read,
    bytes: &[u8],
    guard: &dyn Fn() -> bool,
) -> Result<Option<bool>, ScanError> {
    let finder = Finder::new(bytes);
    // The bytes may stand on both sides of the end of a block.
    let overlap = bytes.len().saturating_sub(1);
    let mut buffer = vec![0; BLOCK.max(2 * bytes.len())];
    let mut kept = 0;
    loop {
        if !guard() {
            return Err(ScanError::Stopped);
        }
        let read = source.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(None);
        }
        let end = kept + read;
        if finder.find(&buffer[..end]).is_some() {
            return Ok(Some(true));
        }
        kept = overlap.min(end);
        buffer.copy_within(end - kept..end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_across_blocks_are_found() {
        for before in [0, BLOCK - 5, BLOCK - 1, BLOCK, 3 * BLOCK - 2] {
            let text = [&vec![b'x'; before][..], b"needle", &vec![b'y'; 10][..]].concat();
            let found = |bytes| find(&text[..], bytes, &|| true).expect("memory").is_some();
            assert!(found(b"needle"), "{before}");
            assert!(!found(b"needles"), "{before}");
        }
    }
}
