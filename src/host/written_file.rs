//! A file that the plugin has written on the host, and its removal when the plugin is uninstalled.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A file or directory, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its path.
    pub path: PathBuf,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of a file when the plugin is uninstalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Remove,
    /// It is the plugin's and has to stay for now; why.
    Needed(String),
    /// It is not the plugin's, or is wanted after it; why.
    Keep(String),
}

impl WrittenFile {
    /// A file that goes.
    #[must_use]
    pub fn remove(path: PathBuf) -> Self {
        Self { path, fate: Fate::Remove }
    }

    /// A file that stays.
    #[must_use]
    pub fn keep(path: PathBuf, why: impl Into<String>) -> Self {
        Self { path, fate: Fate::Keep(why.into()) }
    }
}

/// Removes a regular file, a socket or an empty directory. Whatever is at the path, nothing that a
/// link leads to is touched. What is gone already is no error.
///
/// # Errors
/// It is something else, or the system refuses it.
pub fn remove(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let removed = match () {
        () if kind.is_dir() => fs::remove_dir(path),
        () if kind.is_file() || kind.is_socket() => fs::remove_file(path),
        () => Err(io::Error::other("it is neither a file, a socket nor a directory")),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn files_go_and_nothing_that_a_link_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("empty")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["file", "empty", "socket", "none"] {
            remove(&at(name)).unwrap();
            assert!(!at(name).exists(), "{name}");
        }
        fs::create_dir(at("full")).unwrap();
        fs::write(at("full/victim"), "").unwrap();
        symlink(at("full/victim"), at("link")).unwrap();
        symlink(at("full"), at("link-to-directory")).unwrap();
        for name in ["full", "link", "link-to-directory"] {
            assert!(remove(&at(name)).is_err(), "{name}");
            assert!(fs::symlink_metadata(at(name)).is_ok(), "{name}");
        }
        assert!(at("full/victim").exists());
    }
}
