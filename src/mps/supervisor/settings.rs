//! What the supervisor works with, and how it shows texts of others.

use std::path::PathBuf;

use crate::host::dir_watch::Watches;
use crate::mps::MpsPaths;
use crate::mps::programs::DriverPrograms;

/// The longest text of an error that is passed on, in characters.
const MAX_TEXT: usize = 500;

/// What the supervisor works with.
#[derive(Clone)]
pub struct SupervisorSettings {
    /// The driver's programs.
    pub programs: DriverPrograms,
    /// The directories of the daemons.
    pub paths: MpsPaths,
    /// SELinux's file system, if it is mounted.
    pub selinux: PathBuf,
    /// The watches of directories.
    pub watches: Watches,
}

/// A text of somebody else's, in one line of bounded length.
pub(super) fn log_text(text: &str) -> String {
    let start: String = text.trim().chars().take(MAX_TEXT).collect();
    status::escaped(&start).to_string()
}
