//! The manual pages, from the command line as clap knows it.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Writes a page for the program and for each of its subcommands into a directory.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    let name = || directory.display().to_string();
    fs::create_dir_all(directory).with_context(name)?;
    // A page has room: everything that --help says.
    let command = gpu_device_plugin::cli::command();
    clap_mangen::generate_to(command, directory).with_context(name)?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory).with_context(name)? {
        pages.push(entry?.file_name().display().to_string());
    }
    pages.sort();
    println!("{}: {}", directory.display(), pages.join(" "));
    Ok(())
}
