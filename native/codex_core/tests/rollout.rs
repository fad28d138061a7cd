//! Rollouts of any bytes: no panic, no line lost, and the same sum wherever the file is cut.
#![allow(clippy::unwrap_used)]

use std::io::Read;

use codex_core::rollout::{Line, Lines, Scanner, Seen, Summary, Texts};
use proptest::prelude::*;

const ID: &str = "01a21974-9a2c-7ee2-99c0-c701c4970c46";

/// Lines of all kinds that carry facts, in the forms of several versions.
const LINES: &[&str] = &[
    r#"{"id":"01a21974-9a2c-7ee2-99c0-c701c4970c46","timestamp":"T","git":{"branch":"main"}}"#,
    r#"{"record_type":"state"}"#,
    r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}"#,
    r#"{"timestamp":"T","type":"session_meta","payload":{"id":"01a21974-9a2c-7ee2-99c0-c701c4970c46","cwd":"/w"}}"#,
    r#"{"timestamp":"T","type":"session_meta","payload":{"id":"01a21970-9a2c-7ee2-99c0-c701c4970c46"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"task_started","turn_id":"01a21974-9a9c-7051-83b1-2b271befe9b2"}}"#,
    r#"{"timestamp":"T","type":"turn_context","payload":{"turn_id":"01a21974-9a9c-7051-83b1-2b271befe9b2","model":"m","cwd":"/w"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"user_message","message":"hi","images":["x"]}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"agent_message","message":"yes"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"token_count","info":null}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":9},"last_token_usage":{"input_tokens":4}},"rate_limits":{"primary":{"used_percent":1.5}}}}"#,
    r#"{"timestamp":"T","ordinal":5,"type":"token_usage_record","payload":{"thread_id":"01a21974-9a2c-7ee2-99c0-c701c4970c46","turn_id":"01a21974-9a9c-7051-83b1-2b271befe9b2","usage":{"input_tokens":7}}}"#,
    r#"{"timestamp":"T","ordinal":6,"type":"event_msg","payload":{"type":"item_completed","turn_id":"t","item":{"type":"UserMessage","content":[{"type":"local_image"}]}}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"entered_review_mode"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"exited_review_mode"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"task_complete","turn_id":"u","last_agent_message":null}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"turn_aborted"}}"#,
    r#"{"timestamp":"T","type":"event_msg","payload":{"type":"thread_rolled_back","num_turns":4294967295}}"#,
    r#"{"timestamp":"T","type":"compacted","payload":{"message":""}}"#,
];

struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fn scan(bytes: &[u8], piece: usize, texts: Texts) -> (Summary, u64) {
    let mut lines = Lines::new(Pieces(bytes, piece), 1 << 20);
    let mut scanner = Scanner::new(ID, texts);
    let mut seen = 0;
    while let Some(line) = lines.next().unwrap() {
        if scanner.read(line) != Seen::Blank {
            seen += 1;
        }
    }
    (scanner.finish(), seen)
}

/// A file of such lines, some of them damaged.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<u16>(), any::<u8>(), 0..8u8);
    prop::collection::vec((0..LINES.len(), damage), 0..24).prop_map(|lines| {
        let mut bytes = Vec::new();
        for (line, (at, byte, kind)) in lines {
            let mut line = LINES[line].as_bytes().to_vec();
            let at = usize::from(at) % line.len();
            match kind {
                0 => line[at] = byte,
                1 => line.truncate(at),
                _ => {}
            }
            bytes.extend_from_slice(&line);
            // A writer that was killed leaves no newline.
            if kind != 1 || byte > 127 {
                bytes.push(b'\n');
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let (summary, seen) = scan(&bytes, 100, Texts::Turns);
        prop_assert_eq!(summary.lines, seen);
        prop_assert!(summary.bad_lines <= summary.lines);
    }

    #[test]
    fn damaged_files_have_the_same_sum_however_they_are_read(bytes in file(), piece in 1..200usize) {
        let (whole, seen) = scan(&bytes, usize::MAX, Texts::Turns);
        let (pieces, _) = scan(&bytes, piece, Texts::Turns);
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        prop_assert_eq!(whole.lines, seen);
        prop_assert!(whole.salvaged_lines <= whole.bad_lines && whole.bad_lines <= whole.lines);
        let (titles, _) = scan(&bytes, piece, Texts::Title);
        prop_assert_eq!(titles.audit, whole.audit);
        prop_assert_eq!(titles.title, whole.title);
        // Lines that only turns need are not parsed.
        prop_assert!(titles.bad_lines <= whole.bad_lines);
    }
}

#[test]
fn whole_lines_are_not_bad() {
    for line in LINES {
        let mut scanner = Scanner::new(ID, Texts::Turns);
        scanner.read(Line::Whole(line.as_bytes(), 0));
        scanner.read(Line::Unended(line.as_bytes(), 9));
        assert_eq!(scanner.finish().bad_lines, 0, "{line}");
    }
}
