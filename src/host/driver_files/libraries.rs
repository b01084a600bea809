//! The driver's libraries, and the links by which programs find them.

use std::collections::{BTreeMap, BTreeSet};

use device::cdi::{DriverFiles, FileLink, HostFile};

use super::places::{LIBRARY_DIRECTORIES, SUBDIRECTORIES};
use super::search::{Entry, Search};

/// The most libraries that are given to containers; a driver has about a hundred.
const MOST_LIBRARIES: usize = 1024;

/// Libraries of the driver that carry versions of their own.
const OTHER_VERSIONS: [&str; 4] = [
    "libnvidia-nvvm70.so.",
    "libnvidia-egl-gbm.so.",
    "libnvidia-egl-wayland.so.",
    "libnvidia-egl-wayland2.so.",
];

/// The one library without a version.
const X_DRIVER: &str = "nvidia_drv.so";

/// Libraries for graphics that other packages have too, under the names that programs use.
const EXPLICIT: [&str; 11] = [
    "libEGL.so",
    "libGL.so",
    "libGLESv1_CM.so",
    "libGLESv2.so",
    "libGLX.so",
    "libGLdispatch.so",
    "libOpenCL.so",
    "libOpenGL.so",
    "libnvidia-api.so",
    "libnvidia-egl-xcb.so",
    "libnvidia-egl-xlib.so",
];

/// Names under which programs look for libraries, also where the installation has no such link.
const NAMES: [(&str, &str); 12] = [
    ("libcuda", "libcuda.so.1"),
    ("libnvidia-ml", "libnvidia-ml.so.1"),
    ("libnvidia-ptxjitcompiler", "libnvidia-ptxjitcompiler.so.1"),
    ("libnvidia-nvvm", "libnvidia-nvvm.so.4"),
    ("libnvidia-opencl", "libnvidia-opencl.so.1"),
    ("libnvidia-encode", "libnvidia-encode.so.1"),
    ("libnvcuvid", "libnvcuvid.so.1"),
    ("libnvidia-opticalflow", "libnvidia-opticalflow.so.1"),
    ("libGLX_nvidia", "libGLX_indirect.so.0"),
    ("libnvidia-allocator", "gbm/nvidia-drm_gbm.so"),
    ("libnvidia-vulkan-producer", "libnvidia-vulkan-producer.so"),
    ("libglxserver_nvidia", "libglxserver_nvidia.so"),
];

/// Links to a link: programs of old look for the one, the loader for the other.
const DOT_SO: [(&str, &str); 2] =
    [("libcuda.so", "libcuda.so.1"), ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1")];

/// The libraries of this version, or of that which they carry.
pub(super) fn find(
    search: &mut Search<'_>,
    version: Option<String>,
    with_explicit: bool,
) -> DriverFiles {
    let directories = directories(search);
    let version = version.or_else(|| directories.iter().find_map(|(_, entries)| carried(entries)));
    let mut found = DriverFiles { version, ..DriverFiles::default() };
    let Some(version) = found.version.clone() else {
        found.missing.push(
            "the driver's version is not known, and none of its libraries is in the driver root: \
             containers get device nodes alone"
                .to_owned(),
        );
        return found;
    };
    let suffix = format!(".so.{version}");
    for (directory, entries) in &directories {
        let is_wanted = |Entry { name, .. }: &&Entry| {
            name.ends_with(&suffix)
                || OTHER_VERSIONS.iter().any(|other| name.starts_with(other))
                || *name == X_DRIVER
                || with_explicit && is_explicit(name)
        };
        let mut libraries = BTreeMap::new();
        for entry in entries.iter().filter(is_wanted) {
            if found.files.len() + libraries.len() >= MOST_LIBRARIES {
                break;
            }
            // A link to its neighbour is another name of that one.
            let is_of_neighbour =
                entry.is_link() && search.link_target(directory, &entry.name).is_some();
            if !is_of_neighbour && let Some(file) = search.file_in(directory, entry) {
                libraries.insert(entry.name.clone(), file);
            }
        }
        add(search, directory, entries, libraries, &suffix, &mut found);
    }
    if found.files.len() >= MOST_LIBRARIES {
        found.missing.push(format!(
            "there are more than {MOST_LIBRARIES} libraries of the driver: not all are given to \
             containers"
        ));
    }
    if found.libcuda_directories.is_empty() {
        found.missing.push(format!(
            "libcuda.so.{version} is in no directory of libraries of the driver root: containers \
             cannot use CUDA; is --driver-root-ctr-path the driver's root?"
        ));
    }
    found.links.sort();
    found.links.dedup_by(|a, b| a.path == b.path);
    found
}

/// The directories that there are, each once, with what is in them.
fn directories(search: &mut Search<'_>) -> Vec<(String, Vec<Entry>)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for directory in LIBRARY_DIRECTORIES {
        let below = SUBDIRECTORIES.iter().map(|sub| format!("{directory}/{sub}"));
        for directory in std::iter::once(directory.to_owned()).chain(below) {
            // One directory has several paths where /lib is a link to /usr/lib.
            if search.directory(&directory).is_some_and(|here| seen.insert(here)) {
                let entries = search.entries(&directory, |name| name.contains(".so"));
                found.push((directory, entries));
            }
        }
    }
    found
}

/// The version that libcuda.so carries.
fn carried(entries: &[Entry]) -> Option<String> {
    let mut versions = entries.iter().filter_map(|entry| entry.name.strip_prefix("libcuda.so."));
    versions.rfind(|version| is_version(version)).map(str::to_owned)
}

fn is_explicit(name: &str) -> bool {
    EXPLICIT.iter().any(|library| {
        name.strip_prefix(*library).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Adds the libraries of a directory, with the links to them.
fn add(
    search: &Search<'_>,
    directory: &str,
    entries: &[Entry],
    libraries: BTreeMap<String, HostFile>,
    suffix: &str,
    found: &mut DriverFiles,
) {
    if libraries.is_empty() {
        return;
    }
    found.library_directories.push(format!("/{directory}"));
    if libraries.contains_key(&format!("libcuda{suffix}")) {
        found.libcuda_directories.push(format!("/{directory}"));
    }
    let stem = |name: &str| name.split(".so").next().unwrap_or_default().to_owned();
    let stems: BTreeSet<String> = libraries.keys().map(|name| stem(name)).collect();
    let mut links = BTreeMap::new();
    // Those of the installation, which leads from one name to the next.
    let is_other = |entry: &&Entry| {
        entry.is_link()
            && !libraries.contains_key(&entry.name)
            && stems.contains(&stem(&entry.name))
    };
    for entry in entries.iter().filter(is_other) {
        let target = search.link_target(directory, &entry.name);
        let (Some(target), Some(file)) = (target, search.file_in(directory, entry)) else {
            continue;
        };
        if libraries.values().any(|library| library.host == file.host) {
            links.insert(format!("/{directory}/{}", entry.name), (target, file.host));
        }
    }
    // Those that programs need all the same.
    for (library, path) in NAMES {
        let name = format!("{library}{suffix}");
        if let Some(file) = libraries.get(&name) {
            let up = if path.contains('/') { "../" } else { "" };
            let path = format!("/{directory}/{path}");
            links.entry(path).or_insert_with(|| (format!("{up}{name}"), file.host.clone()));
        }
    }
    for (path, target) in DOT_SO {
        if let Some((_, host)) = links.get(&format!("/{directory}/{target}")).cloned() {
            let path = format!("/{directory}/{path}");
            links.entry(path).or_insert_with(|| (target.to_owned(), host));
        }
    }
    let link = |(path, (target, host))| FileLink { path, target, host };
    found.links.extend(links.into_iter().map(link));
    found.files.extend(libraries.into_values());
}

/// Whether a text is numbers and dots: it becomes part of paths.
pub(super) fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 32 && text.contains('.') && text.split('.').all(is_number)
}
