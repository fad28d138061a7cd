//! Skills: folders with a file `SKILL.md`, as the CLI finds and reads them.
//!
//! [`scan`] walks one root. A skill with an invalid file becomes a [`Problem`], and the others are
//! read all the same. Walks are bounded by depth, by directories and by entries.

mod front_matter;
mod interface;
mod namespace;
mod walk;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files;
pub use interface::{Dependencies, Interface, Tool};

/// The limit of a name with the name of its plugin.
const MAX_QUALIFIED: usize = 129;

/// The name of the file that makes a folder a skill.
pub const FILE: &str = "SKILL.md";

/// A skill, with the member names of the app-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// The name in the front matter, else that of the folder; after the name of its plugin, if any.
    pub name: String,
    /// The description, on one line.
    pub description: String,
    /// The short description of the front matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_description: Option<String>,
    /// The texts and icons of `agents/openai.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// The tools that `agents/openai.yaml` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Dependencies>,
    /// The file, without links on the way to it.
    pub path: PathBuf,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The file cannot be read, or is not UTF-8.
    Unreadable,
    /// The file does not begin with `---`, or no second `---` follows.
    MissingFrontMatter,
    /// The front matter is neither YAML nor can be repaired.
    InvalidYaml,
    /// The front matter lacks a member.
    MissingField,
    /// A member is too long.
    InvalidField,
    /// `agents/openai.yaml` is invalid. The skill is listed without it.
    InvalidInterface,
    /// A directory cannot be read.
    UnreadableDirectory,
    /// The walk ended at its limit.
    Limit,
}

/// A file or directory that was not read. The CLI reports those of `SKILL.md` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file or directory.
    pub path: PathBuf,
    /// The kind.
    pub reason: Reason,
    /// A text for people; that of the CLI if the CLI has one.
    pub message: String,
}

impl Problem {
    fn new(path: &Path, reason: Reason, message: impl Into<String>) -> Self {
        Problem { path: path.to_path_buf(), reason, message: message.into() }
    }
}

/// The result of a walk.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scan {
    /// The skills, in the order of their paths.
    pub skills: Vec<Skill>,
    /// The problems, in the order of their paths.
    pub problems: Vec<Problem>,
}

/// Finds and reads the skills below a root. A missing root has none. `links` follows links to
/// directories.
pub fn scan(root: &Path, links: bool) -> Scan {
    let mut scan = Scan::default();
    for file in walk::files(root, links, &mut scan.problems) {
        let path = file.canonicalize().unwrap_or_else(|_| file.clone());
        match read(&path, &mut scan.problems) {
            Ok(skill) => scan.skills.push(skill),
            Err(problem) => scan.problems.push(problem),
        }
    }
    scan.skills.sort_by(|a, b| a.path.cmp(&b.path));
    scan.problems.sort_by(|a, b| a.path.cmp(&b.path));
    scan
}

fn read(path: &Path, problems: &mut Vec<Problem>) -> Result<Skill, Problem> {
    let text = text(path).map_err(|why| {
        Problem::new(path, Reason::Unreadable, format!("failed to read file: {why}"))
    })?;
    let folder = path.parent().unwrap_or(path);
    let header = front_matter::read(&text, || folder_name(folder))
        .map_err(|(reason, message)| Problem::new(path, reason, message))?;
    let name = match namespace::of(folder) {
        Some(plugin) => format!("{plugin}:{}", header.name),
        None => header.name,
    };
    if name.chars().count() > MAX_QUALIFIED {
        let words =
            format!("invalid qualified name: exceeds maximum length of {MAX_QUALIFIED} characters");
        return Err(Problem::new(path, Reason::InvalidField, words));
    }
    let file = folder.join("agents").join("openai.yaml");
    let (interface, dependencies) = match interface::read(&file, folder) {
        Ok(found) => found,
        Err(message) => {
            problems.push(Problem::new(&file, Reason::InvalidInterface, message));
            (None, None)
        }
    };
    Ok(Skill {
        name,
        description: header.description,
        short_description: header.short_description,
        interface,
        dependencies,
        path: path.to_path_buf(),
    })
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = files::read(path, files::MAX_BYTES).map_err(|why| why.to_string())?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|why| why.to_string())
}

fn folder_name(folder: &Path) -> String {
    let name = folder.file_name().and_then(|name| name.to_str()).map(single_line);
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "skill".to_owned())
}

/// Returns the words of a text with one space between them.
fn single_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns scans, and paths without the links on the way to them, as a JSON text; or words if a
/// path is not UTF-8.
pub fn to_json(scans: &[Scan], paths: &[PathBuf]) -> Result<Vec<u8>, String> {
    let paths: Vec<_> =
        paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    serde_json::to_vec(&(scans, paths)).map_err(|why| why.to_string())
}
