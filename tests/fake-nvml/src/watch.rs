//! Waiting for a file to change: by inotify on its directory, and by looking every 20 ms where
//! inotify cannot be had.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

/// How long a change may go unseen without inotify.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits for changes of one file. A change after [`FileWatch::new`] or [`FileWatch::drain`] ends
/// the next wait, so look at the file between the two.
pub(crate) struct FileWatch {
    path: PathBuf,
    inotify: Option<OwnedFd>,
}

impl FileWatch {
    pub(crate) fn new(path: &Path) -> Self {
        let inotify = sys::inotify(directory(path)).ok();
        Self { path: path.to_owned(), inotify }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets the changes up to now. True if the file itself was among them.
    pub(crate) fn drain(&mut self) -> bool {
        let Some(inotify) = &self.inotify else {
            // It may have failed for want of descriptors, or of the directory: try again.
            self.inotify = sys::inotify(directory(&self.path)).ok();
            return false;
        };
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        let mut touched = false;
        let mut over = false;
        let mut buffer = [0_u8; 4096];
        while let Ok(length @ 1..) = sys::read(inotify.as_fd(), &mut buffer) {
            for notice in Notices(&buffer[..length]) {
                touched |= notice.name == name.as_bytes();
                over |= notice.mask & (libc::IN_IGNORED | libc::IN_MOVE_SELF | libc::IN_Q_OVERFLOW)
                    != 0;
            }
        }
        if over {
            // The directory is another one now, or notices were dropped.
            self.inotify = sys::inotify(directory(&self.path)).ok();
        }
        touched || over
    }

    /// Waits until something changed in the directory, `wake` is readable, or `deadline` is over.
    /// It may also end for no reason.
    pub(crate) fn wait(&self, wake: Option<BorrowedFd<'_>>, deadline: Option<Instant>) {
        let mut time = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if self.inotify.is_none() {
            time = Some(time.map_or(LOOK_EVERY, |time| time.min(LOOK_EVERY)));
        }
        let inotify = self.inotify.as_ref().map(AsFd::as_fd);
        let fds: Vec<BorrowedFd<'_>> = inotify.into_iter().chain(wake).collect();
        sys::poll(&fds, time);
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// One `inotify_event`.
struct Notice<'a> {
    mask: u32,
    name: &'a [u8],
}

/// The events in what was read from an inotify descriptor.
struct Notices<'a>(&'a [u8]);

impl<'a> Iterator for Notices<'a> {
    type Item = Notice<'a>;

    fn next(&mut self) -> Option<Notice<'a>> {
        // wd, mask, cookie and the name's length, 4 bytes each, then the name, filled up with NULs.
        let (header, rest) = self.0.split_first_chunk::<16>()?;
        let word = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&header[index * 4..index * 4 + 4]);
            u32::from_ne_bytes(word)
        };
        let (name, rest) = rest.split_at_checked(word(3) as usize)?;
        self.0 = rest;
        Some(Notice { mask: word(1), name: name.split(|byte| *byte == 0).next().unwrap_or(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        (directory, path)
    }

    #[test]
    fn without_inotify_a_wait_looks_again_soon() {
        let watch = FileWatch { path: "/nowhere/file".into(), inotify: None };
        let begin = Instant::now();
        watch.wait(None, Some(begin + LONG));
        assert!(begin.elapsed() >= LOOK_EVERY);
        assert!(begin.elapsed() < LONG);
    }

    #[test]
    fn a_change_before_the_wait_ends_it() {
        let (_directory, path) = file();
        let mut watch = FileWatch::new(&path);
        std::fs::write(&path, "").expect("write");
        let begin = Instant::now();
        watch.wait(None, Some(begin + LONG));
        assert!(begin.elapsed() < LONG);
        assert!(watch.drain(), "the file itself changed");
        assert!(!watch.drain());
    }

    #[test]
    fn a_change_beside_the_file_is_none_of_it() {
        let (directory, path) = file();
        let mut watch = FileWatch::new(&path);
        std::fs::write(directory.path().join("other"), "").expect("write");
        assert!(!watch.drain());
    }

    #[test]
    fn a_directory_that_comes_later_is_watched_then() {
        let (directory, _) = file();
        let path = directory.path().join("later/file");
        let mut watch = FileWatch::new(&path);
        assert!(watch.inotify.is_none());
        std::fs::create_dir(directory.path().join("later")).expect("mkdir");
        watch.drain();
        assert!(watch.inotify.is_some());
    }
}
