//! Tasks of the repository that are more than a line of shell.

mod figures;

use std::path::{Path, PathBuf};

use anyhow::Context;
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
}

fn main() -> anyhow::Result<()> {
    let root = root()?;
    match Args::parse().task {
        Task::Figures { against, names } => figures::print(&root, against.as_deref(), names),
    }
}

/// The root of the repository, wherever in it the task was started.
fn root() -> anyhow::Result<PathBuf> {
    let member = std::env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    Ok(Path::new(&member).parent().context("xtask is not in a repository")?.to_owned())
}
