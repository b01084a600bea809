//! `update-ldcache`: has the loader of the container find the driver's libraries, as `ldconfig`
//! would, without a program of the host's or the image's.
//!
//! [`conf`] reads which directories the loader's configuration names, [`scan`] what libraries are
//! in them ([`elf`]), and [`cache`] writes the file that the loader reads. The directories of the
//! call become a part of the configuration, so that a later `ldconfig` in the container keeps them.

pub mod cache;
pub mod conf;
pub mod elf;
pub mod glob;
pub mod scan;

use std::path::{Path, PathBuf};

use crate::error::HookError;
use crate::root::ContainerRoot;

/// The loader's cache.
pub const CACHE: &str = "/etc/ld.so.cache";
/// Who wrote it, in its section for that.
pub const GENERATOR: &str = concat!("gpu-cdi-hook ", env!("CARGO_PKG_VERSION"));

/// Where the ABI has the loader of glibc for programs of this architecture.
const LOADER: &str = if cfg!(target_arch = "aarch64") {
    "/lib/ld-linux-aarch64.so.1"
} else {
    "/lib64/ld-linux-x86-64.so.2"
};

/// Writes the loader's cache of a container with these directories, in an image with glibc. Another
/// image has no such cache, and stays as it is.
///
/// # Errors
/// A file cannot be written.
pub fn update(root: &ContainerRoot, folders: &[PathBuf]) -> Result<Vec<String>, HookError> {
    if !root.exists(Path::new(LOADER)) {
        return Ok(vec![format!("the image has no {LOADER}: no loader's cache is written")]);
    }
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    if !folders.is_empty() {
        conf::ensure(root)?;
        conf::write(root, conf::FOLDERS, &folders)?;
    }
    let mut notes = Vec::new();
    let bytes = build(root, &folders, GENERATOR, &mut notes);
    root.write(Path::new("/etc"), "ld.so.cache", &bytes)
        .map_err(HookError::file("write", CACHE))?;
    Ok(notes)
}

/// The content of the cache. Links that libraries are found by are made where they lack.
pub fn build(
    root: &ContainerRoot,
    folders: &[&Path],
    generator: &str,
    notes: &mut Vec<String>,
) -> Vec<u8> {
    let directories = conf::directories(root, folders, notes);
    let libraries = scan::libraries(root, &directories, folders, notes);
    cache::bytes(&libraries, generator)
}
