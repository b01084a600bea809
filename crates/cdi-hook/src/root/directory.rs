//! The entries of a directory of a container.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, readlinkat};

use super::{ContainerRoot, RegularFile, id};

/// Of a directory's entries, which the system lists at once: some hundred of them.
const LISTING_BYTES: usize = 32 << 10;

/// A directory that was looked up, and what is in it.
#[derive(Debug)]
pub struct Entries {
    fd: OwnedFd,
    /// The file system and the inode, by which two names of one directory are known.
    pub id: (u64, u64),
    /// The entries, by name.
    pub entries: Vec<Entry>,
    /// How many there are, as far as they were to be read, also of names that nobody wants.
    pub count: usize,
    /// Whether there are more than were to be read.
    pub is_cut: bool,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is, where the file system says so.
    pub kind: FileType,
}

impl Entries {
    /// Where the entry with this name is.
    #[must_use]
    pub fn position(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.name.as_bytes().cmp(name)).ok()
    }

    /// The text of the link with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn link(&self, name: &OsStr) -> io::Result<CString> {
        Ok(readlinkat(&self.fd, name, Vec::new())?)
    }
}

impl ContainerRoot {
    /// The entries of a directory that `wanted` takes, by name, of the first `most` that the
    /// system lists.
    ///
    /// # Errors
    /// There is no directory at the path, or it is on a file system that is not read.
    pub fn entries(
        &self,
        path: &Path,
        most: usize,
        wanted: impl Fn(&OsStr) -> bool,
    ) -> io::Result<Entries> {
        let fd = self.look_up(path, OFlags::DIRECTORY, ResolveFlags::empty())?;
        let stat = fstat(&fd)?;
        self.refuse_foreign(&fd, &stat)?;
        let id = id(&stat);
        let mut found = Entries { fd, id, entries: Vec::new(), count: 0, is_cut: false };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        let open = openat(&found.fd, ".", flags, Mode::empty())?;
        let mut listing = RawDir::new(open, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if found.count == most {
                found.is_cut = true;
                break;
            }
            found.count += 1;
            if wanted(name) {
                let entry = Entry { name: name.to_owned(), kind: entry.file_type() };
                found.entries.push(entry);
            }
        }
        // The order of a directory says nothing, and the same input gives the same output.
        found.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The file system and the inode of a directory.
    ///
    /// # Errors
    /// There is none at the path.
    pub fn directory_id(&self, path: &Path) -> io::Result<(u64, u64)> {
        let fd = self.look_up(path, OFlags::DIRECTORY, ResolveFlags::empty())?;
        Ok(id(&fstat(&fd)?))
    }

    /// The regular file with this name in a directory; a link is none.
    ///
    /// # Errors
    /// There is none, or it is on a file system that is not read.
    pub fn file_in(&self, directory: &Entries, name: &OsStr) -> io::Result<RegularFile<'_>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.regular(openat(&directory.fd, name, flags, Mode::empty())?)
    }

    /// The minor number of the character device with this name in a directory.
    ///
    /// # Errors
    /// There is none.
    pub fn device_minor(&self, directory: &Entries, name: &OsStr) -> io::Result<u32> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stat = fstat(openat(&directory.fd, name, flags, Mode::empty())?)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => Ok(rustix::fs::minor(stat.st_rdev)),
            _ => Err(io::Error::other("it is no character device")),
        }
    }
}
