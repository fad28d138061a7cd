//! A rollout file of a home.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::name::Name;

/// A rollout file, with what its name and its folder tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct File {
    /// The path of its folder, from the home on.
    pub folder: Arc<Path>,
    /// Its name, which is that of a rollout.
    pub name: Box<str>,
    /// Whether it is archived.
    pub archived: bool,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Its number in the file system.
    pub inode: u64,
}

/// The folder of archived rollouts.
const ARCHIVE: &str = "archived_sessions";

impl File {
    /// A file without facts; its name is returned if it is not that of a rollout.
    pub fn new(folder: &Arc<Path>, name: String, archived: bool) -> Result<Self, String> {
        if Name::parse(&name).is_none() {
            return Err(name);
        }
        let (folder, name) = (folder.clone(), name.into_boxed_str());
        Ok(File { folder, name, archived, size: 0, modified: 0, inode: 0 })
    }

    /// The path, from the home on.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&*self.name)
    }

    // The parts of a name of a rollout have fixed lengths.

    /// The start as the name tells it.
    pub fn time(&self) -> &str {
        self.name.get(8..27).unwrap_or_default()
    }

    /// The id of the thread.
    pub fn thread(&self) -> &str {
        self.name.get(28..64).unwrap_or_default()
    }

    /// The id of the rollout: that of its segment if the thread was reverted.
    pub fn rollout(&self) -> &str {
        self.segment().unwrap_or_else(|| self.thread())
    }

    /// The id of the segment.
    pub fn segment(&self) -> Option<&str> {
        self.name.get(64..)?.strip_prefix('_')?.get(..36)
    }

    /// The name without the ending of compressed files.
    pub fn plain_name(&self) -> &str {
        self.name.strip_suffix(".zst").unwrap_or(&self.name)
    }

    /// Whether the content is compressed.
    pub fn compressed(&self) -> bool {
        self.name.ends_with(".zst")
    }

    /// The present place of a file that is not at its path any more: it was compressed,
    /// decompressed, archived or taken out of the archive.
    pub fn moved(&self, home: &Path) -> Option<File> {
        let plain = self.plain_name();
        let (year, month, day) =
            (self.time().get(..4)?, self.time().get(5..7)?, self.time().get(8..10)?);
        let of_day: Arc<Path> = Path::new("sessions").join(year).join(month).join(day).into();
        let archive: Arc<Path> = Path::new(ARCHIVE).into();
        let folders = [(&self.folder, self.archived), (&of_day, false), (&archive, true)];
        folders.into_iter().find_map(|(folder, archived)| {
            ["", ".zst"].into_iter().find_map(|ending| {
                let name = format!("{plain}{ending}");
                let exists = home.join(folder).join(&name).is_file();
                let (folder, name) = (folder.clone(), name.into_boxed_str());
                exists.then(|| File { folder, name, archived, ..self.clone() })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_the_parsed_name() {
        let id = "01a21974-8f0c-7940-b1d5-036bc64902f4";
        let segment = id.replace('b', "c");
        for name in [
            format!("rollout-2026-11-26T20-03-18-{id}.jsonl"),
            format!("rollout-2026-11-26T20-03-18-{id}_{segment}.jsonl.zst"),
        ] {
            let file = File::new(&Path::new("sessions").into(), name.clone(), false).expect("ok");
            let parsed = Name::parse(&name).expect("a rollout");
            assert_eq!(
                (file.time(), file.thread(), file.segment(), file.compressed(), file.rollout()),
                (parsed.time, parsed.thread, parsed.segment, parsed.compressed, parsed.rollout())
            );
        }
        let name = "backup-of.jsonl".to_string();
        assert_eq!(File::new(&Path::new("sessions").into(), name.clone(), false), Err(name));
    }
}
