//! The PCI functions that are bound to NVIDIA's driver, from sysfs.

use std::collections::BTreeSet;
use std::path::Path;

use device::names::PciBusId;

/// The most devices of a driver that are looked at.
const MOST: usize = 4096;

/// The functions that are bound to the driver; `None`: sysfs does not say, or no driver is loaded.
pub(super) type BusScan = Option<BTreeSet<PciBusId>>;

/// Reads which functions are bound.
pub(super) fn scan(sysfs: &Path) -> BusScan {
    let entries = std::fs::read_dir(sysfs.join("bus/pci/drivers/nvidia")).ok()?;
    let names = entries.take(MOST).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(names.filter_map(|name| name.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpus_of_the_driver_are_its_devices_in_sysfs() {
        let sysfs = tempfile::tempdir().unwrap();
        assert_eq!(scan(sysfs.path()), None, "no driver is loaded");
        for name in ["0000:1b:00.0", "module", "bind", "0000:c8:00.0"] {
            std::fs::create_dir_all(sysfs.path().join("bus/pci/drivers/nvidia").join(name))
                .unwrap();
        }
        let bound = scan(sysfs.path()).unwrap();
        let names: Vec<_> = bound.into_iter().map(|id| id.to_string()).collect();
        assert_eq!(names, ["0000:1b:00.0", "0000:c8:00.0"]);
    }
}
