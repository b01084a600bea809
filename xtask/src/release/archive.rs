//! Archives and files whose bytes are the same whenever and by whomever they are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap_complete::{Shell, generate};

use super::build::Build;
use crate::{commands, man, run};

/// Files of the repository that go with the executables, and where to below the archive's root.
const FILES: [(&str, &str); 4] = [
    ("LICENSE", "share/doc/gpu-device-plugin/LICENSE"),
    ("README.md", "share/doc/gpu-device-plugin/README.md"),
    ("CHANGELOG.md", "share/doc/gpu-device-plugin/CHANGELOG.md"),
    ("manifests/systemd/gpu-device-plugin.service", "lib/systemd/system/gpu-device-plugin.service"),
];
/// Where shells look for completions below a prefix, before and after the program's name.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/", ""),
    (Shell::Zsh, "share/zsh/site-functions/_", ""),
    (Shell::Fish, "share/fish/vendor_completions.d/", ".fish"),
];

/// Fills a directory as an installation prefix has it: executables, manual pages, completions,
/// unit and licence.
pub(super) fn fill(prefix: &Path, build: &Build, executables: &[PathBuf]) -> anyhow::Result<()> {
    for executable in executables {
        let name = executable.file_name().context("an executable has no name")?;
        copy(executable, &prefix.join("bin").join(name), 0o755)?;
    }
    man::write(&prefix.join("share/man/man1"))?;
    for mut command in commands::all() {
        let name = command.get_name().to_owned();
        for (shell, before, after) in COMPLETIONS {
            let mut text = Vec::new();
            generate(shell, &mut command, &name, &mut text);
            write(&prefix.join(format!("{before}{name}{after}")), &text)?;
        }
    }
    for (file, place) in FILES {
        copy(&build.repository.join(file), &prefix.join(place), 0o644)?;
    }
    Ok(())
}

/// Writes a file with the directories above it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

pub(super) fn copy(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    write(to, &fs::read(from).with_context(|| from.display().to_string())?)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Packs `name` in `directory` into a file: sorted, of root, all of one time, and without a time
/// in gzip's header. A name that ends with `tar` is not compressed.
pub(super) fn pack(file: &Path, directory: &Path, name: &str, epoch: &str) -> anyhow::Result<()> {
    let tar = file.with_extension("part");
    let path = |path: &Path| path.display().to_string();
    let time = format!("--mtime=@{epoch}");
    let stable = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
    let modes = "--mode=u+rw,go+r,go-w,a+X";
    let places = ["--create", "--file", &path(&tar), "--directory", &path(directory), name];
    let arguments: Vec<&str> = [&stable[..], &[modes, &time], &places].concat();
    run(directory, "tar", &arguments)?;
    if file.extension().is_some_and(|extension| extension == "tar") {
        return fs::rename(&tar, file).with_context(|| path(file));
    }
    run(directory, "gzip", &["--no-name", "--best", "--force", &path(&tar)])?;
    fs::rename(path(&tar) + ".gz", file).with_context(|| path(file))
}

/// Packs the chart as Helm takes it.
pub(super) fn chart(file: &Path, build: &Build, epoch: &str) -> anyhow::Result<()> {
    let charts = build.repository.join("manifests/helm");
    ensure!(charts.join("gpu-device-plugin/Chart.yaml").is_file(), "there is no chart");
    pack(file, &charts, "gpu-device-plugin", epoch)
}
