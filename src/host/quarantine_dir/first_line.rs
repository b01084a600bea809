//! The first line of a file.

use std::io;
use std::path::Path;

use crate::host::file::{self, Links};

/// How much of a file's text is read, in bytes.
pub(super) const TEXT: usize = 4096;

/// The first line of a regular file, without control characters. A link is not followed: it would
/// show the text of any file.
pub(super) fn first_line(path: &Path) -> io::Result<String> {
    let text = file::read_start(path, Links::Refuse, TEXT)?;
    let text = String::from_utf8_lossy(&text);
    let line = text.trim().lines().next().unwrap_or_default();
    Ok(line.chars().filter(|c| !c.is_control()).collect())
}
