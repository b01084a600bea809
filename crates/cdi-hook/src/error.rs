//! Why a hook could not do its work.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a hook could not do its work. The runtime does not start the container.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The command line is not one of a hook.
    #[error("{0}")]
    Usage(String),
    /// The runtime's state, or the container's configuration, is not what OCI says.
    #[error("{0}")]
    State(String),
    /// A file of the container, or of the host.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// Its path; in the container, for a file of the container.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A limit for memory that cannot be set.
    #[error("the memory limit cannot be enforced: {0}")]
    MemoryLimit(String),
    /// Privileges that cannot be dropped.
    #[error("cannot drop privileges: {0}")]
    Privileges(io::Error),
    /// Without a second thread nobody would see that the first one hangs.
    #[error("cannot start a thread: {0}; see the limit of processes of whoever calls this")]
    Thread(io::Error),
    /// It has not ended in time.
    #[error(
        "it has taken more than {} s: does a disk or the container's file system hang?",
        .0.as_secs()
    )]
    Late(Duration),
}

impl HookError {
    /// Says of an error what was to be done with which file.
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.as_ref().to_owned(), source: source.into() }
    }
}
