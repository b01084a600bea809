//! The libraries in one directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::thread;

use rustix::fs::FileType;
use rustix::thread::sched_getaffinity;

use super::{CacheEntry, FileId, Place, Scan, is_library_name};
use crate::ldcache::cache::compare_names;
use crate::ldcache::elf::{self, Library};
use crate::limits;
use crate::root::{ContainerRoot, Entries, Entry, WritableDirectory};

/// The most threads that look at files, and the fewest entries for which another one pays.
const THREADS: usize = 4;
const SHARE: usize = 64;
/// Of such a thread.
const STACK_BYTES: usize = 256 << 10;

/// A library of a directory, by the name that programs ask for.
struct Candidate<'e> {
    /// The name of its file.
    file: &'e [u8],
    /// The file itself, after all links.
    id: FileId,
    is_link: bool,
    flags: i32,
    isa_level: u32,
}

/// The regular file that a name leads to.
struct Target {
    id: FileId,
    is_link: bool,
    library: Option<Rc<Library>>,
}

/// What each entry of a directory leads to, in their order.
type Targets = Vec<Option<Target>>;

impl Scan<'_> {
    /// The libraries in a directory. A name that the loader finds a library by is made a link to
    /// it, where the file has another one.
    pub(super) fn directory(&mut self, place: &Place) -> Vec<CacheEntry> {
        let most = limits::DIRECTORY_ENTRIES.min(limits::ENTRIES.saturating_sub(self.entries));
        let Ok(mut found) = self.root.entries(&place.path, most, is_library_name) else {
            return Vec::new();
        };
        self.entries += found.count;
        let most = limits::LIBRARIES.saturating_sub(self.libraries);
        self.is_cut |= found.is_cut || found.entries.len() > most;
        found.entries.truncate(most);
        self.libraries += found.entries.len();
        let targets = self.targets(&place.path, &found);
        let mut candidates = BTreeMap::new();
        for (entry, target) in found.entries.iter().zip(&targets) {
            let name = entry.name.as_bytes();
            if let Some((soname, candidate)) = target.as_ref().and_then(|to| candidate(name, to)) {
                add(&mut candidates, soname, candidate);
            }
        }
        let writable = self.root.writable(&place.path).ok();
        let entry = |(name, candidate): (&[u8], Candidate<'_>)| {
            let there = found.position(name).and_then(|at| targets[at].as_ref());
            let is_there = there.is_some_and(|there| there.id == candidate.id);
            self.entry(place, writable.as_ref(), name, &candidate, is_there)
        };
        candidates.into_iter().map(entry).collect()
    }

    /// What the entries of a directory lead to.
    fn targets(&mut self, directory: &Path, found: &Entries) -> Targets {
        let files = files(self.root, found);
        let mut target = |(id, library): (FileId, Option<Library>)| {
            let library = self.parsed.entry(id).or_insert_with(|| library.map(Rc::new)).clone();
            Target { id, is_link: false, library }
        };
        let mut targets: Targets = files.into_iter().map(|file| file.map(&mut target)).collect();
        // A longer name first: libcuda.so leads to libcuda.so.1.
        for (at, entry) in found.entries.iter().enumerate().rev() {
            if targets[at].is_none()
                && let FileType::Symlink | FileType::Unknown = entry.kind
            {
                targets[at] = self.linked(directory, found, &entry.name, &targets);
            }
        }
        targets
    }

    /// What a link leads to. Almost each leads to a name beside it, and the system is asked again
    /// only for another one.
    fn linked(
        &mut self,
        directory: &Path,
        found: &Entries,
        name: &OsStr,
        targets: &Targets,
    ) -> Option<Target> {
        let text = found.link(name).ok()?;
        let beside = found.position(text.as_bytes()).and_then(|at| targets[at].as_ref());
        if let Some(Target { id, library, .. }) = beside {
            return Some(Target { id: *id, is_link: true, library: library.clone() });
        }
        let file = self.root.file(&directory.join(name)).ok()?;
        Some(Target { id: file.id, is_link: true, library: self.library(&file) })
    }

    fn entry(
        &self,
        place: &Place,
        writable: Option<&WritableDirectory>,
        name: &[u8],
        candidate: &Candidate<'_>,
        is_there: bool,
    ) -> CacheEntry {
        // For some processors it is the file itself, otherwise the name that outlives an update.
        let is_named = place.hwcaps.is_none() && {
            candidate.is_link
                || name == candidate.file
                || is_there
                || self.make_link(writable, &place.path.join(OsStr::from_bytes(name)), candidate)
        };
        let file = if is_named { name } else { candidate.file };
        let path = [place.path.as_os_str().as_bytes(), b"/", file].concat();
        let (flags, isa_level) = (candidate.flags, candidate.isa_level);
        CacheEntry { path, name: name.to_owned(), flags, hwcaps: place.hwcaps.clone(), isa_level }
    }

    /// Sees that a name leads to a library; whether it leads to one.
    fn make_link(
        &self,
        writable: Option<&WritableDirectory>,
        link: &Path,
        candidate: &Candidate<'_>,
    ) -> bool {
        let file = OsStr::from_bytes(candidate.file);
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

/// The regular files among the entries of a directory, and what each is. Those of a large one are
/// shared out among threads; where none can be had, this one looks at all.
fn files(root: &ContainerRoot, found: &Entries) -> Vec<Option<(FileId, Option<Library>)>> {
    let file = |entry: &Entry| {
        let (FileType::RegularFile | FileType::Unknown) = entry.kind else { return None };
        let file = root.file_in(found, &entry.name).ok()?;
        Some((file.id, file.open().ok().and_then(|open| elf::read(&open))))
    };
    let all = |share: &[Entry]| share.iter().map(file).collect::<Vec<_>>();
    let processors = sched_getaffinity(None).map_or(1, |set| set.count() as usize);
    let threads = (found.entries.len() / SHARE).min(THREADS).min(processors).max(1);
    let size = found.entries.len().div_ceil(threads).max(1);
    let mut shares = found.entries.chunks(size);
    let first = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let builder = || thread::Builder::new().stack_size(STACK_BYTES);
        let others: Vec<_> = shares
            .map(|share| (share, builder().spawn_scoped(scope, move || all(share))))
            .collect();
        let mut files = all(first);
        for (share, thread) in others {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            files.extend(done.unwrap_or_else(|| all(share)));
        }
        files
    })
}

/// What a name in a directory is, and the name by which it is found.
fn candidate<'e>(name: &'e [u8], target: &'e Target) -> Option<(&'e [u8], Candidate<'e>)> {
    let library = target.library.as_ref()?;
    let soname = library.soname.as_deref().unwrap_or(name);
    // A link under the name that programs ask for, or under that which ld(1) asks for, stands for
    // itself. Any other one counts as another file with the library.
    let is_for_linker = name.ends_with(b".so") && soname.starts_with(name);
    let is_link = target.is_link && (name == soname || is_for_linker);
    let soname = if is_link { name } else { soname };
    let is_file_name =
        !soname.is_empty() && !soname.contains(&b'/') && soname != b"." && soname != b"..";
    let (id, flags, isa_level) = (target.id, library.flags, library.isa_level);
    is_file_name.then_some((soname, Candidate { file: name, id, is_link, flags, isa_level }))
}

/// Adds a library, if none of its name is better: a file is better than a link, and a later
/// version than an earlier one.
fn add<'e>(
    candidates: &mut BTreeMap<&'e [u8], Candidate<'e>>,
    soname: &'e [u8],
    new: Candidate<'e>,
) {
    let is_better = candidates.get(soname).is_none_or(|old| match (old.is_link, new.is_link) {
        (true, false) => true,
        (false, true) => false,
        _ => compare_names(old.file, new.file).is_lt(),
    });
    if is_better {
        candidates.insert(soname, new);
    }
}
