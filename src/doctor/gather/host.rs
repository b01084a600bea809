//! What procfs, sysfs and other file systems of the host have.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use device::identity::PciFunction;
use rustix::fs::access;

use crate::doctor::facts::{Access, DirectoryState, InotifyFacts, KernelModule, Platform};
use crate::host::dir_watch::Watches;
use crate::host::pci::{BusReader, BusRoots};

/// The base class of display controllers (pci_ids.h).
const DISPLAY: u32 = 0x03;

/// The host's root: in a container the driver's root or a directory above it, without a container
/// our own.
pub(super) fn root(driver_root: &Path) -> PathBuf {
    let mut above: Vec<&Path> =
        driver_root.ancestors().filter(|path| path.parent().is_some()).collect();
    above.reverse();
    let is_root = |path: &&Path| {
        ["etc", "usr", "var/lib/kubelet"].iter().all(|part| path.join(part).is_dir())
    };
    above.into_iter().find(is_root).unwrap_or(Path::new("/")).to_owned()
}

/// The names of what is in a directory; none, if it cannot be read.
pub(super) fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// NVIDIA's GPUs on the PCI bus, by address, with the kernel driver that is bound to each. A
/// virtual function that no driver has is none.
pub(super) fn bus(roots: BusRoots<'_>) -> Result<BTreeMap<String, Option<String>>, String> {
    let functions = BusReader::default().functions(roots);
    let functions = functions
        .map_err(|error| format!("{}: {error}", roots.sysfs.join("bus/pci/devices").display()))?;
    let is_gpu = |of: &PciFunction| {
        of.class >> 16 == DISPLAY && !(of.virtual_function && of.driver.is_none())
    };
    let gpus = functions.into_iter().filter(is_gpu);
    Ok(gpus.map(|of| (of.id.to_string(), of.driver)).collect())
}

/// What kind of system the node is. In a container the host's own files may be seen, or only its
/// procfs and sysfs.
pub(super) fn platform(roots: [&Path; 2], proc: &Path, sysfs: &Path, dev: &Path) -> Platform {
    let line =
        |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_ascii_lowercase());
    let release = line(proc.join("sys/kernel/osrelease"));
    if let Some(release) = release.filter(|release| release.contains("microsoft")) {
        return Platform::Wsl(format!("the kernel is {release}"));
    }
    if dev.join("dev/dxg").exists() {
        return Platform::Wsl("/dev/dxg is there".to_owned());
    }
    const RELEASE: &str = "etc/nv_tegra_release";
    if roots.iter().any(|root| root.join(RELEASE).exists()) {
        return Platform::Tegra(format!("/{RELEASE} is there"));
    }
    let family = line(sysfs.join("devices/soc0/family"));
    match family.filter(|family| family.starts_with("tegra")) {
        Some(family) => Platform::Tegra(format!("the chip is of the family {family}")),
        None => Platform::Pci,
    }
}

/// What decides whether this process may use a socket.
pub(super) fn access_rights(sysfs: &Path) -> Access {
    let user = fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or_default();
    let enforce = fs::read_to_string(sysfs.join("fs/selinux/enforce"));
    Access { user, selinux: enforce.is_ok_and(|text| text.trim() == "1") }
}

pub(super) fn module(proc: &Path, sysfs: &Path) -> KernelModule {
    let loaded = |name: &str| sysfs.join("module").join(name).is_dir();
    let text = fs::read_to_string(proc.join("driver/nvidia/version")).ok();
    KernelModule {
        version: text.map(|text| version(&text).unwrap_or("unknown").to_owned()),
        nvidia: loaded("nvidia"),
        nouveau: loaded("nouveau"),
        uvm: loaded("nvidia_uvm"),
        gpus: names(&proc.join("driver/nvidia/gpus")).collect(),
    }
}

/// The version in a text such as "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64 580.95.05
/// Release Build".
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    line.split_whitespace().find(is_version)
}

/// The state of a directory that others create.
pub(super) fn directory(path: &Path) -> DirectoryState {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirectoryState::Missing,
        Err(error) => DirectoryState::NotWritable(error.to_string()),
        Ok(found) if !found.is_dir() => DirectoryState::NotADirectory,
        Ok(found) if found.nlink() == 0 => DirectoryState::Deleted,
        Ok(_) => match access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
            Ok(()) => DirectoryState::Writable,
            Err(error) => DirectoryState::NotWritable(io::Error::from(error).to_string()),
        },
    }
}

/// The state of a directory that the plugin creates itself, with those above it.
pub(super) fn own_directory(path: &Path) -> DirectoryState {
    match directory(path) {
        DirectoryState::Missing => {
            match path.ancestors().skip(1).find(|above| above.exists()).map(directory) {
                Some(DirectoryState::Writable) => DirectoryState::CanBeCreated,
                _ => DirectoryState::Missing,
            }
        }
        state => state,
    }
}

pub(super) fn inotify(proc: &Path, directory: &Path) -> InotifyFacts {
    let limit = |name: &str| {
        let text = fs::read_to_string(proc.join("sys/fs/inotify").join(name)).ok()?;
        text.trim().parse().ok()
    };
    let directory = if directory.is_dir() { directory } else { Path::new("/") };
    let watch = Watches::default().watch(directory, |_| {});
    InotifyFacts {
        refused: watch.err().map(|error| error.to_string()),
        instances: limit("max_user_instances"),
        watches: limit("max_user_watches"),
        used: instances(proc).unwrap_or_default(),
    }
}

/// The inotify instances of this user's processes, as far as they can be seen. The limit is each
/// user's.
fn instances(proc: &Path) -> Option<u64> {
    let own = fs::metadata("/proc/self").ok()?.uid();
    let processes = fs::read_dir(proc).ok()?.flatten().filter(|entry| {
        let is_process =
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        is_process && entry.metadata().is_ok_and(|found| found.uid() == own)
    });
    let descriptors =
        processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten());
    let links =
        descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    Some(links.filter(|link| link.as_os_str() == "anon_inode:inotify").count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_either_kind_of_module_is_parsed() {
        for (text, expected) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 \
                 UTC 2023\nGCC version:  gcc version 12.2.0\n",
                Some("535.129.03"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release \
                 Build  (root@host)  Tue\n",
                Some("580.95.05"),
            ),
            ("GCC version:  12.2.0\n", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn the_hosts_root_is_where_the_drivers_root_is_mounted_or_above_it() {
        let place = tempfile::tempdir().unwrap();
        let mounted = place.path().join("host");
        let driver = mounted.join("run/nvidia/driver");
        fs::create_dir_all(&driver).unwrap();
        assert_eq!(root(&driver), Path::new("/"), "nothing above looks like a host's root");
        for part in ["etc", "usr", "var/lib/kubelet"] {
            fs::create_dir_all(mounted.join(part)).unwrap();
        }
        assert_eq!(root(&driver), mounted);
        assert_eq!(root(&mounted), mounted);
        assert_eq!(root(Path::new("/driver-root-that-is-not-there")), Path::new("/"));
    }

    #[test]
    fn a_system_is_recognised_by_its_kernel_its_nodes_or_its_release() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        let (host, proc, sys) = (at("host"), at("proc"), at("sys"));
        let seen = || platform([&host, &host], &proc, &sys, place.path());
        write("proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
        write("sys/devices/soc0/family", "Snapdragon\n");
        assert_eq!(seen(), Platform::Pci);
        write("sys/devices/soc0/family", "Tegra234\n");
        assert_eq!(seen(), Platform::Tegra("the chip is of the family tegra234".to_owned()));
        write("host/etc/nv_tegra_release", "# R36");
        assert_eq!(seen(), Platform::Tegra("/etc/nv_tegra_release is there".to_owned()));
        write("dev/dxg", "");
        assert_eq!(seen(), Platform::Wsl("/dev/dxg is there".to_owned()));
        write("proc/sys/kernel/osrelease", "5.15.153.1-Microsoft-standard-WSL2\n");
        let kernel = "the kernel is 5.15.153.1-microsoft-standard-wsl2";
        assert_eq!(seen(), Platform::Wsl(kernel.to_owned()));
    }

    #[test]
    fn a_directory_of_our_own_can_be_created() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        assert_eq!(own_directory(place.path()), DirectoryState::Writable);
        assert_eq!(own_directory(&place.path().join("a/b/c")), DirectoryState::CanBeCreated);
        assert_eq!(own_directory(&place.path().join("file")), DirectoryState::NotADirectory);
        assert_eq!(directory(&place.path().join("a")), DirectoryState::Missing);
    }
}
