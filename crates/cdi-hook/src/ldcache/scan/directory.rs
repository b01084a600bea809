//! The libraries in one directory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

use super::{CacheEntry, FileId, Place, Scan, is_library_name};
use crate::ldcache::cache::compare_names;
use crate::limits;
use crate::root::{Entries, Entry, WritableDirectory};

/// A library of a directory, by the name that programs ask for.
struct Candidate {
    /// The name of its file.
    file: Vec<u8>,
    /// The file itself, after all links.
    id: FileId,
    is_link: bool,
    flags: i32,
    isa_level: u32,
}

/// Which file each name of a directory leads to, as far as that was looked at.
type Names = HashMap<Vec<u8>, FileId>;

impl Scan<'_> {
    /// The libraries in a directory. A name that the loader finds a library by is made a link to
    /// it, where the file has another one.
    pub(super) fn directory(&mut self, place: &Place) -> Vec<CacheEntry> {
        let most = limits::DIRECTORY_ENTRIES.min(limits::ENTRIES.saturating_sub(self.entries));
        let Ok(found) = self.root.entries(&place.path, most, is_library_name) else {
            return Vec::new();
        };
        self.entries += found.count;
        self.is_cut |= found.is_cut;
        let (mut candidates, mut names) = (BTreeMap::new(), Names::new());
        for entry in &found.entries {
            if self.libraries >= limits::LIBRARIES {
                self.is_cut = true;
                break;
            }
            self.libraries += 1;
            if let Some((soname, candidate)) = self.candidate(&place.path, &found, entry) {
                names.insert(candidate.file.clone(), candidate.id);
                add(&mut candidates, soname, candidate);
            }
        }
        let writable = self.root.writable(&place.path).ok();
        let entry = |(name, candidate): (Vec<u8>, Candidate)| {
            let is_there = names.get(&name) == Some(&candidate.id);
            self.entry(place, writable.as_ref(), name, candidate, is_there)
        };
        candidates.into_iter().map(entry).collect()
    }

    /// What an entry of a directory is, and the name by which it is found.
    fn candidate(
        &mut self,
        directory: &Path,
        entries: &Entries,
        entry: &Entry,
    ) -> Option<(Vec<u8>, Candidate)> {
        let name = &entry.name;
        let direct = match entry.kind {
            FileType::RegularFile | FileType::Unknown => self.root.file_in(entries, name).ok(),
            _ => None,
        };
        let linked = || match entry.kind {
            FileType::Symlink | FileType::Unknown => self.root.file(&directory.join(name)).ok(),
            _ => None,
        };
        let is_link = direct.is_none();
        let file = direct.or_else(linked)?;
        let (id, library) = (file.id, self.library(&file)?);
        let name = name.as_bytes();
        let soname = library.soname.unwrap_or_else(|| name.to_owned());
        // A link under the name that programs ask for, or under that which ld(1) asks for, stands
        // for itself. Any other one counts as another file with the library.
        let is_for_linker = name.ends_with(b".so") && soname.starts_with(name);
        let is_link = is_link && (name == soname || is_for_linker);
        let soname = if is_link { name.to_owned() } else { soname };
        let is_file_name =
            !soname.is_empty() && !soname.contains(&b'/') && soname != b"." && soname != b"..";
        let (file, flags, isa_level) = (name.to_owned(), library.flags, library.isa_level);
        is_file_name.then_some((soname, Candidate { file, id, is_link, flags, isa_level }))
    }

    fn entry(
        &self,
        place: &Place,
        writable: Option<&WritableDirectory>,
        name: Vec<u8>,
        candidate: Candidate,
        is_there: bool,
    ) -> CacheEntry {
        // For some processors it is the file itself, otherwise the name that outlives an update.
        let is_named = place.hwcaps.is_none() && {
            let link = place.path.join(OsStr::from_bytes(&name));
            candidate.is_link
                || name == candidate.file
                || is_there
                || self.make_link(writable, &link, &candidate)
        };
        let file = if is_named { &name } else { &candidate.file };
        let path = [place.path.as_os_str().as_bytes(), b"/", file].concat();
        let (flags, isa_level) = (candidate.flags, candidate.isa_level);
        CacheEntry { path, name, flags, hwcaps: place.hwcaps.clone(), isa_level }
    }

    /// Sees that a name leads to a library; whether it leads to one.
    fn make_link(
        &self,
        writable: Option<&WritableDirectory>,
        link: &Path,
        candidate: &Candidate,
    ) -> bool {
        let file = OsStr::from_bytes(&candidate.file);
        let there = self.root.file(link).ok();
        if there.as_ref().is_some_and(|there| there.id == candidate.id) {
            return true;
        }
        let name = link.file_name().unwrap_or_default();
        // A file of its own with that name stays.
        let made = writable.is_some_and(|directory| {
            directory.is_link_or_nothing(name) && directory.replace_with_link(name, file).is_ok()
        });
        made || there.is_some()
    }
}

/// Adds a library, if none of its name is better: a file is better than a link, and a later
/// version than an earlier one.
fn add(candidates: &mut BTreeMap<Vec<u8>, Candidate>, soname: Vec<u8>, new: Candidate) {
    let is_better = candidates.get(&soname).is_none_or(|old| match (old.is_link, new.is_link) {
        (true, false) => true,
        (false, true) => false,
        _ => compare_names(&old.file, &new.file).is_lt(),
    });
    if is_better {
        candidates.insert(soname, new);
    }
}
