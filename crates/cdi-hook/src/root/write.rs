//! Changes in a container: files and links that are replaced as a whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::ContainerRoot;

/// A directory of a container in which files may be made.
#[derive(Debug)]
pub struct WritableDirectory {
    fd: OwnedFd,
}

impl ContainerRoot {
    /// The directory at a path.
    ///
    /// # Errors
    /// There is none, or it is neither on the root's own file system nor in the container's `/dev`.
    pub fn writable(&self, path: &Path) -> io::Result<WritableDirectory> {
        Ok(WritableDirectory { fd: self.own(path, OFlags::DIRECTORY)? })
    }

    /// The directory at a path, which is made with the directories above it where there is none.
    ///
    /// # Errors
    /// As [`Self::writable`]; or one of them cannot be made.
    pub fn create_directories(&self, path: &Path) -> io::Result<WritableDirectory> {
        let mut so_far = PathBuf::from("/");
        let mut directory = self.writable(&so_far);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            so_far.push(name);
            let next = self.writable(&so_far);
            directory = match next {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make(&directory?, name)?;
                    self.writable(&so_far)
                }
                // What is above may be a link to elsewhere, and what is below its own again.
                next => next,
            };
        }
        directory
    }
}

impl ContainerRoot {
    /// Puts a file that everybody can read in the place of what is at a path, unless it has this
    /// content already, as in a container that is started again. The directory is made.
    ///
    /// # Errors
    /// As [`Self::create_directories`] and [`WritableDirectory::replace_file`].
    pub fn write(&self, directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let there = self.read(&directory.join(name), bytes.len());
        if there.is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        self.create_directories(directory)?.replace_file(name, bytes, 0o644)
    }
}

/// Makes a directory. One that somebody else has made meanwhile is as good.
fn make(directory: &WritableDirectory, name: &OsStr) -> io::Result<()> {
    match mkdirat(&directory.fd, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl WritableDirectory {
    /// Puts a file in the place of what has this name. Who reads it meanwhile reads the old one or
    /// the new one.
    ///
    /// # Errors
    /// The name is that of a directory or of a mount, or the system refuses it.
    pub fn replace_file(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let temporary = temporary_name()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd =
            openat(&self.fd, &*temporary, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        let written = file.write_all(bytes);
        let written = written.and_then(|()| Ok(fchmod(&file, Mode::from_raw_mode(mode))?));
        self.put(&temporary, name.as_ref(), written)
    }

    /// Puts a symbolic link in the place of what has this name.
    ///
    /// # Errors
    /// The name is that of a directory or of a mount, or the system refuses it.
    pub fn replace_with_link(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        let temporary = temporary_name()?;
        symlinkat(target, &self.fd, &*temporary)?;
        self.put(&temporary, name, Ok(()))
    }

    /// Whether a name is a link with this text.
    #[must_use]
    pub fn is_link_to(&self, name: &OsStr, target: &OsStr) -> bool {
        let text = readlinkat(&self.fd, name, Vec::new());
        text.is_ok_and(|text| text.as_bytes() == target.as_encoded_bytes())
    }

    /// Whether a name is a link, or is free.
    #[must_use]
    pub fn is_link_or_nothing(&self, name: &OsStr) -> bool {
        let text = readlinkat(&self.fd, name, Vec::new());
        matches!(text, Ok(_) | Err(Errno::NOENT))
    }

    /// Makes a directory of a new name, and opens it as a place for a mount.
    pub(crate) fn make_temporary_directory(&self) -> io::Result<(String, OwnedFd)> {
        let name = temporary_name()?;
        mkdirat(&self.fd, &*name, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, &*name, flags, Mode::empty())?;
        Ok((name, fd))
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    fn put(&self, temporary: &str, name: &OsStr, made: io::Result<()>) -> io::Result<()> {
        let put = made.and_then(|()| Ok(renameat(&self.fd, temporary, &self.fd, name)?));
        if put.is_err() {
            // The first error is the one that matters.
            let _ = unlinkat(&self.fd, temporary, AtFlags::empty());
        }
        put
    }
}

/// A name that no image can have been prepared for.
fn temporary_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!(".gpu-cdi-hook-{:016x}", u64::from_ne_bytes(bytes)))
}
