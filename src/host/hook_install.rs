//! The plugin's own hook program on the host, where container runtimes run it as root: a copy of
//! the one in the plugin's image, in a directory of its own.
//!
//! Its name has a hash of its content, so an update has another path, and containers that are being
//! made go on with the one that their configuration names. Old ones go when no pod holds a device,
//! or when there are too many.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, openat2, statvfs};
use rustix::io::Errno;

use super::file::{self, Links};

/// The most bytes of the program. It has less than 1.5 MB.
const MOST_BYTES: usize = 8 << 20;
/// Everybody may run it, and root alone change it.
const MODE: u32 = 0o755;
const PREFIX: &str = "gpu-cdi-hook-";
/// How many old programs stay while pods hold devices.
const MOST_OLD: usize = 4;
/// The most entries of the directory that are looked at.
const MOST_ENTRIES: usize = 1024;

/// Where the program is, and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookPaths {
    /// The program in the plugin's own image.
    pub source: PathBuf,
    /// The directory on the host, which has the same path in the plugin's container.
    pub directory: PathBuf,
    /// Whether it is only to be said where it would be.
    pub is_dry_run: bool,
}

impl HookPaths {
    /// Whether there is a program, and a directory for it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.source.exists() && self.directory.exists()
    }

    /// Sees that the program is in the directory, as it is in the image, and returns its path.
    ///
    /// # Errors
    /// Why it cannot be there, or must not be run from there, in words.
    pub fn install(&self) -> Result<PathBuf, String> {
        let program = file::read(&self.source, Links::Follow, MOST_BYTES)
            .map_err(|error| format!("{}: {error}", self.source.display()))?;
        check_kernel()?;
        let directory = self.directory.display();
        check_directory(&self.directory).map_err(|why| format!("{directory}: {why}"))?;
        let path = self.directory.join(name(&program));
        if self.is_dry_run || is_as_wanted(&path, &program) {
            return Ok(path);
        }
        file::replace(&path, &program, MODE)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Removes programs other than `current`: all of them where no container can refer to one,
    /// otherwise the oldest beyond a few.
    pub fn clean_up(&self, current: Option<&Path>, is_in_use: bool) {
        if self.is_dry_run {
            return;
        }
        let mut old = programs(&self.directory);
        old.retain(|(_, path)| Some(path.as_path()) != current);
        old.sort();
        let stay = if is_in_use { MOST_OLD } else { 0 };
        let end = old.len().saturating_sub(stay);
        for (_, path) in &old[..end] {
            // The next one tries again.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether the kernel can resolve paths in a container's root, as the program has it do.
fn check_kernel() -> Result<(), String> {
    match openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOSYS) => Err("the kernel has no openat2, which came with Linux 5.6".to_owned()),
        _ => Ok(()),
    }
}

/// Whether a runtime may be told to run programs of a directory: nobody else can put one there, and
/// the file system lets them run.
fn check_directory(directory: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such directory; mount the host's at the same path".to_owned()
        }
        _ => error.to_string(),
    })?;
    if !meta.is_dir() {
        return Err("it is no directory".to_owned());
    }
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {owner}, and not to root"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("others than its owner may write to it: its mode is {mode:04o}"));
    }
    let flags = statvfs(directory).map_err(|error| error.to_string())?.f_flag;
    if flags.contains(StatVfsMountFlags::NOEXEC) {
        return Err("it is on a file system that is mounted noexec".to_owned());
    }
    Ok(())
}

/// The name of a program with this content.
fn name(program: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    format!("{PREFIX}{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish())
}

fn is_as_wanted(path: &Path, program: &[u8]) -> bool {
    let is_ours = |meta: fs::Metadata| {
        meta.permissions().mode() & 0o7777 == MODE
            && [0, rustix::process::geteuid().as_raw()].contains(&meta.uid())
    };
    fs::symlink_metadata(path).is_ok_and(is_ours)
        && file::read(path, Links::Refuse, MOST_BYTES).is_ok_and(|there| there == program)
}

/// The programs in a directory with the time at which each was written, in seconds and nanoseconds.
fn programs(directory: &Path) -> Vec<((i64, i64), PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().take(MOST_ENTRIES).flatten();
    let named = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    let of_entry = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(((meta.mtime(), meta.mtime_nsec()), entry.path()))
    };
    named.filter_map(of_entry).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(root: &Path) -> HookPaths {
        let (source, directory) = (root.join("source"), root.join("hook"));
        fs::write(&source, "a program").unwrap();
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        HookPaths { source, directory, is_dry_run: false }
    }

    fn files(paths: &HookPaths) -> Vec<PathBuf> {
        programs(&paths.directory).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn a_program_is_installed_and_repaired() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let dry = HookPaths { is_dry_run: true, ..paths.clone() };
        let path = dry.install().unwrap();
        assert!(!path.exists());
        for spoil in [
            |_: &Path| {},
            |path: &Path| fs::write(path, "another").unwrap(),
            |path: &Path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            },
            |path: &Path| {
                fs::remove_file(path).unwrap();
                symlink("/bin/true", path).unwrap();
            },
        ] {
            assert_eq!(paths.install().unwrap(), path);
            assert!(is_as_wanted(&path, b"a program"));
            spoil(&path);
        }
        assert_eq!(paths.install().unwrap(), path);
        let before = fs::metadata(&path).unwrap().ino();
        assert_eq!(paths.install().unwrap(), path);
        assert_eq!(
            fs::metadata(&path).unwrap().ino(),
            before,
            "what is right is not written again"
        );
    }

    #[test]
    fn an_old_program_stays_while_it_is_used() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let mut current = paths.install().unwrap();
        for n in 0..8 {
            fs::write(&paths.source, format!("program {n}")).unwrap();
            current = paths.install().unwrap();
        }
        fs::write(paths.directory.join("of-somebody-else"), "").unwrap();
        paths.clean_up(Some(&current), true);
        assert_eq!(files(&paths).len(), 1 + MOST_OLD);
        assert!(current.exists());
        paths.clean_up(Some(&current), false);
        assert_eq!(files(&paths), std::slice::from_ref(&current));
        paths.clean_up(None, false);
        assert!(files(&paths).is_empty());
        assert!(paths.directory.join("of-somebody-else").exists());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::set_permissions(&paths.directory, fs::Permissions::from_mode(0o775)).unwrap();
        assert!(paths.install().unwrap_err().ends_with("its mode is 0775"));
        fs::remove_dir(&paths.directory).unwrap();
        assert!(paths.install().unwrap_err().contains("there is no such directory"));
        symlink(root.path(), &paths.directory).unwrap();
        assert!(paths.install().unwrap_err().ends_with("it is no directory"));
        fs::remove_file(&paths.source).unwrap();
        assert!(paths.install().unwrap_err().starts_with(&*paths.source.display().to_string()));
    }
}
