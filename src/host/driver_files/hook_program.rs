//! The program of NVIDIA's toolkit whose hooks a container runtime calls.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use device::cdi::HookProgram;

pub use super::hook_version::HookVersions;
use super::hook_version::Version;
use super::search::{DriverRoot, Search};
use crate::host::file::{self, Links};
use crate::host::root::resolve_in_root;

/// Where installations of the toolkit have it, most capable first.
const PLACES: [&str; 4] = [
    "/usr/bin/nvidia-cdi-hook",
    "/usr/bin/nvidia-ctk",
    "/usr/local/nvidia/toolkit/nvidia-cdi-hook",
    "/usr/local/nvidia/toolkit/nvidia-ctk",
];
/// Debian's list of installed packages, and the package of the programs in `/usr/bin`.
const DPKG_STATUS: &str = "var/lib/dpkg/status";
const PACKAGE: &str = "nvidia-container-toolkit-base";
/// The most bytes of that list that are read.
const MOST_BYTES: u64 = 16 << 20;

/// How the program is to be found.
#[derive(Debug, Clone, Copy)]
pub struct HookPath<'a> {
    /// Its path on the host.
    pub path: &'a str,
    /// Whether somebody has set it: then it is taken at its word where the host's files cannot be
    /// seen.
    pub is_set: bool,
}

/// The program, if it is on the host. The host's files can be seen where the driver root is the
/// host's own root. `versions` keeps what was read of it, for the next time.
#[must_use]
pub fn find(
    root: DriverRoot<'_>,
    hook: HookPath<'_>,
    versions: &mut HookVersions,
) -> Option<HookProgram> {
    let sees_host = root.host == "/";
    if !sees_host {
        let path = hook.path.to_owned();
        return hook.is_set.then_some(HookProgram { path, version: None, is_own: false });
    }
    let search = Search::new(root);
    let is_there = |path: &str| search.executable(path.trim_start_matches('/')).is_some();
    let path = match hook.is_set {
        true => is_there(hook.path).then_some(hook.path)?,
        false => PLACES.into_iter().find(|path| is_there(path))?,
    };
    let here = resolve_in_root(root.here, Path::new(path)).ok()?;
    let packaged = || path.starts_with("/usr/bin/").then(|| packaged_version(root.here)).flatten();
    // What a program has in it is true of that program, whoever has put it there.
    let version = versions.of(&here).unwrap_or_else(packaged);
    Some(HookProgram { path: path.to_owned(), version, is_own: false })
}

/// The version of the toolkit's package, where Debian's package manager keeps it.
fn packaged_version(root: &Path) -> Option<Version> {
    let status = resolve_in_root(root, Path::new(DPKG_STATUS)).ok()?;
    let status = BufReader::new(file::open(&status, Links::Refuse).ok()?.take(MOST_BYTES));
    let mut is_it = false;
    for line in status.split(b'\n') {
        let line = line.ok()?;
        let Ok(line) = std::str::from_utf8(&line) else { continue };
        match line.split_once(": ") {
            Some(("Package", name)) => is_it = name == PACKAGE,
            Some(("Status", status)) if is_it && status != "install ok installed" => return None,
            Some(("Version", version)) if is_it => return version_number(version),
            _ => {}
        }
    }
    None
}

/// The numbers of `1.17.8-1`. A candidate for a release, `1.17.8~rc.1-1`, may lack what that has.
fn version_number(text: &str) -> Option<Version> {
    if text.contains('~') {
        return None;
    }
    let mut parts = text.split(['-', '+']).next()?.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}
