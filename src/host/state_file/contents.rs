//! Reads the state file, whatever is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::warn;

use super::document::{Decoded, Document, PersistedState, VERSION};
use super::unknown::{self, Unknown};
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
    /// What this version does not know and keeps for the one that does.
    pub(super) unknown: Unknown,
    /// Its bytes, if a newer version of the plugin has written it in a format of its own.
    pub(super) newer: Option<Vec<u8>>,
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
    let is_newer = version > u64::from(VERSION);
    if !is_newer && version != u64::from(VERSION) {
        return Err(of_format(version, "by an unknown version"));
    }
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| if is_newer { of_format(version, NEWER) } else { malformed(error) })?;
    let Decoded { state, unknown_causes, dropped } = document.decode();
    // Those of a newer format can mean something else in this one. The whole file is kept.
    let members = if is_newer { None } else { unknown::members(&text).ok() };
    let boot = &state.health.epoch.boot;
    let unknown = Unknown::of(boot, members.unwrap_or_default(), unknown_causes);
    Ok(Some(Contents { state, dropped, unknown, newer: is_newer.then_some(text) }))
}

fn of_format(version: u64, writer: &str) -> io::Error {
    let text = format!(
        "it was written {writer} of the plugin: it has format {version}, and this version reads \
         format {VERSION}"
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
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
    let kind = if why.contains(NEWER) { NEWER_KIND } else { "corrupt" };
    let is_free = |aside: &PathBuf| fs::symlink_metadata(aside).is_err();
    let aside = aside_names(path, kind).find(is_free);
    let aside = aside.unwrap_or_else(|| aside_name(path, kind, SET_ASIDE));
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

/// Keeps a copy of a file of a newer version under the first name that is free or has it already,
/// or the last.
///
/// # Errors
/// It cannot be written.
pub(super) fn keep_newer(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    for aside in aside_names(path, NEWER_KIND) {
        match file::read(&aside, Links::Refuse, LONGEST) {
            Ok(there) if there == bytes => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return write_aside(aside, bytes);
            }
            _ => {}
        }
    }
    write_aside(aside_name(path, NEWER_KIND, SET_ASIDE), bytes)
}

fn write_aside(aside: PathBuf, bytes: &[u8]) -> io::Result<PathBuf> {
    file::remove_leftovers(&aside);
    file::replace(&aside, bytes, 0o644)?;
    Ok(aside)
}

const NEWER_KIND: &str = "newer";

fn aside_names(path: &Path, kind: &'static str) -> impl Iterator<Item = PathBuf> {
    (1..=SET_ASIDE).map(move |n| aside_name(path, kind, n))
}

fn aside_name(path: &Path, kind: &str, n: u32) -> PathBuf {
    path.with_extension(format!("json.{kind}-{n}"))
}
