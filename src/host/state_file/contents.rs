//! Reads the state file, whatever is there.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use tracing::warn;

use super::document::{Document, PersistedState, VERSION};
use crate::host::file::{self, Links};

/// The document's name in the state directory.
pub(super) const FILE: &str = "health.json";
/// The longest file that is read or written, in bytes: far longer than that of any node.
pub(super) const LONGEST: usize = 1 << 20;
/// How many files that could not be used are kept for a person to inspect, of each kind.
pub(super) const SET_ASIDE: u32 = 5;

/// How much is told of what is wrong with a file, in characters.
const LONGEST_ERROR: usize = 200;

/// What is in the file.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) state: PersistedState,
    /// How many of its entries are passed over, since they are malformed or too many.
    pub(super) dropped: usize,
}

/// What every version of the document has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

/// The file; `None` if there is none.
///
/// # Errors
/// It cannot be read; or it has not the form of ours, which [`file::is_of_content`] tells.
pub(super) fn read(path: &Path) -> io::Result<Option<Contents>> {
    let text = match file::read(path, Links::Refuse, LONGEST) {
        Ok(text) => text,
        Err(error) => {
            use io::ErrorKind::{NotADirectory, NotFound};
            let is_missing = matches!(error.kind(), NotFound | NotADirectory);
            return if is_missing { Ok(None) } else { Err(error) };
        }
    };
    let AnyVersion { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version != u64::from(VERSION) {
        let writer = if version > u64::from(VERSION) { NEWER } else { "by an unknown version" };
        let text = format!(
            "it was written {writer} of the plugin: it has format {version}, and this version \
             reads format {VERSION}"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let document: Document = serde_json::from_slice(&text).map_err(malformed)?;
    let (state, dropped) = document.into_state();
    Ok(Some(Contents { state, dropped }))
}

/// The error may quote what it has met.
fn malformed(error: serde_json::Error) -> io::Error {
    let text: String = error.to_string().chars().take(LONGEST_ERROR).collect();
    io::Error::new(io::ErrorKind::InvalidData, text)
}

const NEWER: &str = "by a newer version";

/// Renames a file that cannot be used to the first name that is free, or the last.
pub(super) fn set_aside(path: &Path, why: &io::Error) {
    let why = why.to_string();
    let kind = if why.contains(NEWER) { "newer" } else { "corrupt" };
    let name = |n| path.with_extension(format!("json.{kind}-{n}"));
    let is_free = |aside: &_| fs::symlink_metadata(aside).is_err();
    let aside = (1..SET_ASIDE).map(name).find(is_free).unwrap_or_else(|| name(SET_ASIDE));
    let renamed = fs::rename(path, &aside);
    warn!(
        file = %path.display(), why,
        "the state file cannot be read: what GPUs went through before this start is forgotten; {}",
        match renamed {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(error) => format!("it cannot be set aside either: {error}"),
        }
    );
}
