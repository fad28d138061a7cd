//! The file `agents/openai.yaml` of a skill: texts, icons, and the tools that it depends on.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::single_line;
use crate::files::{self, FileError};

const SHORT: usize = 64;
const LONG: usize = 1024;

/// Texts and icons for a user interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The name, at most 64 characters.
    pub display_name: Option<String>,
    /// At most 1024 characters.
    pub short_description: Option<String>,
    /// A file below `assets` of the skill.
    pub icon_small: Option<PathBuf>,
    /// A file below `assets` of the skill.
    pub icon_large: Option<PathBuf>,
    /// Never known from files.
    pub icon_small_url: Option<String>,
    /// Never known from files.
    pub icon_large_url: Option<String>,
    /// `#RRGGBB`.
    pub brand_color: Option<String>,
    /// At most 1024 characters.
    pub default_prompt: Option<String>,
}

/// The tools that a skill depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependencies {
    /// At least one tool.
    pub tools: Vec<Tool>,
}

/// A tool, such as an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Tool {
    pub r#type: String,
    pub value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileContent {
    interface: Option<RawInterface>,
    dependencies: Option<RawDependencies>,
    #[allow(dead_code)]
    policy: Option<RawPolicy>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawInterface {
    display_name: Option<String>,
    short_description: Option<String>,
    icon_small: Option<PathBuf>,
    icon_large: Option<PathBuf>,
    brand_color: Option<String>,
    default_prompt: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawDependencies {
    tools: Vec<RawTool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTool {
    r#type: Option<String>,
    value: Option<String>,
    description: Option<String>,
    transport: Option<String>,
    command: Option<String>,
    url: Option<String>,
}

// Read for its types only: a wrong type makes the whole file invalid.
#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(dead_code)]
struct RawPolicy {
    allow_implicit_invocation: Option<bool>,
    products: Vec<String>,
}

/// Reads the file, if it exists. Members that are empty or too long are left out.
pub fn read(
    file: &Path,
    folder: &Path,
) -> Result<(Option<Interface>, Option<Dependencies>), String> {
    let bytes = match files::read(file, files::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(why) if why.is_missing() => return Ok((None, None)),
        Err(FileError::NotRegular(_)) => return Ok((None, None)),
        Err(why) => return Err(format!("agents/openai.yaml is ignored: {why}")),
    };
    let content: FileContent = serde_yaml::from_slice(&bytes)
        .map_err(|why| format!("agents/openai.yaml is ignored: {why}"))?;
    let interface = content.interface.map(|raw| interface(raw, folder));
    let tools = content.dependencies.map(|raw| raw.tools.into_iter().filter_map(tool).collect());
    Ok((
        interface.filter(|interface| *interface != Interface::default()),
        tools.filter(|tools: &Vec<Tool>| !tools.is_empty()).map(|tools| Dependencies { tools }),
    ))
}

fn interface(raw: RawInterface, folder: &Path) -> Interface {
    Interface {
        display_name: text(raw.display_name, SHORT),
        short_description: text(raw.short_description, LONG),
        icon_small: raw.icon_small.and_then(|path| asset(&path, folder)),
        icon_large: raw.icon_large.and_then(|path| asset(&path, folder)),
        icon_small_url: None,
        icon_large_url: None,
        brand_color: raw.brand_color.and_then(color),
        default_prompt: text(raw.default_prompt, LONG),
    }
}

fn tool(raw: RawTool) -> Option<Tool> {
    Some(Tool {
        r#type: text(raw.r#type, SHORT)?,
        value: text(raw.value, LONG)?,
        description: text(raw.description, LONG),
        transport: text(raw.transport, SHORT),
        command: text(raw.command, LONG),
        url: text(raw.url, LONG),
    })
}

fn text(value: Option<String>, most: usize) -> Option<String> {
    let value = single_line(&value?);
    (!value.is_empty() && value.chars().count() <= most).then_some(value)
}

fn color(value: String) -> Option<String> {
    let digits = value.trim().strip_prefix('#')?;
    (digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| format!("#{digits}"))
}

/// Icons are relative paths below `assets`.
fn asset(path: &Path, folder: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => normal.push(part),
            _outside => return None,
        }
    }
    normal.starts_with("assets").then(|| folder.join(normal))
}
