//! The root of a container, beneath which every path is resolved.
//!
//! The kernel does it (openat2 with `RESOLVE_IN_ROOT`, Linux 5.6): a link to an absolute path and
//! a `..` stay in the root, also while somebody renames directories. What is found is held by a
//! descriptor, and a later look-up begins at the root again.

mod directory;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, fstat, fstatfs, openat, openat2,
};
use rustix::io::Errno;
use rustix::path::DecInt;

pub use directory::{Entries, Entry};
pub use write::WritableDirectory;

/// The file systems of the kernel's and of networks, by their magic numbers (linux/magic.h): to
/// read of the former can have effects on the host, and of the latter can take for ever. FUSE and
/// network file systems are read only where the root itself is one.
const REFUSED_FILE_SYSTEMS: [u32; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x1980_0202, // mqueue
    0x0187,      // autofs
    0x6573_5546, // fuse
    0x6969,      // nfs
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x00c3_6400, // ceph
    0x0102_1997, // 9p
    0x0bd0_0bd0, // lustre
];
const TMPFS: u32 = 0x0102_1994;
/// How often a look-up is tried again that somebody's renaming has disturbed (EAGAIN).
const TRIES: usize = 128;

/// The root of a container.
#[derive(Debug)]
pub struct ContainerRoot {
    fd: OwnedFd,
    /// The file system of the root.
    device: u64,
    /// `/proc/self/fd`: by a name in it a file that was looked at is opened, and no other one.
    descriptors: OwnedFd,
}

/// A regular file of a container, which is not open yet.
#[derive(Debug)]
pub struct RegularFile<'r> {
    root: &'r ContainerRoot,
    fd: OwnedFd,
    /// The file system and the inode, by which two names of one file are known.
    pub id: (u64, u64),
    /// Bytes.
    pub size: u64,
}

impl ContainerRoot {
    /// Opens the root of a container by its path on the host.
    ///
    /// # Errors
    /// It is no directory, or the host's own root; or the kernel has no openat2, or `/proc` is not
    /// the process file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        let host = rustix::fs::stat("/")?;
        if id(&stat) == id(&host) {
            return Err(io::Error::other("it is the root of the host"));
        }
        let descriptors = openat(CWD, "/proc/self/fd", flags, Mode::empty())?;
        if file_system(&descriptors)? != REFUSED_FILE_SYSTEMS[0] {
            return Err(io::Error::other("/proc is not the process file system"));
        }
        let root = Self { fd, device: id(&stat).0, descriptors };
        root.look_up(Path::new("/"), OFlags::DIRECTORY, ResolveFlags::empty()).map_err(
            |error| match error {
                Errno::NOSYS => io::Error::other("the kernel has no openat2: Linux 5.6 is needed"),
                error => error.into(),
            },
        )?;
        Ok(root)
    }

    /// Whether there is something at a path, after all links.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        self.look_up(path, OFlags::empty(), ResolveFlags::empty()).is_ok()
    }

    /// The regular file at a path, after all links.
    ///
    /// # Errors
    /// There is none, or it is on a file system that is not read.
    pub fn file(&self, path: &Path) -> io::Result<RegularFile<'_>> {
        self.regular(self.look_up(path, OFlags::empty(), ResolveFlags::empty())?)
    }

    /// Reads the regular file at a path.
    ///
    /// # Errors
    /// As [`Self::file`]; or it has more than `most` bytes.
    pub fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        self.file(path)?.read(most)
    }

    /// Reads a file of the kernel's at a path without links, which is mounted in the container.
    ///
    /// # Errors
    /// There is none, or it has more than `most` bytes.
    pub fn read_kernel_file(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let fd = self.kernel_file(path)?;
        let id = id(&fstat(&fd)?);
        RegularFile { root: self, fd, id, size: 0 }.read(most)
    }

    /// A regular file at a path without links, on whatever file system. It is held, not open.
    pub(crate) fn kernel_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let fd = self.look_up(path, OFlags::empty(), ResolveFlags::NO_SYMLINKS)?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd),
            _ => Err(io::Error::other("it is no regular file")),
        }
    }

    /// Sets the permissions of a directory or a device node. Nothing else has them changed: a file
    /// of the image is the image's affair.
    ///
    /// # Errors
    /// There is nothing at the path, it is something else, or it is neither on the root's own file
    /// system nor in the container's `/dev`.
    pub fn chmod(&self, path: &Path, mode: u32) -> io::Result<()> {
        let fd = self.own(path, OFlags::empty())?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Directory | FileType::CharacterDevice => {}
            _ => return Err(io::Error::other("it is neither a directory nor a character device")),
        }
        let name = DecInt::from_fd(&fd);
        Ok(chmodat(
            &self.descriptors,
            name,
            Mode::from_raw_mode(mode),
            rustix::fs::AtFlags::empty(),
        )?)
    }

    /// What is at a path that may be changed: on the mount of the root itself, or in the
    /// container's `/dev`, which the runtime has made. It is held, not open.
    fn own(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        match self.look_up(path, flags, ResolveFlags::NO_XDEV) {
            Err(Errno::XDEV) if path.starts_with("/dev") => {
                let fd = self.look_up(path, flags, ResolveFlags::NO_SYMLINKS)?;
                match file_system(&fd)? {
                    TMPFS => Ok(fd),
                    _ => Err(io::Error::other("it is on a volume that is not the container's own")),
                }
            }
            Err(Errno::XDEV) => {
                Err(io::Error::other("it is on a volume, and not on the container's own root"))
            }
            found => Ok(found?),
        }
    }

    /// Looks a path up beneath the root. What is found is held, not open.
    fn look_up(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => {}
                found => return found,
            }
        }
    }

    fn regular(&self, fd: OwnedFd) -> io::Result<RegularFile<'_>> {
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        self.refuse_foreign(&fd, &stat)?;
        let (id, size) = (id(&stat), u64::try_from(stat.st_size).unwrap_or_default());
        Ok(RegularFile { root: self, fd, id, size })
    }

    /// Refuses what is on a file system that is not read.
    fn refuse_foreign(&self, fd: &OwnedFd, stat: &Stat) -> io::Result<()> {
        if id(stat).0 == self.device || !REFUSED_FILE_SYSTEMS.contains(&file_system(fd)?) {
            return Ok(());
        }
        Err(io::Error::other("it is on a file system of the kernel's or of a network"))
    }
}

impl RegularFile<'_> {
    /// Opens it for reading.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let name = DecInt::from_fd(&self.fd);
        Ok(openat(&self.root.descriptors, name, flags, Mode::empty())?.into())
    }

    /// The last name on the path where the file is, after all links.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn name(&self) -> io::Result<Vec<u8>> {
        let name = DecInt::from_fd(&self.fd);
        let path = rustix::fs::readlinkat(&self.root.descriptors, name, Vec::new())?.into_bytes();
        Ok(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_owned())
    }

    /// All of it.
    ///
    /// # Errors
    /// It cannot be read, or it has more than `most` bytes.
    pub fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(bytes)
    }
}

/// The file system and the inode.
fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The magic number of the file system.
fn file_system(fd: &OwnedFd) -> io::Result<u32> {
    // It has 32 bits on every system; its type is wider on some.
    Ok(fstatfs(fd)?.f_type as u32)
}
