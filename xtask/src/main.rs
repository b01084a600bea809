//! Tasks of the repository that are more than a line of shell.

mod commands;
mod docs;
mod figures;
mod man;
mod picture;
mod project;
mod release;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

/// Tasks of the repository that are more than a line of shell
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prints the size and structure of the product's source, tests aside
    Figures {
        /// Another checkout, whose figures are printed beside this one's
        #[arg(long, value_name = "DIR")]
        against: Option<PathBuf>,

        /// Also lists the type names that two or more files define
        #[arg(long)]
        names: bool,
    },

    /// Writes what is generated in documents and other files
    Docs {
        /// Changes nothing, and fails with a diff where a file is not up to date
        #[arg(long)]
        check: bool,
    },

    /// Writes the manual pages for a release
    Man {
        /// Where to; by default target/man
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },

    /// Takes docs/images/page.png, a picture of the page with one broken GPU; it needs Chromium
    Picture,

    /// Prints the project's address, image and contact, and fails where a file states others
    Project,

    /// Makes the files of a release for one processor: executables, images, chart, bill of
    /// materials, checksums
    Release(release::Options),

    /// Makes a release twice, at two paths, and fails where the bytes of a file differ
    Reproducible {
        /// Makes no images, which need buildah
        #[arg(long)]
        without_image: bool,
    },
}

fn main() -> ExitCode {
    match perform(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    let root = root()?;
    match task {
        Task::Figures { against, names } => figures::print(&root, against.as_deref(), names),
        Task::Docs { check } => docs::generate(&root, check),
        Task::Man { directory } => {
            man::write(&directory.unwrap_or_else(|| target(&root).join("man")))
        }
        Task::Picture => picture::take(&root),
        Task::Project => project::check(&root),
        Task::Release(options) => release::make(&root, &target(&root), options),
        Task::Reproducible { without_image } => {
            let scratch = target(&root).join("xtask/reproducible");
            release::reproducible::check(&root, &scratch, !without_image)
        }
    }
}

/// The root of the repository, wherever in it the task was started.
fn root() -> anyhow::Result<PathBuf> {
    let member = std::env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    Ok(Path::new(&member).parent().context("xtask is not in a repository")?.to_owned())
}

/// Where cargo puts what it builds.
fn target(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Runs a command in the repository to its end, and says first what it runs.
fn run(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    let status = Command::new(program).args(arguments).current_dir(root).status();
    let status = status.with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
