//! The version of NVIDIA's toolkit, as its programs have it in them.
//!
//! A program of the host is not run to ask it: it would run as root among the files of the plugin's
//! image, and may hang. Go's linker records how it was called in what it links (`go version -m`
//! prints it), unless `-trimpath` is given, and NVIDIA's build of the toolkit passes the version to
//! it (the toolkit's Makefile: `-X .../internal/info.version=`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use crate::host::file::{self, Links};

/// What stands before the version.
const MARK: &[u8] = b"nvidia-container-toolkit/internal/info.version=";
/// The longest version that is read, in bytes.
const LONGEST: usize = 32;
/// The most bytes of a program that are read; it has about ten million.
const MOST_BYTES: u64 = 64 << 20;
/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// A version of the toolkit.
pub(super) type Version = (u32, u32, u32);

/// The version of the program that was last looked at, so that it is read only once.
#[derive(Debug, Default)]
pub struct HookVersions(Option<(Stamp, Option<Recorded>)>);

/// A version that a program has in it; `None`: it is not that of a release.
pub(super) type Recorded = Option<Version>;

/// What tells whether a file is the same, with the same content.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl HookVersions {
    /// The version that a program has in it; `None`: it has none.
    pub(super) fn of(&mut self, program: &Path) -> Option<Recorded> {
        let program = behind_wrapper(program);
        let stamp = stamp(&program)?;
        if let Some((known, version)) = &self.0
            && *known == stamp
        {
            return *version;
        }
        let version = recorded(&program).ok().flatten();
        self.0 = Some((stamp, version));
        version
    }
}

/// The program that a script runs: NVIDIA's installer for containers puts one in the place of each
/// program, which has another name then.
fn behind_wrapper(program: &Path) -> PathBuf {
    let mut real = program.as_os_str().to_owned();
    real.push(".real");
    let real = PathBuf::from(real);
    let is_script = file::read_start(program, Links::Refuse, 2).is_ok_and(|start| start == b"#!");
    if is_script && real.is_file() { real } else { program.to_owned() }
}

fn stamp(program: &Path) -> Option<Stamp> {
    let file = fs::symlink_metadata(program).ok()?;
    Some(Stamp {
        path: program.to_owned(),
        inode: (file.dev(), file.ino()),
        length: file.len(),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}

fn recorded(program: &Path) -> io::Result<Option<Recorded>> {
    let mut file = file::open(program, Links::Refuse)?.take(MOST_BYTES);
    let finder = Finder::new(MARK);
    let mut bytes = Vec::with_capacity(CHUNK + MARK.len() + LONGEST);
    loop {
        let read = fill(&mut file, &mut bytes)?;
        let begin = finder.find(&bytes).map(|at| at + MARK.len());
        match begin {
            // More of it may follow.
            Some(begin) if read > 0 && bytes.len() - begin < LONGEST => {
                bytes.drain(..begin - MARK.len());
            }
            Some(begin) => return Ok(Some(version(&bytes[begin..]))),
            None if read == 0 => return Ok(None),
            // The mark may lie across two chunks.
            None => drop(bytes.drain(..bytes.len().saturating_sub(MARK.len()))),
        }
    }
}

/// Adds the next bytes of a file; how many.
fn fill(file: &mut io::Take<File>, bytes: &mut Vec<u8>) -> io::Result<usize> {
    file.by_ref().take(CHUNK as u64).read_to_end(bytes)
}

/// The version at the beginning of some bytes. A candidate for a release has a suffix, and may lack
/// what the release has.
fn version(bytes: &[u8]) -> Option<Version> {
    let is_of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-+~_".contains(byte);
    let word: Vec<u8> = bytes.iter().take(LONGEST).take_while(is_of_word).copied().collect();
    let mut parts = std::str::from_utf8(&word).ok()?.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with these bytes in the middle of others.
    fn program(directory: &Path, name: &str, before: usize, text: &str) -> PathBuf {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(before, 0x55);
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len() + 1000, 0);
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// As Go's linker records how it was called.
    fn record(version: &str) -> String {
        format!(
            "build\t-ldflags=\"-s -w '-extldflags=-Wl,-z,lazy' -X \
             github.com/NVIDIA/nvidia-container-toolkit/internal/info.gitCommit=abc -X \
             github.com/NVIDIA/nvidia-container-toolkit/internal/info.version={version} \"\n"
        )
    }

    #[test]
    fn the_version_is_the_one_that_the_linker_has_recorded() {
        let place = tempfile::tempdir().unwrap();
        for (text, expected) in [
            (record("1.17.8"), Some(Some((1, 17, 8)))),
            (record("1.20.0").replace(" \"", "\""), Some(Some((1, 20, 0)))),
            (record("1.18.0-rc.1"), Some(None)),
            (record("1.18.0~rc.1"), Some(None)),
            (record("v1.19.1-own.1"), Some(None)),
            (record("1.18"), Some(None)),
            (record("1.2.3.4"), Some(None)),
            (record(""), Some(None)),
            (record("99999999999.1.1"), Some(None)),
            ("build\t-trimpath=true\n".to_owned(), None),
        ] {
            // Also across the places where what is read at once ends.
            for before in [10, CHUNK - 200, CHUNK - 30, CHUNK - 1, CHUNK, 2 * CHUNK - 120] {
                let path = program(place.path(), "hook", before, &text);
                let found = HookVersions::default().of(&path);
                assert_eq!(found, expected, "{text:?} at {before}");
            }
        }
    }

    #[test]
    fn a_program_is_read_once_and_again_when_it_is_another_one() {
        let place = tempfile::tempdir().unwrap();
        let mut versions = HookVersions::default();
        let path = program(place.path(), "hook", 10, &record("1.17.8"));
        assert_eq!(versions.of(&path), Some(Some((1, 17, 8))));
        let known = versions.0.as_ref().map(|(_, version)| *version);
        assert_eq!(known, Some(Some(Some((1, 17, 8)))));
        let next = program(place.path(), "next", 10, &record("1.16.1"));
        fs::rename(next, &path).unwrap();
        assert_eq!(versions.of(&path), Some(Some((1, 16, 1))));
    }

    #[test]
    fn what_a_script_runs_is_looked_at_in_its_place() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("nvidia-cdi-hook");
        fs::write(&script, format!("#!/bin/sh\n# {}\n", record("1.99.0"))).unwrap();
        program(place.path(), "nvidia-cdi-hook.real", 10, &record("1.17.7"));
        assert_eq!(HookVersions::default().of(&script), Some(Some((1, 17, 7))));
    }

    #[test]
    fn what_is_no_program_has_no_version_and_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [fifo, place.path().to_owned(), place.path().join("absent")] {
            assert_eq!(HookVersions::default().of(&path), None, "{path:?}");
        }
    }
}
