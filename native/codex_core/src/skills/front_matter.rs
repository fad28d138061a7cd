//! The YAML between two lines of `---` at the top of a skill.

use serde::Deserialize;

use super::{Reason, single_line};

const MAX_NAME: usize = 64;

/// The members that a skill uses.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub description: String,
    pub short_description: Option<String>,
}

// Error texts contain the names of these types.
#[derive(Deserialize)]
struct SkillFrontmatter {
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    metadata: SkillFrontmatterMetadata,
}

#[derive(Default, Deserialize)]
struct SkillFrontmatterMetadata {
    #[serde(rename = "short-description")]
    short_description: Option<String>,
}

/// Reads the front matter of a file. `default` is the name if there is none.
pub fn read(text: &str, default: impl FnOnce() -> String) -> Result<Header, (Reason, String)> {
    let yaml = between(text).ok_or_else(|| {
        (Reason::MissingFrontMatter, "missing YAML frontmatter delimited by ---".to_owned())
    })?;
    let parsed =
        parse(&yaml).map_err(|why| (Reason::InvalidYaml, format!("invalid YAML: {why}")))?;
    let name = line(parsed.name).unwrap_or_else(default);
    if name.chars().count() > MAX_NAME {
        let message = format!("invalid name: exceeds maximum length of {MAX_NAME} characters");
        return Err((Reason::InvalidField, message));
    }
    let description = line(parsed.description)
        .ok_or_else(|| (Reason::MissingField, "missing field `description`".to_owned()))?;
    Ok(Header { name, description, short_description: line(parsed.metadata.short_description) })
}

fn line(text: Option<String>) -> Option<String> {
    text.map(|text| single_line(&text)).filter(|text| !text.is_empty())
}

fn between(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "---" {
        return None;
    }
    let mut inside = Vec::new();
    for line in lines {
        if line.trim() == "---" {
            return (!inside.is_empty()).then(|| inside.join("\n"));
        }
        inside.push(line);
    }
    None
}

fn parse(yaml: &str) -> Result<SkillFrontmatter, serde_yaml::Error> {
    serde_yaml::from_str(yaml)
        .or_else(|error| serde_yaml::from_str(&repaired(yaml)).map_err(|_| error))
}

/// Puts quotes around plain values that YAML cannot read: prose with a colon, such as
/// `description: Use when: needed`, and open brackets.
fn repaired(yaml: &str) -> String {
    let mut block: Option<usize> = None;
    let lines = yaml.lines().map(|line| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        match block {
            Some(outer) if line.trim().is_empty() || indent > outer => return line.to_owned(),
            _ => block = None,
        }
        let Some((key, rest)) = line.split_once(':') else { return line.to_owned() };
        let value = rest.trim_start();
        if key.trim().is_empty() || value.len() == rest.len() && !rest.is_empty() {
            return line.to_owned();
        }
        let (value, comment) = value.split_at(comment_at(value));
        if value.starts_with(['|', '>']) {
            block = Some(indent);
        }
        if !needs_quotes(value) {
            return line.to_owned();
        }
        format!("{key}: '{}'{comment}", value.replace('\'', "''"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the end of a value before its comment and the spaces between them.
fn comment_at(value: &str) -> usize {
    let mut before = ' ';
    for (index, char) in value.char_indices() {
        if char == '#' && before.is_whitespace() {
            return value[..index].trim_end().len();
        }
        before = char;
    }
    value.trim_end().len()
}

fn needs_quotes(value: &str) -> bool {
    match value.chars().next() {
        None | Some('|' | '>' | '\'' | '"') => false,
        Some(first) => {
            let colon = value
                .match_indices(':')
                .any(|(at, _)| value[at + 1..].starts_with(char::is_whitespace));
            colon
                || matches!(first, '[' | '{' | '@' | '`')
                    && serde_yaml::from_str::<serde_yaml::Value>(value).is_err()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(value: &str) -> Result<String, Reason> {
        read(&format!("---\ndescription: {value}\n---\n"), || "x".to_owned())
            .map(|header| header.description)
            .map_err(|(reason, _)| reason)
    }

    #[test]
    fn values_that_yaml_cannot_read_are_texts() {
        for (value, expected) in [
            ("Use when: needed", "Use when: needed"),
            ("Use when: it's new # not now", "Use when: it's new"),
            ("[a", "[a"),
            (": :", ": :"),
            ("`x` and more", "`x` and more"),
            ("|\n  a: b\n  c", "a: b c"),
            ("\"a: b\"", "a: b"),
        ] {
            assert_eq!(described(value).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(described("\"open"), Err(Reason::InvalidYaml));
        assert_eq!(described(""), Err(Reason::MissingField));
    }

    #[test]
    fn the_delimiters_are_lines() {
        for (text, expected) in [
            ("---\nname: a\n---", Some("name: a")),
            ("---\r\nname: a\r\n---\r\n", Some("name: a")),
            (" --- \nname: a\n --- \nbody", Some("name: a")),
            ("\u{feff}---\nname: a\n---", None),
            ("\n---\nname: a\n---", None),
            ("---\nname: a", None),
            ("---\n---", None),
            ("", None),
        ] {
            assert_eq!(between(text).as_deref(), expected, "{text:?}");
        }
    }
}
