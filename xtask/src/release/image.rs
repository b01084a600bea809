//! The images as OCI archives: the final stages of the Dockerfile, over what was built here. What
//! compiles in the Dockerfile needs a base image from a registry, and is left out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::archive::pack;
use super::build::Build;
use crate::run;

/// The stages that are images, and what is added to the name of the archive.
const STAGES: [(&str, &str); 2] = [("plugin", ""), ("operator", "-operator")];

/// Makes them in `out`, named `stem` with the stage and `oci.tar`.
pub(super) fn make(
    build: &Build,
    executables: &[PathBuf],
    scratch: &Path,
    (out, stem): (&Path, &str),
    (tag, commit, epoch): (&str, &str, &str),
) -> anyhow::Result<Vec<PathBuf>> {
    let context = scratch.join("context");
    let path = |path: &Path| path.display().to_string();
    fs::create_dir_all(context.join("out")).with_context(|| path(&context))?;
    let assemble = path(&build.repository.join("image/assemble"));
    let home = format!("CARGO_HOME={}", build.home.display());
    let (files, shell) = (path(&context.join("out/plugin")), path(&context.join("out/shell")));
    // The order of names, and so of licences, is the same in every language.
    let stable = [home.as_str(), "LC_ALL=C", assemble.as_str()];
    let executables: Vec<String> = executables.iter().map(|file| path(file)).collect();
    let mut programs: Vec<&str> = executables.iter().map(String::as_str).collect();
    programs.push(&files);
    for arguments in [&programs[..], &["--shell", &shell]] {
        run(&build.repository, "env", &[&stable[..], arguments].concat())?;
    }
    let dockerfile =
        fs::read_to_string(build.repository.join("Dockerfile")).context("Dockerfile")?;
    fs::write(context.join("Dockerfile"), final_stages(&dockerfile)?)?;
    let mut archives = Vec::new();
    for (stage, suffix) in STAGES {
        let storage =
            Storage { root: path(&scratch.join("root")), run: path(&scratch.join("run")) };
        let image = format!("localhost/gpu-device-plugin:{stage}");
        let (commit, epoch) = (format!("GIT_COMMIT={commit}"), format!("--timestamp={epoch}"));
        let options = ["--quiet", "--target", stage, "--build-arg", &commit, "--tag", &image];
        let to = path(&context);
        storage.buildah(scratch, &[&["build", &epoch], &options[..], &[&to]].concat())?;
        let layout = format!("layout{suffix}");
        let named = format!("oci:{}:{tag}", scratch.join(&layout).display());
        storage.buildah(scratch, &["push", "--quiet", &image, &named])?;
        let archive = out.join(format!("{stem}{suffix}.oci.tar"));
        // Without a directory above it, as an archive of a layout has to be.
        let epoch = epoch.trim_start_matches("--timestamp=");
        pack(&archive, &scratch.join(&layout), ".", epoch)?;
        archives.push(archive);
    }
    Ok(archives)
}

/// The Dockerfile from the first stage on that is an image, over a directory `out`.
fn final_stages(dockerfile: &str) -> anyhow::Result<String> {
    const FIRST: &str = "\nFROM scratch AS plugin\n";
    let at = dockerfile.find(FIRST).context("the Dockerfile has no stage plugin from scratch")?;
    Ok(format!("FROM scratch AS build\nCOPY out /out\n{}", &dockerfile[at..]))
}

/// Where buildah keeps what it makes: not among the images of this machine.
struct Storage {
    root: String,
    run: String,
}

impl Storage {
    fn buildah(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let own = ["--storage-driver", "vfs", "--root", &self.root, "--runroot", &self.run];
        run(directory, "buildah", &[&own[..], arguments].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_dockerfile_the_stages_that_are_images_are_left() {
        let text = final_stages(include_str!("../../../Dockerfile")).unwrap();
        assert!(
            text.starts_with("FROM scratch AS build\nCOPY out /out\n\nFROM scratch AS plugin\n")
        );
        assert!(text.contains("\nFROM plugin AS operator\n") && !text.contains("cargo"), "{text}");
        assert!(final_stages("FROM rust AS build\n").is_err());
    }
}
