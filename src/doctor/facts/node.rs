//! The rest of the node, and the state of directories.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The rest of the node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Limits and use of inotify.
    pub inotify: InotifyFacts,
    /// The time.
    pub now: SystemTime,
    /// The last change of a file of this node, with the file.
    pub newest: Option<(PathBuf, SystemTime)>,
    /// The state directory.
    pub state: Option<(PathBuf, DirectoryState)>,
    /// Why the state file cannot be read, if there is one.
    pub unreadable: Option<String>,
    /// The quarantine directory.
    pub quarantine: Option<(PathBuf, DirectoryState)>,
}

/// Limits and use of inotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InotifyFacts {
    /// Why a watch cannot be created.
    pub refused: Option<String>,
    /// `fs.inotify.max_user_instances`.
    pub instances: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub watches: Option<u64>,
    /// Instances of this user that can be seen from here.
    pub used: u64,
}

/// The state of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryState {
    /// Files can be created in it.
    Writable,
    /// It is not there.
    Missing,
    /// It is not there, and the plugin can create it.
    CanBeCreated,
    /// It is something else.
    NotADirectory,
    /// It was deleted, and only a mount keeps it.
    Deleted,
    /// Nothing can be created in it, for this reason.
    NotWritable(String),
}

impl DirectoryState {
    /// What is seen of a directory that the plugin creates itself; as an error, if it cannot be
    /// used.
    pub(in crate::doctor) fn own_directory(&self, path: &Path) -> Result<String, String> {
        let path = path.display();
        match self {
            Self::Writable => Ok(format!("{path} is writable")),
            Self::CanBeCreated => Ok(format!("{path} is not there and can be created")),
            Self::Missing => Err(format!("{path} is not there and cannot be created")),
            Self::NotADirectory => Err(format!("{path} is no directory")),
            Self::Deleted => Err(format!("{path} was deleted on the host under this mount")),
            Self::NotWritable(error) => Err(format!("{path}: nothing can be written: {error}")),
        }
    }
}
