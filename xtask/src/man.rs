//! The manual pages, from the command lines as clap knows them.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::commands;

/// Writes a page for each program and for each of its subcommands into a directory.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    let name = || directory.display().to_string();
    fs::create_dir_all(directory).with_context(name)?;
    // A page has room: everything that --help says.
    for command in commands::all() {
        clap_mangen::generate_to(command, directory).with_context(name)?;
    }
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory).with_context(name)? {
        pages.push(entry?.file_name().display().to_string());
    }
    pages.sort();
    println!("{}: {}", directory.display(), pages.join(" "));
    Ok(())
}
