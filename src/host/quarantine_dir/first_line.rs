//! The first line of a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How much of a file's text is read.
const TEXT: u64 = 4096;

/// The first line of a file, without control characters.
pub(super) fn first_line(file: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(file)?.take(TEXT).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let line = text.trim().lines().next().unwrap_or_default();
    Ok(line.chars().filter(|c| !c.is_control()).collect())
}
