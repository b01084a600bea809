//! The boot of the node and the load of the driver.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use device::health::Epoch;
use device::names::PciBusId;

/// A random id of each boot (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The epoch now. The directory of a kernel module in sysfs is created again each time the module
/// is loaded, and sysfs does not soon use an inode number again.
#[must_use]
pub fn read(sysfs: &Path) -> Epoch {
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    let module = std::fs::metadata(sysfs.join("module/nvidia"));
    Epoch { boot, driver: module.ok().map(|there| format!("{}:{}", there.dev(), there.ino())) }
}

/// The PCI devices that are bound to the driver, by their names in sysfs.
pub(super) fn bound_gpus(sysfs: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(sysfs.join("bus/pci/drivers/nvidia")) else {
        return BTreeSet::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.parse::<PciBusId>().is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_of_the_driver_is_known_by_its_directory() {
        let sysfs = tempfile::tempdir().unwrap();
        let unloaded = read(sysfs.path());
        assert!(!unloaded.boot.is_empty() && unloaded.driver.is_none());
        let module = sysfs.path().join("module/nvidia");
        std::fs::create_dir_all(&module).unwrap();
        let first = read(sysfs.path());
        assert_eq!(first, read(sysfs.path()));
        // Beside the old one, so that it cannot have the same inode.
        let next = sysfs.path().join("module/next");
        std::fs::create_dir(&next).unwrap();
        std::fs::rename(&next, &module).unwrap();
        assert_ne!(first.driver, read(sysfs.path()).driver);
    }

    #[test]
    fn the_gpus_of_the_driver_are_its_devices_in_sysfs() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(bound_gpus(sysfs.path()).is_empty());
        for name in ["0000:1b:00.0", "module", "bind", "0000:c8:00.0"] {
            std::fs::create_dir_all(sysfs.path().join("bus/pci/drivers/nvidia").join(name))
                .unwrap();
        }
        assert_eq!(
            bound_gpus(sysfs.path()).into_iter().collect::<Vec<_>>(),
            ["0000:1b:00.0", "0000:c8:00.0"]
        );
    }
}
