//! The libraries in the directories of the loader's configuration, chosen as ldconfig does
//! (glibc's elf/ldconfig.c, `search_dir`).

mod directory;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FileType;

use super::cache::{CacheEntry, Libraries};
use super::elf::{self, Library};
use crate::limits;
use crate::root::{ContainerRoot, RegularFile};

/// The file system and the inode of a file or directory.
type FileId = (u64, u64);
/// What a directory is called below which are libraries for some processors.
const HWCAPS: &str = "glibc-hwcaps";

/// The libraries in these directories, in their order. Those of `first` are looked through first,
/// so that an image with too many files does not hide them.
#[must_use]
pub fn libraries(
    root: &ContainerRoot,
    directories: &[PathBuf],
    first: &[&Path],
    notes: &mut Vec<String>,
) -> Libraries {
    let first: HashSet<FileId> =
        first.iter().filter_map(|path| root.directory_id(path).ok()).collect();
    let mut scan = Scan { root, parsed: HashMap::new(), entries: 0, libraries: 0, is_cut: false };
    let mut places = scan.places(directories);
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|at| !first.contains(&places[*at].of));
    for at in order {
        places[at].found = scan.directory(&places[at]);
    }
    if scan.is_cut {
        notes.push(
            "there are more libraries than are looked at: only a part of them is in the \
                    loader's cache"
                .to_owned(),
        );
    }
    let hwcaps = places.iter().filter_map(|place| place.hwcaps.clone()).collect();
    Libraries { entries: places.into_iter().flat_map(|place| place.found).collect(), hwcaps }
}

/// A directory with libraries.
struct Place {
    path: PathBuf,
    /// The directory itself, or that which its `glibc-hwcaps` is in.
    of: FileId,
    hwcaps: Option<Vec<u8>>,
    found: Vec<CacheEntry>,
}

struct Scan<'r> {
    root: &'r ContainerRoot,
    /// What each file is that was looked at; a library has several names.
    parsed: HashMap<FileId, Option<Rc<Library>>>,
    /// Entries of directories, and names of libraries, that were looked at.
    entries: usize,
    libraries: usize,
    is_cut: bool,
}

impl Scan<'_> {
    /// The directories that there are, each once under its first path, with those for some
    /// processors behind.
    fn places(&mut self, directories: &[PathBuf]) -> Vec<Place> {
        let mut seen: BTreeSet<FileId> = BTreeSet::new();
        let (mut places, mut of_processors) = (Vec::new(), Vec::new());
        for path in directories {
            let Ok(of) = self.root.directory_id(path) else { continue };
            if !seen.insert(of) {
                continue;
            }
            for name in self.processors(path) {
                let path = path.join(HWCAPS).join(OsStr::from_bytes(&name));
                if self.root.directory_id(&path).is_ok_and(|id| seen.insert(id)) {
                    let hwcaps = Some(name);
                    of_processors.push(Place { path, of, hwcaps, found: Vec::new() });
                }
            }
            places.push(Place { path: path.clone(), of, hwcaps: None, found: Vec::new() });
        }
        places.extend(of_processors);
        places
    }

    /// The names below the `glibc-hwcaps` of a directory.
    fn processors(&mut self, directory: &Path) -> Vec<Vec<u8>> {
        let is_visible = |name: &OsStr| name.as_bytes()[0] != b'.';
        let entries = self.root.entries(&directory.join(HWCAPS), limits::HWCAPS, is_visible);
        let Ok(found) = entries else { return Vec::new() };
        self.is_cut |= found.is_cut;
        let may_be_directory =
            |kind| matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
        let entries = found.entries.into_iter().filter(|entry| may_be_directory(entry.kind));
        entries.map(|entry| entry.name.into_encoded_bytes()).collect()
    }

    /// What a file is; `None`: no library.
    fn library(&mut self, file: &RegularFile<'_>) -> Option<Rc<Library>> {
        let read = || Some(Rc::new(elf::read(&file.open().ok()?)?));
        self.parsed.entry(file.id).or_insert_with(read).clone()
    }
}

/// Whether a file looks like a library by its name: the loader is one, too. Temporary files of
/// prelink are none.
fn is_library_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let has_so = name.windows(3).any(|part| part == b".so");
    let is_of_prelink = name.windows(10).any(|part| part == b".#prelink#");
    (name.starts_with(b"lib") || name.starts_with(b"ld-")) && has_so && !is_of_prelink
}
