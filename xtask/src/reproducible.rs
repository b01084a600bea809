//! Whether the same commit gives the same executable, wherever and by whom it is built.
//!
//! Two clones at two paths, each with a target directory and a home of cargo's of its own, are
//! built from nothing. rustc writes paths into an executable for the places of panics, so they are
//! remapped: the flags are those that a release is to be built with.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::run;

const NAME: &str = "gpu-device-plugin";

/// Builds the commit that is checked out, twice below `scratch`, and fails where the bytes differ.
pub(crate) fn check(root: &Path, scratch: &Path) -> anyhow::Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())?;
    }
    let builds = [
        Build { repository: scratch.join("one"), home: scratch.join("home") },
        // Longer paths, since a length could shift what follows.
        Build { repository: scratch.join("another/place/two"), home: scratch.join("another/home") },
    ];
    // Both before the first build, which takes minutes: a commit may come meanwhile.
    for build in &builds {
        build.check_out(root)?;
    }
    let (first, second) = (builds[0].run()?, builds[1].run()?);
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let (one, two) = (read(&first)?, read(&second)?);
    for build in &builds {
        for path in [&build.repository, &build.home] {
            ensure!(!contains(&one, path) && !contains(&two, path), "{} is in it", path.display());
        }
    }
    let at = one.iter().zip(&two).position(|(a, b)| a != b).unwrap_or(one.len().min(two.len()));
    ensure!(
        one == two,
        "{} ({} bytes) and {} ({} bytes) differ from byte {at} on",
        first.display(),
        one.len(),
        second.display(),
        two.len()
    );
    println!("two builds at two paths gave the same {} bytes", one.len());
    run(root, "sha256sum", &[&first.display().to_string(), &second.display().to_string()])
}

/// One of the two builds.
struct Build {
    /// Where the repository is cloned to.
    repository: PathBuf,
    /// Takes the place of `~/.cargo`.
    home: PathBuf,
}

impl Build {
    fn check_out(&self, root: &Path) -> anyhow::Result<()> {
        let paths = [root, &self.repository].map(|path| path.display().to_string());
        run(root, "git", &["clone", "--quiet", &paths[0], &paths[1]])
    }

    /// Builds, and returns where the executable is.
    fn run(&self) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.home).with_context(|| self.home.display().to_string())?;
        // What is downloaded is shared; its path is not.
        let registry = self.home.join("registry");
        std::os::unix::fs::symlink(cargo_home()?.join("registry"), &registry)
            .with_context(|| registry.display().to_string())?;
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--release", "--locked", "--package", NAME, "--bin", NAME]);
        cargo.current_dir(&self.repository).env("CARGO_HOME", &self.home);
        cargo.env("CARGO_TARGET_DIR", self.repository.join("target")).env_remove("RUSTFLAGS");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", remapped(&self.repository, &self.home));
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "the build in {} failed: {status}", self.repository.display());
        Ok(self.repository.join("target/release").join(NAME))
    }
}

/// rustc's flags that replace the paths of this machine, in the form of `CARGO_ENCODED_RUSTFLAGS`.
fn remapped(repository: &Path, home: &Path) -> OsString {
    let mut flags = OsString::new();
    for (from, to) in [(repository, "/build"), (home, "/cargo")] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push(format!("={to}"));
    }
    flags
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("there is no HOME")
}

fn contains(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    bytes.windows(path.len()).any(|window| window == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_remapped_by_a_flag_of_its_own() {
        assert_eq!(
            remapped(Path::new("/a b"), Path::new("/home")),
            "--remap-path-prefix=/a b=/build\u{1f}--remap-path-prefix=/home=/cargo"
        );
    }

    #[test]
    fn a_path_is_found_among_other_bytes() {
        assert!(contains(b"\0/build/x\0", Path::new("/build/x")));
        assert!(!contains(b"\0/build/y\0", Path::new("/build/x")));
    }
}
