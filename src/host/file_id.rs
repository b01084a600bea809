//! The identity of a file, which tells when another one is at the same path.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// The identity of the file at a path.
///
/// The inode number is not enough: on ext4, a file that is removed and made again at the same path
/// gets the same one. The time of birth tells them apart. The time of the last change does so too,
/// but chmod and restorecon change it, so it is used only where the file system keeps no birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
    made: Made,
}

/// When a file was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Born(SystemTime),
    /// The file system does not tell: its last change, in seconds and nanoseconds.
    Changed(i64, i64),
}

impl FileId {
    /// The file at this path, with symlinks followed; `None` if there is none.
    ///
    /// # Errors
    /// The file system's, other than that nothing is there.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Self::from(&file))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// An identity for tests of pure code.
    #[cfg(test)]
    pub(crate) const fn example(inode: u64) -> Self {
        Self { device: 0, inode, made: Made::Changed(0, 0) }
    }

    /// The number that [`Self::example`] was given.
    #[cfg(test)]
    pub(crate) const fn number(self) -> u64 {
        self.inode
    }
}

impl From<&Metadata> for FileId {
    fn from(file: &Metadata) -> Self {
        let made =
            file.created().map_or(Made::Changed(file.ctime(), file.ctime_nsec()), Made::Born);
        Self { device: file.dev(), inode: file.ino(), made }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_file_made_again_is_another_and_one_with_another_mode_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let mut before = None;
        for mode in [0o600, 0o666, 0o644] {
            let _listener = UnixListener::bind(&path).unwrap();
            // Times of birth have the resolution of the kernel's clock tick.
            while FileId::of(&path).unwrap() == before {
                fs::remove_file(&path).unwrap();
                drop(UnixListener::bind(&path).unwrap());
            }
            let made = FileId::of(&path).unwrap();
            if fs::metadata(&path).unwrap().created().is_ok() {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                assert_eq!(FileId::of(&path).unwrap(), made, "chmod changes no identity");
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(FileId::of(&path).unwrap(), None);
            before = made;
        }
    }
}
