//! The members of a JSON object, each value as it is written. The CLI skips a value that it does
//! not know, whatever number or text it holds, and refuses an object with a member twice that it
//! knows; so does this.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::failure::LoginError;

/// Names and values, in the order of the text.
#[derive(Clone, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object, or says where the text stops being one. No value stands in the message.
    pub fn parse(text: &[u8]) -> Result<Self, LoginError> {
        let text =
            std::str::from_utf8(text).map_err(|_| LoginError("it is not UTF-8".to_owned()))?;
        serde_json::from_str(text).map_err(|error| {
            LoginError(match error.classify() {
                Category::Data => "it is not a JSON object".to_owned(),
                _ => format!("it is not JSON (line {}, column {})", error.line(), error.column()),
            })
        })
    }

    /// Refuses a name that stands more than once.
    pub fn once(&self, names: &[&str]) -> Result<(), LoginError> {
        match names
            .iter()
            .find(|name| self.0.iter().filter(|(other, _)| other == **name).count() > 1)
        {
            Some(name) => Err(LoginError(format!("{name} stands there twice"))),
            None => Ok(()),
        }
    }

    /// The value as it is written, unless it is null.
    pub fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(other, _)| other == name)
            .map(|(_, value)| &**value)
            .filter(|raw| raw.get() != "null")
    }

    /// Whether there is such a member, null or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// A value of this type; `Ok(None)` if it is missing or null.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, LoginError> {
        let read = |raw: &RawValue| serde_json::from_str(raw.get());
        self.raw(name)
            .map(read)
            .transpose()
            .map_err(|_| LoginError(format!("{name} is not {expected}")))
    }

    /// The same for a string.
    pub fn text(&self, name: &str) -> Result<Option<String>, LoginError> {
        self.get(name, "a string")
    }

    /// An object as a value.
    pub fn object(&self, name: &str) -> Result<Option<Members>, LoginError> {
        self.get(name, "an object")
    }

    /// Adds a member at the end.
    pub fn push(&mut self, name: &str, value: Box<RawValue>) {
        self.0.push((name.to_owned(), value));
    }

    /// Adds a string at the end.
    pub fn push_text(&mut self, name: &str, value: &str) {
        // A string has a form in JSON.
        if let Ok(value) = serde_json::value::to_raw_value(value) {
            self.push(name, value);
        }
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// Removes members, by name and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &RawValue) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// Returns whether the object is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object without a space, `first` before all others.
    pub fn compact(&self, first: &[&str]) -> String {
        let known =
            first.iter().flat_map(|name| self.0.iter().filter(move |(other, _)| other == name));
        let others = self.0.iter().filter(|(name, _)| !first.contains(&name.as_str()));
        let members = known.chain(others).map(|(name, value)| {
            // A string has a form in JSON.
            format!(
                "{}:{}",
                serde_json::to_string(name).unwrap_or_default(),
                layout(value.get(), false)
            )
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The object with a line for each member.
    pub fn pretty(&self, first: &[&str]) -> String {
        layout(&self.compact(first), true)
    }

    /// The same as a value.
    pub fn to_raw(&self) -> Result<Box<RawValue>, LoginError> {
        RawValue::from_string(self.compact(&[]))
            .map_err(|_| LoginError("it is not a JSON object".to_owned()))
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        self.compact(&[]) == other.compact(&[])
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(All)
    }
}

struct All;

impl<'de> Visitor<'de> for All {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(entry) = map.next_entry()? {
            members.push(entry);
        }
        Ok(Members(members))
    }
}

/// JSON with no space outside of strings, or with a line for each member and element.
fn layout(json: &str, pretty: bool) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut depth, mut string, mut escape, mut opened) = (0_usize, false, false, false);
    let line = |out: &mut String, depth: usize| {
        if pretty {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    for sign in json.chars() {
        if string {
            out.push(sign);
            (string, escape) = (escape || sign != '"', !escape && sign == '\\');
            continue;
        }
        if sign.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(sign, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if opened != closes && (opened || closes) {
            line(&mut out, depth);
        }
        opened = matches!(sign, '{' | '[');
        out.push(sign);
        match sign {
            '"' => string = true,
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' if pretty => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_laid_out_as_serde_json_does() {
        for text in [
            r#"{}"#,
            r#"{"a":[]}"#,
            r#"{"a":[1,{"b":"x, \"{ \\"}],"c":{"d":null}}"#,
            r#"{"a":[[],{}]}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let members = Members::parse(text.as_bytes()).unwrap();
            assert_eq!(members.pretty(&[]), serde_json::to_string_pretty(&value).unwrap());
            assert_eq!(Members::parse(members.pretty(&[]).as_bytes()).unwrap().compact(&[]), text);
        }
    }

    #[test]
    fn what_is_not_known_stays_as_it_is_written() {
        let text = r#"{"a":1e400,"a":[ 123456789012345678901234567890 ],"b":"\ud800"}"#;
        let members = Members::parse(text.as_bytes()).unwrap();
        assert_eq!(
            members.compact(&[]),
            r#"{"a":1e400,"a":[123456789012345678901234567890],"b":"\ud800"}"#
        );
        assert!(members.once(&["b"]).is_ok());
        assert_eq!(members.once(&["a"]).unwrap_err().to_string(), "a stands there twice");
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(Members::parse(deep.as_bytes()).unwrap().compact(&[]), deep);
    }
}
