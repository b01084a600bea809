//! Looks for files in the root of an installation, within bounds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use device::cdi::HostFile;

use crate::host::root::resolve_in_root;

/// The most directory entries that are read for one search. A directory of libraries has a few
/// thousand.
const MOST_ENTRIES: usize = 131_072;

/// The root of a driver's installation.
#[derive(Debug, Clone, Copy)]
pub struct DriverRoot<'a> {
    /// Where it is for us.
    pub here: &'a Path,
    /// Where it is for the host.
    pub host: &'a str,
}

/// A name in a directory, and what it is there, as the directory itself says: a driver has hundreds
/// of files, each of which would be looked at once more.
pub(super) struct Entry {
    pub(super) name: String,
    kind: FileType,
}

impl Entry {
    pub(super) fn is_link(&self) -> bool {
        self.kind.is_symlink()
    }
}

/// A search in a root.
pub(super) struct Search<'a> {
    root: DriverRoot<'a>,
    entries: usize,
    /// Our paths of the directories that were looked for: each has many files.
    directories: RefCell<BTreeMap<String, Option<PathBuf>>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(root: DriverRoot<'a>) -> Self {
        Self { root, entries: 0, directories: RefCell::default() }
    }

    /// What is in a directory of the root, as far as its names are wanted and may stand in a
    /// specification; sorted by name.
    pub(super) fn entries(
        &mut self,
        directory: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<Entry> {
        let Some(directory) = self.directory(directory) else { return Vec::new() };
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten() {
            if self.entries >= MOST_ENTRIES {
                break;
            }
            self.entries += 1;
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| is_wanted(name) && is_plain(name))
                && let Ok(kind) = entry.file_type()
            {
                entries.push(Entry { name: name.to_owned(), kind });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// What is not found because there is too much to look at.
    pub(super) fn limits_reached(&self) -> Option<String> {
        (self.entries >= MOST_ENTRIES).then(|| {
            format!(
                "there are more than {MOST_ENTRIES} files in the directories of the driver root \
                 {}: not all were looked at",
                self.root.host
            )
        })
    }

    /// Our path of a directory, with every link followed.
    pub(super) fn directory(&self, path: &str) -> Option<PathBuf> {
        if let Some(known) = self.directories.borrow().get(path) {
            return known.clone();
        }
        let found = resolve_in_root(self.root.here, Path::new(path)).ok();
        let is_directory =
            |found: &PathBuf| fs::symlink_metadata(found).is_ok_and(|found| found.is_dir());
        let found = found.filter(is_directory);
        self.directories.borrow_mut().insert(path.to_owned(), found.clone());
        found
    }

    /// Our path of what is at a path in the end, and what that is.
    fn resolve(&self, path: &str) -> Option<(PathBuf, Metadata)> {
        if let Some((directory, name)) = path.rsplit_once('/') {
            let here = self.directory(directory)?.join(name);
            let metadata = fs::symlink_metadata(&here).ok()?;
            if !metadata.is_symlink() {
                return Some((here, metadata));
            }
        }
        let found = resolve_in_root(self.root.here, Path::new(path)).ok()?;
        let metadata = fs::symlink_metadata(&found).ok()?;
        Some((found, metadata))
    }

    /// A regular file, or a link to one in the root.
    pub(super) fn file(&self, path: &str) -> Option<HostFile> {
        self.of_type(path, FileType::is_file)
    }

    /// The same for an entry of a directory.
    pub(super) fn file_in(&self, directory: &str, entry: &Entry) -> Option<HostFile> {
        let path = format!("{directory}/{}", entry.name);
        if entry.kind.is_file() {
            self.host_file(&path, &self.directory(directory)?.join(&entry.name))
        } else if entry.is_link() {
            self.file(&path)
        } else {
            None
        }
    }

    /// A file that can be run.
    pub(super) fn executable(&self, path: &str) -> Option<HostFile> {
        let (_, metadata) = self.resolve(path)?;
        let mode = metadata.permissions().mode();
        if mode & 0o111 == 0 { None } else { self.file(path) }
    }

    /// A socket, or a directory with pipes.
    pub(super) fn socket(&self, path: &str) -> Option<HostFile> {
        self.of_type(path, |kind| kind.is_socket() || kind.is_dir())
    }

    /// A file or a directory.
    pub(super) fn any(&self, path: &str) -> Option<HostFile> {
        self.of_type(path, |kind| kind.is_dir() || kind.is_file())
    }

    /// What a link in a directory leads to as it stands, if it is a name beside it.
    pub(super) fn link_target(&self, directory: &str, name: &str) -> Option<String> {
        let target = fs::read_link(self.directory(directory)?.join(name)).ok()?;
        target.to_str().filter(|target| is_plain(target)).map(str::to_owned)
    }

    fn of_type(&self, path: &str, is_wanted: impl Fn(&FileType) -> bool) -> Option<HostFile> {
        let (found, metadata) = self.resolve(path)?;
        if is_wanted(&metadata.file_type()) { self.host_file(path, &found) } else { None }
    }

    /// What is at a path of the root, and for us at `here`.
    fn host_file(&self, path: &str, here: &Path) -> Option<HostFile> {
        let below = here.strip_prefix(self.root.here).ok()?.to_str()?;
        // Of what other programs read out of a list, nothing may look like two things.
        let is_safe = below.split('/').all(is_plain);
        is_safe.then(|| HostFile {
            container: format!("/{path}"),
            host: format!("{}/{below}", self.root.host.trim_end_matches('/')),
        })
    }
}

/// Whether a name is of characters that mean nothing else anywhere. NixOS has `+`, `@` and `=` too.
fn is_plain(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-@=~".contains(&b);
    !name.is_empty() && name.len() <= 255 && name.bytes().all(is_allowed) && name != ".."
}
