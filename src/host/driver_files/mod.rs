//! What the driver's installation has for containers: libraries, firmware, programs, configuration,
//! sockets, and the device nodes; and the program whose hooks a container runtime calls.
//!
//! The root of the installation is somebody else's. Nothing leads out of it, only regular files
//! and the sockets that are asked for are named, nothing is waited for, and every number of things
//! has a bound.

pub mod devices;
pub mod hook_program;
mod hook_version;
mod libraries;
pub mod places;
#[cfg(test)]
pub(crate) mod sample;
mod search;
#[cfg(test)]
mod tests;

use device::cdi::{DriverFiles, HostFile};

use libraries::is_version;
use places::{
    BINARIES, BINARY_DIRECTORIES, CONFIGS, FIRMWARE_DIRECTORIES, OWN_BINARY_DIRECTORIES, SOCKETS,
    VULKAN,
};
pub use search::DriverRoot;
use search::Search;

/// What of a driver's files is wanted beside those of its version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Libraries for graphics that carry no version of the driver.
    pub explicit_libraries: bool,
    /// Sockets of the driver's daemons.
    pub sockets: bool,
}

/// The files of a driver of this version; of the version that its libraries carry, if it is not
/// known. It reads directories, and may take as long as their disks do.
#[must_use]
pub fn find(root: DriverRoot<'_>, version: Option<&str>, wanted: Wanted) -> DriverFiles {
    let mut search = Search::new(root);
    let version = version.filter(|version| is_version(version)).map(str::to_owned);
    let mut found = libraries::find(&mut search, version, wanted.explicit_libraries);
    if let Some(version) = found.version.clone() {
        firmware(&mut search, &version, &mut found.files);
    }
    binaries(&search, &mut found.files);
    for name in CONFIGS {
        let places = [format!("etc/{name}"), format!("usr/share/{name}")];
        found.files.extend(places.iter().find_map(|place| search.file(place)));
    }
    for name in VULKAN {
        let places = [format!("etc/{name}"), format!("usr/share/{name}"), name.to_owned()];
        let file = places.iter().find_map(|place| search.file(place));
        // A container looks for them in one place, wherever an installation has them.
        let container = format!("/etc/{name}");
        found.files.extend(file.map(|file| HostFile { container, ..file }));
    }
    if wanted.sockets {
        found.sockets.extend(SOCKETS.iter().filter_map(|path| search.socket(path)));
    }
    found.gds_files.extend(search.any("run/udev"));
    found.gds_files.extend(search.file("etc/cufile.json"));
    found.files.sort();
    found.files.dedup_by(|a, b| a.container == b.container);
    found.missing.extend(search.limits_reached());
    found
}

/// GSP firmware, which the driver loads when it is first used.
fn firmware(search: &mut Search<'_>, version: &str, files: &mut Vec<HostFile>) {
    for directory in FIRMWARE_DIRECTORIES {
        let directory = format!("{directory}/nvidia/{version}");
        let is_gsp = |name: &str| name.starts_with("gsp") && name.ends_with(".bin");
        let entries = search.entries(&directory, is_gsp);
        files.extend(entries.iter().filter_map(|entry| search.file_in(&directory, entry)));
    }
}

fn binaries(search: &Search<'_>, files: &mut Vec<HostFile>) {
    for name in BINARIES {
        let first = |places: &[&str]| {
            places.iter().find_map(|place| search.executable(&format!("{place}/{name}")))
        };
        let own = || {
            let container = format!("/usr/bin/{name}");
            first(&OWN_BINARY_DIRECTORIES).map(|file| HostFile { container, ..file })
        };
        files.extend(first(&BINARY_DIRECTORIES).or_else(own));
    }
}
