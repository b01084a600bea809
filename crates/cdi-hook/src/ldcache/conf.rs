//! The loader's configuration, `ld.so.conf` and what it includes (ldconfig(8)).

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::glob::{self, Budget};
use crate::error::HookError;
use crate::limits;
use crate::root::ContainerRoot;

/// The configuration.
pub const FILE: &str = "/etc/ld.so.conf";
/// Where packages have their part of it.
pub const DIRECTORY: &str = "/etc/ld.so.conf.d";
/// The part with the compatibility libraries of CUDA. It comes first.
pub const CUDA_COMPAT: &str = "00-compat-gpu-device-plugin.conf";
/// The part with the directories of the driver's libraries.
pub const FOLDERS: &str = "00-nvcr-gpu-device-plugin.conf";

/// What Debian's loader, and that of its relatives, looks through by itself; they have a directory
/// for each architecture.
const MULTIARCH: [&str; 4] = if cfg!(target_arch = "aarch64") {
    ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib"]
} else {
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"]
};
/// What others look through (glibc's sysdeps/unix/sysv/linux/x86_64/dl-cache.h, `add_system_dir`).
const MULTILIB: [&str; 6] = ["/lib", "/lib64", "/libx32", "/usr/lib", "/usr/lib64", "/usr/libx32"];

/// Sees that the configuration includes its directory, where there is none at all.
///
/// # Errors
/// It cannot be written.
pub fn ensure(root: &ContainerRoot) -> Result<(), HookError> {
    let file = Path::new(FILE);
    if root.exists(file) {
        return Ok(());
    }
    let text = format!("include {DIRECTORY}/*.conf\n");
    root.write(Path::new("/etc"), "ld.so.conf", text.as_bytes())
        .map_err(HookError::file("write", file))
}

/// Writes a part of the configuration.
///
/// # Errors
/// It cannot be written.
pub fn write(root: &ContainerRoot, name: &str, folders: &[&Path]) -> Result<(), HookError> {
    let lines = folders.iter().map(|folder| [folder.as_os_str().as_bytes(), b"\n"].concat());
    let bytes: Vec<u8> = lines.flatten().collect();
    root.write(Path::new(DIRECTORY), name, &bytes)
        .map_err(HookError::file("write", Path::new(DIRECTORY).join(name)))
}

/// The directories in which libraries are looked for, each once: `folders` where the configuration
/// does not name them, what it names, and those of the system.
pub fn directories(
    root: &ContainerRoot,
    folders: &[&Path],
    notes: &mut Vec<String>,
) -> Vec<PathBuf> {
    let names = Budget(limits::GLOB_NAMES);
    let bytes = limits::CONF_BYTES;
    let mut reader = Reader { root, found: Vec::new(), files: 0, bytes, names, is_cut: false };
    reader.read(Path::new(FILE), 0);
    if reader.is_cut {
        notes.push(format!("{FILE} names more than is read: only a part of it counts"));
    }
    let named = reader.found;
    let unnamed = folders.iter().filter(|folder| !named.iter().any(|path| path == *folder));
    let unnamed: Vec<_> = unnamed.map(|folder| folder.to_path_buf()).collect();
    let is_multiarch = MULTIARCH[..2].iter().any(|path| root.directory_id(Path::new(path)).is_ok());
    let system: &[&str] = if is_multiarch { &MULTIARCH } else { &MULTILIB };
    let system = system.iter().map(PathBuf::from);
    unnamed.into_iter().chain(named).chain(system).collect()
}

struct Reader<'r> {
    root: &'r ContainerRoot,
    found: Vec<PathBuf>,
    files: usize,
    /// How many bytes may still be read.
    bytes: usize,
    names: Budget,
    is_cut: bool,
}

impl Reader<'_> {
    /// Reads a file and what it includes. One that cannot be read names nothing.
    fn read(&mut self, path: &Path, depth: usize) {
        if depth > limits::CONF_DEPTH || self.files >= limits::CONF_FILES {
            self.is_cut = true;
            return;
        }
        self.files += 1;
        let text = match self.root.read(path, self.bytes) {
            Ok(text) => text,
            Err(error) => {
                self.is_cut |= error.kind() != ErrorKind::NotFound;
                return;
            }
        };
        self.bytes -= text.len();
        for line in text.split(|byte| *byte == b'\n') {
            self.line(line, path, depth);
        }
    }

    fn line(&mut self, line: &[u8], file: &Path, depth: usize) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        match first {
            b"" => {}
            b"include" if line.len() > first.len() => {
                words.for_each(|pattern| self.include(pattern, file, depth));
            }
            // It was a directive up to glibc 2.36, and has no effect since.
            b"hwcap" if line.len() > first.len() => {}
            _ => self.directory(line),
        }
    }

    fn include(&mut self, pattern: &[u8], file: &Path, depth: usize) {
        let pattern = Path::new(std::ffi::OsStr::from_bytes(pattern));
        let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
        let paths = glob::paths(self.root, &pattern, limits::CONF_FILES, &mut self.names);
        self.is_cut |= self.names.0 == 0;
        for path in paths {
            self.read(&path, depth + 1);
        }
    }

    fn directory(&mut self, line: &[u8]) {
        // `DIRECTORY=TYPE` names the C library of its libraries, and there is but one.
        let path = line.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
        let path = Path::new(std::ffi::OsStr::from_bytes(path.get(..end).unwrap_or_default()));
        let is_long = path.as_os_str().len() > limits::CONF_PATH_BYTES;
        if is_long || !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
            return;
        }
        if self.found.len() >= limits::DIRECTORIES {
            self.is_cut = true;
        } else if !self.found.iter().any(|found| found == path) {
            self.found.push(path.to_owned());
        }
    }
}
