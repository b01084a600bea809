//! The names of the configurations in a directory. Nothing of their contents is read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// How many entries are looked at: far more than a ConfigMap has.
const MAX_ENTRIES: usize = 4096;

/// The names of the files in a directory. Those that begin with a dot are the kubelet's, beside the
/// keys of a ConfigMap.
pub(super) fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A key is a link to its file.
        if !name.starts_with('.') && fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
            names.insert(name);
        }
    }
    Ok(names)
}
