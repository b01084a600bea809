//! Files that others may have changed: opened without waiting for anybody, looked at as opened, and
//! read to a bound; and written so that nobody sees half of one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::util::random;

/// What becomes of a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is followed: the files of a ConfigMap are links.
    Follow,
    /// It is an error: it would show, or replace, a file that somebody else chose.
    Refuse,
}

/// Opens a regular file for reading. It waits for no writer of a pipe and no holder of a lease.
///
/// # Errors
/// It cannot be opened, or is no regular file: the error says what it is.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    open_and_look(path, links).map(|(file, _)| file)
}

fn open_and_look(path: &Path, links: Links) -> io::Result<(File, Metadata)> {
    let (look, more) = match links {
        Links::Follow => (fs::metadata(path), OFlags::empty()),
        Links::Refuse => (fs::symlink_metadata(path), OFlags::NOFOLLOW),
    };
    // To open a device can have an effect. It may be another file by the time that it is opened.
    regular(&look?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As of [`open`]; or it has more bytes, or they cannot be read.
pub fn read(path: &Path, links: Links, most: usize) -> io::Result<Vec<u8>> {
    let bytes = read_start(path, links, most.saturating_add(1))?;
    if bytes.len() > most {
        return Err(too_large(most));
    }
    Ok(bytes)
}

fn too_large(most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))
}

/// Reads the first `most` bytes of a regular file, or fewer if it has no more.
///
/// # Errors
/// As of [`open`]; or they cannot be read.
pub fn read_start(path: &Path, links: Links, most: usize) -> io::Result<Vec<u8>> {
    let (file, metadata) = open_and_look(path, links)?;
    // One byte more, with which the end of the file is seen.
    let size = usize::try_from(metadata.len()).unwrap_or(most).saturating_add(1);
    let mut bytes = Vec::with_capacity(size.min(most));
    file.take(most.try_into().unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A hash of a regular file of at most `most` bytes, as of [`hash`], without a copy of it in
/// memory.
///
/// # Errors
/// As of [`read`].
pub fn hash_of(path: &Path, links: Links, most: usize) -> io::Result<u64> {
    let mut file = open(path, links)?;
    let (mut hasher, mut length, mut part) = (DefaultHasher::new(), 0_usize, [0; 4096]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                length += count;
                if length > most {
                    return Err(too_large(most));
                }
                hasher.write(part.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A hash of a file's content, the same in every process of one build. Those of different contents
/// differ, but for a chance that does no harm.
#[must_use]
pub fn hash(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

/// Whether reading failed because of what is there, and not because it could not be read now.
#[must_use]
pub fn is_of_content(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, IsADirectory};
    matches!(error.kind(), FileTooLarge | InvalidData | InvalidInput | IsADirectory)
}

fn regular(file: &Metadata) -> io::Result<()> {
    let kind = file.file_type();
    let (what, error) = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => ("directory", io::ErrorKind::IsADirectory),
        () if kind.is_symlink() => ("symbolic link", io::ErrorKind::InvalidInput),
        () if kind.is_fifo() => ("FIFO", io::ErrorKind::InvalidInput),
        () if kind.is_socket() => ("socket", io::ErrorKind::InvalidInput),
        () => ("device", io::ErrorKind::InvalidInput),
    };
    Err(io::Error::new(error, format!("it is a {what}, not a regular file")))
}

/// Writes a file with this mode, whatever the umask is, beside the one that is there, syncs it, and
/// renames it into its place. A link there is replaced, not followed.
///
/// # Errors
/// A step failed. Before the last one, the syncing of the directory, the old file is untouched.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let unique = u128::from_ne_bytes(random::unique());
    let next = next_to(path, &format!("-{unique:032x}"));
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).custom_flags(flags).open(&next)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&next, path));
    if let Err(error) = written {
        // Whatever is left is removed by the next start.
        let _ = fs::remove_file(&next);
        return Err(error);
    }
    File::open(directory(path))?.sync_all()
}

/// Removes what a process that was killed while it replaced this file has left. To be called while
/// no other process replaces it.
pub fn remove_leftovers(path: &Path) {
    let Ok(entries) = fs::read_dir(directory(path)) else { return };
    let prefix = next_to(path, "");
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            // A directory stays: it is not of our making.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn next_to(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".next{suffix}"));
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "text").unwrap();
        fifo(&at("fifo"));
        fs::create_dir(at("directory")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["file", "fifo", "/dev/zero", "nowhere"] {
            symlink(name, at(&format!("link-{}", name.trim_start_matches("/dev/")))).unwrap();
        }
        let refused = |name: &str, links| open(&at(name), links).unwrap_err().to_string();
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("directory", "a directory"),
            ("socket", "a socket"),
            ("/dev/zero", "a device"),
        ] {
            for links in [Links::Follow, Links::Refuse] {
                let text = refused(name, links);
                assert_eq!(text, format!("it is {what}, not a regular file"));
            }
        }
        for name in ["link-file", "link-fifo", "link-zero", "link-nowhere"] {
            assert!(refused(name, Links::Refuse).contains("a symbolic link"), "{name}");
        }
        assert!(refused("link-fifo", Links::Follow).contains("a FIFO"));
        assert!(refused("link-zero", Links::Follow).contains("a device"));
        assert_eq!(read(&at("link-file"), Links::Follow, 4).unwrap(), b"text");
        let missing = open(&at("link-nowhere"), Links::Follow).unwrap_err();
        assert!(missing.kind() == io::ErrorKind::NotFound && !is_of_content(&missing));
    }

    #[test]
    fn the_hash_of_a_file_is_that_of_its_content_and_one_that_is_too_long_has_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        for length in [0, 1, 7, 4095, 4096, 4097, 10_000] {
            let content: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            fs::write(&path, &content).unwrap();
            assert_eq!(hash_of(&path, Links::Refuse, length).unwrap(), hash(&content), "{length}");
            assert_ne!(hash(&content), hash(&[&content[..], b"x"].concat()), "{length}");
        }
        let error = hash_of(&path, Links::Refuse, 9_999).unwrap_err();
        assert!(error.kind() == io::ErrorKind::FileTooLarge && is_of_content(&error));
    }

    #[test]
    fn what_is_exchanged_between_look_and_open_is_refused_too() {
        let place = tempfile::tempdir().unwrap();
        let (path, other) = (place.path().join("file"), place.path().join("fifo"));
        fs::write(&path, "").unwrap();
        fifo(&other);
        let exchanging = std::thread::spawn({
            let (path, other) = (path.clone(), other.clone());
            move || {
                for _ in 0..2000 {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, &path, CWD, &other, flags).unwrap();
                }
            }
        });
        while !exchanging.is_finished() {
            if let Err(error) = open(&path, Links::Refuse) {
                assert!(error.to_string().contains("a FIFO"), "{error}");
            }
        }
        exchanging.join().unwrap();
    }

    #[test]
    fn the_bound_is_exact_and_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read(&path, Links::Refuse, 100).unwrap().len(), 100);
        let error = read(&path, Links::Refuse, 99).unwrap_err();
        assert!(error.to_string() == "it has more than 99 bytes" && is_of_content(&error));
        assert_eq!(read_start(&path, Links::Refuse, 7).unwrap(), b"xxxxxxx");
    }

    #[test]
    fn a_file_is_replaced_whole_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("victim"), "untouched").unwrap();
        for link in ["health.json", "health.json.next"] {
            symlink("victim", at(link)).unwrap();
        }
        replace(&at("health.json"), b"new", 0o600).unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"untouched");
        assert_eq!(fs::read(at("health.json")).unwrap(), b"new");
        let there = fs::symlink_metadata(at("health.json")).unwrap();
        assert!(there.is_file() && there.mode() & 0o777 == 0o600);
        // A failure leaves nothing behind.
        fs::create_dir(at("directory")).unwrap();
        replace(&at("directory"), b"new", 0o600).unwrap_err();
        fs::write(at("health.json.next-0f"), "").unwrap();
        fs::create_dir(at("health.json.next-dir")).unwrap();
        remove_leftovers(&at("health.json"));
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["directory", "health.json", "health.json.next-dir", "victim"]);
    }
}
