//! Sums as bytes, for the index. What cannot be read back is nothing, never a panic.

use super::payload::{HistoryBase, Json, Meta};
use super::summary::{Audit, Cell, Summary, Tally};
use super::tokens::Tokens;

/// Writes numbers of any size in few bytes, and texts after their length.
#[derive(Debug, Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn optional(&mut self, number: Option<u64>) {
        self.number(number.is_some().into());
        number.into_iter().for_each(|number| self.number(number));
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.is_some().into());
        text.into_iter().for_each(|text| self.bytes(text.as_bytes()));
    }

    fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.bytes(text.as_bytes()));
    }

    fn tokens(&mut self, tokens: &Tokens) {
        tokens.values().into_iter().for_each(|number| self.number(number));
    }
}

/// Reads what a [`Writer`] wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn string(&mut self) -> Option<String> {
        simdutf8::basic::from_utf8(self.bytes()?).ok().map(str::to_string)
    }

    fn optional(&mut self) -> Option<Option<u64>> {
        match self.number()? {
            0 => Some(None),
            _ => self.number().map(Some),
        }
    }

    fn text(&mut self) -> Option<Option<String>> {
        match self.number()? {
            0 => Some(None),
            _ => self.string().map(Some),
        }
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        (0..self.number()?).map(|_| self.string()).collect()
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn tokens(&mut self) -> Option<Tokens> {
        Some(Tokens {
            input: self.number()?,
            cached: self.number()?,
            cache_write: self.number()?,
            output: self.number()?,
            reasoning: self.number()?,
        })
    }

    fn tally(&mut self) -> Option<Tally> {
        Some(Tally { calls: self.number()?, tokens: self.tokens()? })
    }
}

/// Writes a sum without its turns; all their tokens count as those before the first turn.
pub(super) fn encode(out: &mut Writer, summary: &Summary) {
    let meta = &summary.meta;
    for text in [&meta.id, &meta.timestamp, &meta.cwd, &meta.originator, &meta.cli_version] {
        out.text(text.as_deref());
    }
    for text in [&meta.model_provider, &meta.forked_from_id, &meta.parent_thread_id] {
        out.text(text.as_deref());
    }
    for json in [&meta.source, &meta.git] {
        out.text(json.as_ref().map(|json| &*json.0));
    }
    out.text(meta.history_base.as_ref().map(|base| base.thread_id.as_str()));
    if let Some(base) = &meta.history_base {
        out.number(base.end_ordinal_exclusive);
        out.number(base.end_byte_offset);
    }
    for text in [&summary.title, &summary.ended, &summary.rate_limits] {
        out.text(text.as_deref());
    }
    out.texts(&summary.models);
    out.texts(&summary.cwds);
    let Summary { lines, bad_lines, salvaged_lines, long_lines, .. } = *summary;
    let small = [summary.generation.into(), summary.images, summary.compactions];
    small.into_iter().for_each(|number| out.number(number.into()));
    [lines, bad_lines, salvaged_lines, long_lines].into_iter().for_each(|count| out.number(count));
    out.optional(summary.first_bad);
    let spent = summary.spent();
    out.number(spent.len() as u64);
    for cell in &spent {
        out.bytes(cell.day.as_bytes());
        out.optional(cell.model.map(u64::from));
        out.optional(cell.cwd.map(u64::from));
        out.number(cell.calls);
        out.tokens(&cell.tokens);
    }
    let Audit { counted, repeated, inherited, foreign, covered, resets } = &summary.audit;
    for tally in [counted, repeated, inherited, foreign] {
        out.number(tally.calls);
        out.tokens(&tally.tokens);
    }
    out.number(*covered);
    out.number(*resets);
}

/// Reads a sum back.
pub(super) fn decode(bytes: &[u8]) -> Option<Summary> {
    let mut from = Reader(bytes);
    let mut meta = Meta {
        id: from.text()?,
        timestamp: from.text()?,
        cwd: from.text()?,
        originator: from.text()?,
        cli_version: from.text()?,
        model_provider: from.text()?,
        forked_from_id: from.text()?,
        parent_thread_id: from.text()?,
        source: from.text()?.map(|text| Json(text.into())),
        git: from.text()?.map(|text| Json(text.into())),
        ..Meta::default()
    };
    if let Some(thread_id) = from.text()? {
        let (end_ordinal_exclusive, end_byte_offset) = (from.number()?, from.number()?);
        meta.history_base = Some(HistoryBase { thread_id, end_ordinal_exclusive, end_byte_offset });
    }
    let mut summary = Summary {
        meta,
        title: from.text()?,
        ended: from.text()?,
        rate_limits: from.text()?,
        models: from.texts()?,
        cwds: from.texts()?,
        generation: from.number()?.try_into().ok()?,
        images: from.small()?,
        compactions: from.small()?,
        lines: from.number()?,
        bad_lines: from.number()?,
        salvaged_lines: from.number()?,
        long_lines: from.number()?,
        first_bad: from.optional()?,
        ..Summary::default()
    };
    for _ in 0..from.number()? {
        summary.before.push(Cell {
            day: from.string()?,
            model: from.optional()?.and_then(|at| at.try_into().ok()),
            cwd: from.optional()?.and_then(|at| at.try_into().ok()),
            calls: from.number()?,
            tokens: from.tokens()?,
        });
    }
    summary.audit = Audit {
        counted: from.tally()?,
        repeated: from.tally()?,
        inherited: from.tally()?,
        foreign: from.tally()?,
        covered: from.number()?,
        resets: from.number()?,
    };
    from.0.is_empty().then_some(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Scanner, Texts};

    fn summary() -> Summary {
        let lines = [
            r#"{"timestamp":"2026-11-26T20:00:00.000Z","ordinal":0,"type":"session_meta","payload":{"id":"a","timestamp":"T","cwd":"/w","source":{"subagent":"review"},"git":{"branch":"ü"},"history_base":{"thread_id":"b","end_ordinal_exclusive":5,"end_byte_offset":70000}}}"#,
            r#"{"timestamp":"2026-11-26T20:00:01.000Z","type":"turn_context","payload":{"turn_id":"t","model":"m","cwd":"/x"}}"#,
            r#"{"timestamp":"2026-11-26T20:00:01.000Z","type":"event_msg","payload":{"type":"user_message","message":"hello"}}"#,
            r#"{"timestamp":"2026-11-26T20:00:02.000Z","type":"token_usage_record","payload":{"thread_id":"a","turn_id":"t","usage":{"input_tokens":18446744073709551615,"output_tokens":3}}}"#,
            "half",
        ];
        let mut scanner = Scanner::new("a", Texts::Title);
        for line in lines {
            scanner.line(line.as_bytes(), 300);
        }
        scanner.finish()
    }

    #[test]
    fn a_sum_is_read_back() {
        let summary = summary();
        let mut out = Writer::default();
        encode(&mut out, &summary);
        let mut wanted = summary;
        wanted.before = wanted.spent();
        wanted.turns.clear();
        let read = decode(&out.0).expect("whole");
        assert_eq!(format!("{read:?}"), format!("{wanted:?}"));
        assert_eq!((read.bad_lines, read.before[0].tokens.input), (1, u64::MAX));
    }

    #[test]
    fn other_bytes_are_no_sum() {
        let mut out = Writer::default();
        encode(&mut out, &summary());
        for length in 0..out.0.len() {
            assert!(decode(&out.0[..length]).is_none(), "{length}");
        }
        assert!(decode(&[out.0, vec![0]].concat()).is_none());
        assert!(decode(&[0xff; 64]).is_none());
    }
}
