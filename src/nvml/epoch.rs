//! The boot of the node and the load of the driver.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use device::health::Epoch;

/// A random id of each boot (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The epoch now. The directory of a kernel module in sysfs is created again each time the module
/// is loaded, with another inode number: kernfs counts them up (fs/kernfs/dir.c). The number alone
/// tells it: each network namespace, and so each pod, has a sysfs with a device number of its own.
#[must_use]
pub fn read(sysfs: &Path) -> Epoch {
    // A process does not outlive a boot.
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    let boot = BOOT.get_or_init(read).clone();
    let module = std::fs::metadata(sysfs.join("module/nvidia"));
    Epoch { boot, driver: module.ok().map(|there| there.ino().to_string()) }
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
}
