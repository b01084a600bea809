//! What is published of a version for one processor: executables with manual pages, completions
//! and unit, `kubectl gpu` with its manifest for Krew, images as OCI archives, the chart, a bill of
//! materials, and their checksums.
//!
//! Whoever builds a commit gets the same bytes: paths are remapped, times are the commit's, and
//! archives are sorted.

mod archive;
mod build;
mod image;
mod krew;
pub(crate) mod reproducible;
mod sbom;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::{project, run};
#[cfg(test)]
pub(crate) use build::EXECUTABLES;
use build::{Build, Executables};

/// What is to be made.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The tag of the release, checked against version and changelog; without it there are no
    /// notes, and changes may be unreleased
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// The triple to build for; by default this machine's
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Makes no image: it needs buildah, busybox-static, and a machine of that processor
    #[arg(long)]
    without_image: bool,

    /// Takes executables that are in this directory as they are, to try the rest quickly
    #[arg(long, value_name = "DIR")]
    executables: Option<PathBuf>,

    /// Where to; by default target/release-files
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Makes the release of what is checked out.
pub(crate) fn make(root: &Path, target: &Path, options: Options) -> anyhow::Result<()> {
    let build = Build {
        repository: root.to_owned(),
        home: build::cargo_home()?,
        target: target.join("xtask/release"),
        triple: options.target.map_or_else(build::host, Ok)?,
    };
    // Programs are started in other directories.
    let out = options.directory.unwrap_or_else(|| target.join("release-files"));
    let out = std::path::absolute(out)?;
    let version = project::version(root)?;
    let notes = match &options.tag {
        Some(tag) => {
            ensure!(is_clean(root)?, "files are changed: a release is of a commit");
            let changelog = fs::read_to_string(root.join("CHANGELOG.md"))?;
            Some(version::notes(&version, tag, &changelog)?)
        }
        None => None,
    };
    project::check(root)?;
    let executables = match &options.executables {
        Some(directory) => {
            let directory = std::path::absolute(directory)?;
            Ok(Executables::within(&directory))
        }
        None => built(&build),
    };
    files(&build, &out, &executables?, !options.without_image)?;
    if let Some(notes) = notes {
        fs::write(out.join("RELEASE_NOTES.md"), notes)?;
    }
    Ok(())
}

/// Builds the executables, and fails where one has a path of this machine in it.
fn built(build: &Build) -> anyhow::Result<Executables> {
    let executables = build.executables()?;
    check_paths(build, &executables)?;
    Ok(executables)
}

/// Makes all files of a release in an empty directory.
fn files(
    build: &Build,
    out: &Path,
    executables: &Executables,
    with_image: bool,
) -> anyhow::Result<()> {
    ensure!(
        !with_image || build.triple == build::host()?,
        "an image for {} is made on a machine of that processor: its libraries are taken from \
         there; or say --without-image",
        build.triple
    );
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let scratch = tempfile::tempdir()?;
    let version = project::version(&build.repository)?;
    let [epoch, timestamp, commit] = ["%ct", "%cd", "%h"].map(|form| commit(build, form));
    let (epoch, timestamp, commit) = (epoch?, timestamp?, commit?);
    let stem = format!("gpu-device-plugin-{version}-{}", build.triple);
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    archive::fill(&scratch.path().join(&stem), build, &executables.node)?;
    archive::pack(&out.join(format!("{stem}.tar.gz")), scratch.path(), &stem, &epoch)?;
    krew::make(build, &executables.kubectl_gpu, scratch.path(), out, (&version, &epoch))?;
    archive::chart(&out.join(format!("gpu-device-plugin-{version}.tgz")), build, &epoch)?;
    let bill = out.join(format!("{stem}.cdx.json"));
    sbom::write(build, &bill, &version, &timestamp, with_image)?;
    if with_image {
        let named = (version.as_str(), commit.as_str(), epoch.as_str());
        image::make(build, &executables.node, scratch.path(), (out, &stem), named)?;
    }
    checksums(out, &format!("SHA256SUMS-{}", build.triple))
}

fn check_paths(build: &Build, executables: &Executables) -> anyhow::Result<()> {
    for executable in executables.node.iter().chain([&executables.kubectl_gpu]) {
        let bytes = fs::read(executable).with_context(|| executable.display().to_string())?;
        for path in build.own_paths() {
            ensure!(
                !contains(&bytes, path),
                "{} has the path {} in it",
                executable.display(),
                path.display()
            );
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    bytes.windows(path.len()).any(|window| window == path)
}

/// Writes the sums of all files, as `sha256sum --check` reads them.
fn checksums(out: &Path, name: &str) -> anyhow::Result<()> {
    let names = names(out)?;
    ensure!(!names.is_empty(), "nothing was made");
    let output = Command::new("sha256sum").args(&names).current_dir(out).output()?;
    ensure!(output.status.success(), "sha256sum failed: {}", output.status);
    fs::write(out.join(name), &output.stdout)?;
    print!("{}:\n{}", out.display(), String::from_utf8_lossy(&output.stdout));
    run(out, "sha256sum", &["--check", "--quiet", name])
}

/// The files of a release, sorted.
fn names(out: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out).with_context(|| out.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What git says of the commit that is checked out; times are in UTC.
fn commit(build: &Build, form: &str) -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(&build.repository).args(["log", "-1", "--abbrev=12"]).env("TZ", "UTC");
    git.args(["--date=format-local:%Y-%m-%dT%H:%M:%SZ", &format!("--format={form}")]);
    let output = git.output().context("cannot run git")?;
    ensure!(output.status.success(), "git log: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn is_clean(root: &Path) -> anyhow::Result<bool> {
    let git = Command::new("git").arg("-C").arg(root).args(["status", "--porcelain"]).output();
    let output = git.context("cannot run git")?;
    if !output.status.success() {
        bail!("git status: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_among_other_bytes() {
        assert!(contains(b"\0/build/x\0", Path::new("/build/x")));
        assert!(!contains(b"\0/build/y\0", Path::new("/build/x")));
    }

    #[test]
    fn an_archive_has_the_same_bytes_whenever_it_is_made() {
        let place = tempfile::tempdir().unwrap();
        let packed = |order: [&str; 2], name: &str| {
            let directory = place.path().join(name);
            fs::create_dir_all(directory.join("stem")).unwrap();
            for file in order {
                fs::write(directory.join("stem").join(file), file).unwrap();
            }
            let file = place.path().join(format!("{name}.tar.gz"));
            archive::pack(&file, &directory, "stem", "1795000000").unwrap();
            fs::read(file).unwrap()
        };
        assert_eq!(packed(["a", "b"], "one"), packed(["b", "a"], "two"));
        assert_ne!(packed(["a", "b"], "three"), packed(["a", "c"], "four"));
    }
}
