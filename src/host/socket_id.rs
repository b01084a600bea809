//! The identity of a socket's file, which tells when another one is at the same path.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The identity of the file at a path.
///
/// The inode number is not enough: on ext4, a socket that is removed and created again at the same
/// path got the same one, four times of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl SocketId {
    /// The file at this path, with symlinks followed; `None` if there is none.
    ///
    /// # Errors
    /// The file system's, other than that nothing is there.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Self {
                device: file.dev(),
                inode: file.ino(),
                changed: (file.ctime(), file.ctime_nsec()),
            })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// An identity for tests of pure code.
    #[cfg(test)]
    pub(crate) const fn example(inode: u64) -> Self {
        Self { device: 0, inode, changed: (0, 0) }
    }
}
