//! The beginning of a line, read without a parse of the line.

use memchr::memchr2;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The type of a line, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The time of the line as text (ISO 8601); empty for a line without an envelope.
    pub time: &'a str,
    /// The number of the line in its thread.
    pub ordinal: Option<u64>,
    /// The type of the line.
    pub kind: &'a str,
    /// The type of its payload, if the payload has one.
    pub payload_kind: &'a str,
    /// The line has an envelope: its facts are members of `payload`.
    pub envelope: bool,
}

impl<'a> Head<'a> {
    /// Reads the head of a valid line. Lines as the CLI writes them are read by their first bytes;
    /// lines with another order of members are parsed.
    pub fn read(line: &'a str) -> Option<Head<'a>> {
        Head::quick(line).or_else(|| Head::parsed(line))
    }

    fn quick(line: &'a str) -> Option<Head<'a>> {
        let rest = line.strip_prefix(r#"{"timestamp":""#)?;
        let (time, rest) = word(rest)?;
        let (ordinal, rest) = match rest.strip_prefix(r#","ordinal":"#) {
            Some(rest) => {
                let count = rest.bytes().take(19).take_while(u8::is_ascii_digit).count();
                let (digits, rest) = rest.split_at(count);
                (digits.parse().ok(), rest)
            }
            None => (None, rest),
        };
        let (kind, rest) = word(rest.strip_prefix(r#","type":""#)?)?;
        let rest = rest.strip_prefix(r#","payload":{"#)?;
        let payload_kind = match rest.strip_prefix(r#""type":""#) {
            Some(rest) => word(rest)?.0,
            // A payload that names its type later is parsed.
            None if kind == "event_msg" || kind == "response_item" => return None,
            None => "",
        };
        Some(Head { time, ordinal, kind, payload_kind, envelope: true })
    }

    fn parsed(line: &'a str) -> Option<Head<'a>> {
        let line: Envelope<'a> = serde_json::from_str(line).ok()?;
        let payload_kind = line.payload.and_then(|payload| {
            let typed: Typed<'a> = serde_json::from_str(payload.get()).ok()?;
            typed.kind
        });
        Some(Head {
            time: line.timestamp.unwrap_or(""),
            ordinal: line.ordinal,
            kind: line.kind.or(line.record_type).unwrap_or(""),
            payload_kind: payload_kind.unwrap_or(""),
            envelope: line.payload.is_some(),
        })
    }
}

/// A short string without escapes, up to its quote.
fn word(text: &str) -> Option<(&str, &str)> {
    let length = memchr2(b'"', b'\\', &text.as_bytes()[..text.len().min(64)])?;
    let (word, rest) = text.split_at(length);
    Some((word, rest.strip_prefix('"')?))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a str>,
    ordinal: Option<u64>,
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a str>,
    #[serde(borrow, default)]
    record_type: Option<&'a str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::Head;

    #[test]
    fn both_ways_find_the_same() {
        for line in [
            r#"{"timestamp":"T","ordinal":12,"type":"event_msg","payload":{"type":"a","b":1}}"#,
            r#"{"timestamp":"T","type":"turn_context","payload":{"model":"m","b":{"type":"x"}}}"#,
            r#"{"timestamp":"T","type":"event_msg","payload":{"type":"a"},"metadata":{}}"#,
        ] {
            let quick = Head::quick(line).expect("the usual order");
            assert_eq!(Some(quick), Head::parsed(line), "{line}");
        }
    }

    #[test]
    fn other_orders_are_parsed() {
        let line = r#"{"type":"event_msg","payload":{"a":1,"type":"x"},"timestamp":"T"}"#;
        let head = Head::read(line).expect("an object");
        assert_eq!((head.time, head.kind, head.payload_kind), ("T", "event_msg", "x"));
        let line = r#"{"timestamp":"T","type":"event_msg","payload":{"a":1,"type":"x"}}"#;
        assert_eq!(Head::read(line).expect("an object").payload_kind, "x");
        let bare = Head::read(r#"{"record_type":"state"}"#).expect("an object");
        assert_eq!((bare.kind, bare.envelope), ("state", false));
        assert_eq!(Head::read("5"), None);
    }
}
