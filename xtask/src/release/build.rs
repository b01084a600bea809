//! The executables of a release, without a path of the machine that built them.
//!
//! rustc writes paths into an executable for the places of panics, so they are remapped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::run;

/// The packages that a release has an executable of, with its name. The last one is linked
/// statically and has a profile of its own.
pub(crate) const EXECUTABLES: [(&str, &str); 3] = [
    ("gpu-device-plugin", "gpu-device-plugin"),
    ("gpu-node-agent", "gpu-node-agent"),
    ("cdi-hook", "gpu-cdi-hook"),
];

/// The package, and its executable, that is for laptops: in an archive of its own and in no image.
pub(crate) const KUBECTL_GPU: &str = "kubectl-gpu";

/// Where the executables of a release are.
#[derive(Debug)]
pub(crate) struct Executables {
    /// Those for nodes, in the order of [`EXECUTABLES`].
    pub(crate) node: Vec<PathBuf>,
    /// That of [`KUBECTL_GPU`].
    pub(crate) kubectl_gpu: PathBuf,
}

impl Executables {
    /// Those in a directory.
    pub(crate) fn within(directory: &Path) -> Self {
        let node = EXECUTABLES.map(|(_, name)| directory.join(name)).into();
        Self { node, kubectl_gpu: directory.join(KUBECTL_GPU) }
    }
}

/// A place to build in.
#[derive(Debug)]
pub(crate) struct Build {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// `~/.cargo`, or what takes its place.
    pub(crate) home: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// The triple to build for.
    pub(crate) triple: String,
}

impl Build {
    /// Clones a repository to this place, with a home of cargo's that shares only what is
    /// downloaded.
    pub(crate) fn check_out(&self, root: &Path) -> anyhow::Result<()> {
        let paths = [root, &self.repository].map(|path| path.display().to_string());
        run(root, "git", &["clone", "--quiet", &paths[0], &paths[1]])?;
        std::fs::create_dir_all(&self.home).with_context(|| self.home.display().to_string())?;
        let registry = self.home.join("registry");
        std::os::unix::fs::symlink(cargo_home()?.join("registry"), &registry)
            .with_context(|| registry.display().to_string())
    }

    /// Builds, and returns where the executables are.
    pub(crate) fn executables(&self) -> anyhow::Result<Executables> {
        let [ordinary @ .., hook] = &EXECUTABLES;
        let ordinary = [ordinary, &[(KUBECTL_GPU, KUBECTL_GPU)][..]].concat();
        let mut node = self.cargo("release", &self.triple, &ordinary, &[])?;
        let kubectl_gpu = node.pop().context("nothing was built")?;
        // As image/build-hook does.
        let musl = self.triple.replace("-gnu", "-musl");
        node.extend(if sysroot()?.join("lib/rustlib").join(&musl).exists() {
            self.cargo("hook", &musl, &[*hook], &[])?
        } else {
            self.cargo("hook", &self.triple, &[*hook], &["-Ctarget-feature=+crt-static"])?
        });
        Ok(Executables { node, kubectl_gpu })
    }

    fn cargo(
        &self,
        profile: &str,
        triple: &str,
        executables: &[(&str, &str)],
        more: &[&str],
    ) -> anyhow::Result<Vec<PathBuf>> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--profile", profile, "--locked", "--target", triple]);
        for (package, name) in executables {
            cargo.args(["--package", package, "--bin", name]);
        }
        cargo.current_dir(&self.repository).env("CARGO_HOME", &self.home);
        cargo.env("CARGO_TARGET_DIR", &self.target).env_remove("RUSTFLAGS");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(&self.repository, &self.home, more));
        println!("$ cargo build --profile {profile} --target {triple} (remapped paths)");
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "the build in {} failed: {status}", self.repository.display());
        let directory = self.target.join(triple).join(profile);
        Ok(executables.iter().map(|(_, name)| directory.join(name)).collect())
    }

    /// Paths that must be in nothing that is released.
    pub(crate) fn own_paths(&self) -> [&Path; 3] {
        [&self.repository, &self.home, &self.target]
    }
}

/// rustc's flags that replace the paths of this machine, and more of them, in the form of
/// `CARGO_ENCODED_RUSTFLAGS`.
fn flags(repository: &Path, home: &Path, more: &[&str]) -> OsString {
    let mut flags = OsString::new();
    for (from, to) in [(repository, "/build"), (home, "/cargo")] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push(format!("={to}"));
    }
    for flag in more {
        flags.push("\u{1f}");
        flags.push(flag);
    }
    flags
}

/// Where the toolchain is.
fn sysroot() -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc --print sysroot: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

pub(crate) fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("there is no HOME")
}

/// The triple of this machine, as rustc says it.
pub(crate) fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV does not say its host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_remapped_by_a_flag_of_its_own() {
        assert_eq!(
            flags(Path::new("/a b"), Path::new("/home"), &["-Cx"]),
            "--remap-path-prefix=/a b=/build\u{1f}--remap-path-prefix=/home=/cargo\u{1f}-Cx"
        );
    }
}
