//! The plugin's own hook program on the host, where container runtimes run it as root: a copy of
//! the one in the plugin's image, in a directory of its own.
//!
//! Its name has a hash of its content, so an update has another path, and containers that are being
//! made go on with the one that their configuration names. Old ones go when no pod holds a device,
//! or when there are too many.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::file::{self, Links};
use super::hook_directory;

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

/// What there is of the program on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookState {
    /// Why a runtime must not be told to run programs of the directory, if so.
    pub directory: Result<(), String>,
    /// The program of this version; or why that cannot be told.
    pub program: Result<InstalledProgram, String>,
}

/// Our program of this version on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledProgram {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Whether there is anything.
    pub is_there: bool,
    /// What is wrong with it, if it is not as it was installed.
    pub difference: Option<String>,
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
        hook_directory::check(&self.directory).map_err(|why| format!("{directory}: {why}"))?;
        let path = self.directory.join(name(&program));
        if self.is_dry_run || difference(&path, &program).is_none() {
            return Ok(path);
        }
        file::replace(&path, &program, MODE)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// What there is of the program on the host, for who looks for mistakes.
    #[must_use]
    pub fn examine(&self) -> HookState {
        let source = self.source.display();
        let program = file::read(&self.source, Links::Follow, MOST_BYTES)
            .map_err(|error| format!("there is no program to compare with: {source}: {error}"))
            .map(|program| {
                let path = self.directory.join(name(&program));
                let difference = difference(&path, &program);
                InstalledProgram { is_there: fs::symlink_metadata(&path).is_ok(), path, difference }
            });
        HookState { directory: hook_directory::check(&self.directory), program }
    }

    /// The programs that were installed, of this version and of others, and what a process that was
    /// killed meanwhile has left. No link is among them.
    #[must_use]
    pub fn installed(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> =
            programs(&self.directory).into_iter().map(|(_, path)| path).collect();
        found.sort();
        found
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

/// The name of a program with this content.
fn name(program: &[u8]) -> String {
    format!("{PREFIX}{}-{:016x}", env!("CARGO_PKG_VERSION"), file::hash(program))
}

/// What is wrong with the file at a path, if it is not as it was installed.
fn difference(path: &Path, program: &[u8]) -> Option<String> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Some("it is not there".to_owned()) };
    if !meta.is_file() {
        return Some("it is no regular file".to_owned());
    }
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if ![0, rustix::process::geteuid().as_raw()].contains(&owner) {
        return Some(format!("it belongs to user {owner}, and not to root"));
    }
    if mode != MODE {
        return Some(format!("its mode is {mode:04o}, and not {MODE:04o}"));
    }
    let there = file::read(path, Links::Refuse, MOST_BYTES);
    (there.ok().as_deref() != Some(program)).then(|| "its content was changed".to_owned())
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn paths(root: &Path) -> HookPaths {
        let (source, directory) = (root.join("source"), root.join("hook"));
        fs::write(&source, "a program").unwrap();
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        HookPaths { source, directory, is_dry_run: false }
    }

    fn files(paths: &HookPaths) -> Vec<PathBuf> {
        paths.installed()
    }

    #[test]
    fn a_program_is_installed_and_repaired() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let dry = HookPaths { is_dry_run: true, ..paths.clone() };
        let path = dry.install().unwrap();
        assert!(!path.exists());
        type Spoil = fn(&Path);
        let spoils: [(&str, Spoil); 4] = [
            ("it is not there", |path| fs::remove_file(path).unwrap()),
            ("its content was changed", |path| fs::write(path, "another").unwrap()),
            ("its mode is 0777, and not 0755", |path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            }),
            ("it is no regular file", |path| {
                fs::remove_file(path).unwrap();
                symlink("/bin/true", path).unwrap();
            }),
        ];
        for (difference, spoil) in spoils {
            assert_eq!(paths.install().unwrap(), path);
            let state = paths.examine();
            assert_eq!((&state.directory, state.program.unwrap().difference), (&Ok(()), None));
            spoil(&path);
            let found = paths.examine().program.unwrap();
            assert_eq!(found.difference.as_deref(), Some(difference));
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
    fn without_a_program_of_its_own_nothing_can_be_compared() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::remove_file(&paths.source).unwrap();
        let why = paths.examine().program.unwrap_err();
        assert!(why.starts_with("there is no program to compare with: "), "{why}");
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
