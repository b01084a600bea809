//! What is on the PCI bus, from sysfs, whether NVML can be opened or not.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use device::identity::PciFunction;
use device::names::PciBusId;

use super::settings::NvmlSettings;
use crate::host::device_nodes::Roots;
use crate::host::pci::{BusReader, BusRoots};
use crate::util::lock;

/// The most devices of a driver that are looked at.
const MOST: usize = 4096;

/// The functions that are bound to the driver; `None`: sysfs does not say, or no driver is loaded.
pub(super) type BoundFunctions = Option<BTreeSet<PciBusId>>;

/// What is on the bus.
#[derive(Debug)]
pub(super) struct BusScan {
    pub(super) bound: BoundFunctions,
    /// NVIDIA's functions, whatever driver they have.
    pub(super) functions: io::Result<Vec<PciFunction>>,
}

/// Reads what is on the bus.
pub(super) fn scan(settings: &NvmlSettings, reader: &Mutex<BusReader>) -> BusScan {
    let (driver, proc) = (settings.driver_root.clone(), settings.proc_root.clone());
    let roots = Roots { driver, proc };
    let (sysfs, proc, dev) = (&*settings.sysfs_root, &*settings.proc_root, roots.dev_root());
    // One job at a time is about the bus.
    let functions = lock(reader).functions(BusRoots { sysfs, proc, dev });
    BusScan { bound: bound(sysfs), functions }
}

fn bound(sysfs: &Path) -> BoundFunctions {
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
        assert_eq!(bound(sysfs.path()), None, "no driver is loaded");
        for name in ["0000:1b:00.0", "module", "bind", "0000:c8:00.0"] {
            std::fs::create_dir_all(sysfs.path().join("bus/pci/drivers/nvidia").join(name))
                .unwrap();
        }
        let bound = bound(sysfs.path()).unwrap();
        let names: Vec<_> = bound.into_iter().map(|id| id.to_string()).collect();
        assert_eq!(names, ["0000:1b:00.0", "0000:c8:00.0"]);
    }
}
