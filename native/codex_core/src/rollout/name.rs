//! The names of rollout files.

/// A name `rollout-<time>-<thread>[_<segment>].jsonl[.zst]`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The start as `YYYY-MM-DDTHH-MM-SS`, in the time zone of the writer.
    pub time: &'a str,
    /// The id of the thread.
    pub thread: &'a str,
    /// The id of the segment, for a thread that was reverted.
    pub segment: Option<&'a str>,
    /// Whether the content is compressed.
    pub compressed: bool,
}

impl<'a> Name<'a> {
    /// Takes a file name apart; nothing for a file of another kind.
    ///
    /// ```
    /// use codex_core::rollout::Name;
    ///
    /// let name = "rollout-2026-11-26T20-03-18-01a21974-8f0c-7940-b1d5-036bc64902f4.jsonl.zst";
    /// let name = Name::parse(name).expect("a rollout");
    /// assert_eq!(name.thread, "01a21974-8f0c-7940-b1d5-036bc64902f4");
    /// assert!(name.compressed);
    /// assert!(Name::parse("backup-of.jsonl").is_none());
    /// ```
    pub fn parse(name: &'a str) -> Option<Name<'a>> {
        let rest = name.strip_prefix("rollout-")?;
        let (rest, compressed) = match rest.strip_suffix(".zst") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_suffix(".jsonl")?;
        let (time, ids) = rest.split_at_checked(19)?;
        let ids = ids.strip_prefix('-')?;
        let (thread, segment) = match ids.split_once('_') {
            Some((thread, segment)) => (thread, Some(segment)),
            None => (ids, None),
        };
        let valid = is_time(time) && is_uuid(thread) && segment.is_none_or(is_uuid);
        valid.then_some(Name { time, thread, segment, compressed })
    }

    /// The id of the rollout: the last one of the name.
    pub fn rollout(&self) -> &'a str {
        self.segment.unwrap_or(self.thread)
    }
}

/// Whether `text` has digits where `pattern` has a zero, hexadecimal digits where it has an `x`,
/// and the same characters elsewhere.
fn matches(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
            other => byte == other,
        })
}

fn is_time(text: &str) -> bool {
    matches(text, "0000-00-00T00-00-00")
}

pub(crate) fn is_uuid(text: &str) -> bool {
    matches(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
}

#[cfg(test)]
mod tests {
    use super::Name;

    const ID: &str = "01a21974-8f0c-7940-b1d5-036bc64902f4";

    #[test]
    fn a_segment_is_the_rollout_of_its_thread() {
        let segment = ID.replace('b', "c");
        let text = format!("rollout-2026-11-26T20-03-18-{ID}_{segment}.jsonl");
        let name = Name::parse(&text).expect("a rollout");
        assert_eq!((name.thread, name.rollout()), (ID, segment.as_str()));
        assert_eq!(name.time, "2026-11-26T20-03-18");
    }

    #[test]
    fn other_names_are_not_rollouts() {
        for name in [
            "rollout-2026-11-26T21-00-00-not-a-uuid.jsonl".to_string(),
            ".rollout-tmp.zst".to_string(),
            "rollout-é026-11-26T20-03-18-x.jsonl".to_string(),
            format!("rollout-2026-11-26T20-03-18-{ID}.jsonl.bak"),
            format!("rollout-2026-11-26T20-03-18-{ID}_.jsonl"),
            format!("rollout-2026-11-26 20-03-18-{ID}.jsonl"),
            format!("Rollout-2026-11-26T20-03-18-{ID}.jsonl"),
        ] {
            assert!(Name::parse(&name).is_none(), "{name}");
        }
    }
}
