//! Skills inside a plugin have its name before theirs: `plugin:skill`.

use std::path::Path;

use serde::Deserialize;

use crate::files;

const MANIFESTS: [&str; 3] =
    [".codex-plugin/plugin.json", ".claude-plugin/plugin.json", ".cursor-plugin/plugin.json"];

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: String,
}

/// Returns the name of the nearest plugin that a folder is in: its manifest's name, else its
/// folder's. Invalid manifests are passed over.
pub fn of(folder: &Path) -> Option<String> {
    folder.ancestors().find_map(plugin)
}

fn plugin(folder: &Path) -> Option<String> {
    let bytes =
        MANIFESTS.iter().find_map(|name| files::read(&folder.join(name), files::MAX_BYTES).ok())?;
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    if manifest.name.trim().is_empty() {
        return folder.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    }
    Some(manifest.name)
}
