//! What sysfs and procfs of the simulated node tell of GPUs and of the driver.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::{fs, io};

use fake_nvml::state::Gpu;

use super::Node;

impl Node {
    /// Writes what sysfs tells of a GPU's NUMA node: a number, "-1", or anything else.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_numa(&self, gpu: &Gpu, text: &str) -> io::Result<()> {
        let directory = self.pci_directory(gpu);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("numa_node"), format!("{text}\n"))
    }

    /// Where sysfs has a GPU.
    #[must_use]
    pub fn pci_directory(&self, gpu: &Gpu) -> PathBuf {
        self.sysfs().join("bus/pci/devices").join(sysfs_name(&gpu.pci_bus_id))
    }

    /// Writes what sysfs tells of a GPU as a PCI device, and which kernel driver has it.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_pci(&self, gpu: &Gpu, driver: Option<&str>) -> io::Result<()> {
        let directory = self.pci_directory(gpu);
        fs::create_dir_all(&directory)?;
        fs::write(
            directory.join("vendor"),
            format!("{:#06x}\n", gpu.pci_device_id & 0xffff).to_lowercase(),
        )?;
        fs::write(directory.join("device"), format!("{:#06x}\n", gpu.pci_device_id >> 16))?;
        // A 3D controller.
        fs::write(directory.join("class"), "0x030200\n")?;
        let drivers = self.sysfs().join("bus/pci/drivers");
        let name = sysfs_name(&gpu.pci_bus_id);
        let link = directory.join("driver");
        for old in [link.clone(), drivers.join("nvidia").join(&name)] {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let Some(driver) = driver else { return Ok(()) };
        fs::create_dir_all(drivers.join(driver))?;
        symlink(format!("../../devices/{name}"), drivers.join(driver).join(&name))?;
        symlink(format!("../../../bus/pci/drivers/{driver}"), link)
    }

    /// Writes what procfs tells of the kernel module's version; `None`: the module is not loaded.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_module(&self, version: Option<&str>) -> io::Result<()> {
        let file = self.proc().join("driver/nvidia/version");
        fs::create_dir_all(self.proc().join("driver/nvidia"))?;
        // Every procfs has this one.
        fs::write(self.proc().join("version"), "Linux version 6.8.0\n")?;
        let Some(version) = version else { return fs::remove_file(file) };
        let text = format!(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  \
             (root@node)\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
        );
        fs::write(file, text)
    }
}

/// NVML writes the PCI domain with eight digits and in capitals, sysfs with at least four and in
/// small letters.
fn sysfs_name(bus_id: &str) -> String {
    let bus_id = bus_id.to_lowercase();
    let parts = bus_id
        .split_once(':')
        .and_then(|(domain, rest)| Some((u32::from_str_radix(domain, 16).ok()?, rest)));
    parts.map_or_else(|| bus_id.clone(), |(domain, rest)| format!("{domain:04x}:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::sysfs_name;

    #[test]
    fn sysfs_writes_the_bus_id_its_own_way() {
        assert_eq!(sysfs_name("00000000:1B:00.0"), "0000:1b:00.0");
        assert_eq!(sysfs_name("00010000:C8:00.0"), "10000:c8:00.0");
    }
}
