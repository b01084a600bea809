//! Where the fake NVML library lies that cargo has built.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The library's file name as cargo makes it.
pub const FILE_NAME: &str = "libfake_nvml.so";

/// Finds the library beside the running executable: a test lies in `deps/` with it, a binary one
/// directory above.
///
/// # Errors
/// It is not there.
pub fn find() -> anyhow::Result<PathBuf> {
    let executable = env::current_exe().context("asking for this executable's path")?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let above = directory.parent().unwrap_or(directory);
    let places = [directory.to_owned(), directory.join("deps"), above.to_owned()];
    for place in &places {
        let library = place.join(FILE_NAME);
        if library.is_file() {
            return Ok(library);
        }
    }
    bail!(
        "{FILE_NAME} is not beside {}: `cargo build -p fake-nvml` makes it",
        executable.display()
    );
}
