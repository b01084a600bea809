//! NVIDIA's functions on the PCI bus, from sysfs: GPUs that the kernel has, whatever NVML says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use device::identity::PciFunction;
use device::names::PciBusId;

use super::file::{self, Links};
use super::file_id::FileId;

/// NVIDIA's vendor id, as sysfs writes it.
const NVIDIA: &str = "0x10de";
/// Most functions that are looked at.
const FUNCTIONS: usize = 4096;
/// Most bytes of a file of sysfs, which is one short line.
const LINE: usize = 256;
/// Most bytes that are read of what the driver says of a GPU.
const INFORMATION: usize = 4096;

/// Where sysfs, procfs and the device nodes are.
#[derive(Debug, Clone, Copy)]
pub struct BusRoots<'a> {
    /// sysfs.
    pub sysfs: &'a Path,
    /// procfs.
    pub proc: &'a Path,
    /// The directory that has `dev`.
    pub dev: &'a Path,
}

/// Reads the bus again and again. What stays of a function is read once for each entry of sysfs,
/// which has an inode number of its own (kernfs counts them up): a node has hundreds of functions,
/// nearly all of other vendors. What stays while a driver is bound is read once for each link to
/// it, which is made at each binding.
#[derive(Debug, Default)]
pub struct BusReader {
    vendors: BTreeMap<(OsString, u64), Vendor>,
    bindings: BTreeMap<PciBusId, (FileId, Binding)>,
}

/// What stays of a function.
#[derive(Debug, Clone, Copy)]
enum Vendor {
    Nvidia { class: u32, virtual_function: bool },
    Other,
}

/// What stays while a driver is bound to a function.
#[derive(Debug)]
struct Binding {
    driver: Option<String>,
    /// The number of the device node; `None`: the driver does not say.
    minor: Option<u32>,
}

impl BusReader {
    /// The functions of vendor NVIDIA, in the order of their addresses.
    ///
    /// # Errors
    /// The directory of the bus cannot be read, or has more functions than a node can have. What
    /// cannot be read of one function is missing from it alone.
    pub fn functions(&mut self, roots: BusRoots<'_>) -> io::Result<Vec<PciFunction>> {
        let before = std::mem::take(&mut self.vendors);
        let mut bindings = std::mem::take(&mut self.bindings);
        let mut functions = Vec::new();
        for (count, entry) in fs::read_dir(roots.sysfs.join("bus/pci/devices"))?.enumerate() {
            if count >= FUNCTIONS {
                return Err(io::Error::other(format!(
                    "it has more than {FUNCTIONS} PCI functions"
                )));
            }
            let entry = entry?;
            let key = (entry.file_name(), entry.ino());
            let Some(vendor) = before.get(&key).copied().or_else(|| vendor(&entry)) else {
                continue;
            };
            let id = key.0.to_str().and_then(|name| name.parse::<PciBusId>().ok());
            self.vendors.insert(key, vendor);
            let (Some(id), Vendor::Nvidia { class, virtual_function }) = (id, vendor) else {
                continue;
            };
            let link = entry.path().join("driver");
            let made = fs::symlink_metadata(&link).ok().map(|link| FileId::from(&link));
            let known = bindings.remove(&id).filter(|(known, _)| Some(*known) == made);
            let binding = known.map_or_else(|| Binding::read(id, &link, roots), |(_, known)| known);
            let given = is_given(binding.minor, roots);
            let driver = binding.driver.clone();
            functions.push(PciFunction { id, driver, class, virtual_function, given });
            // The driver may say the number later.
            if let (Some(made), Some(_)) = (made, binding.minor) {
                self.bindings.insert(id, (made, binding));
            }
        }
        functions.sort_by_key(|function| function.id);
        Ok(functions)
    }
}

/// What stays of the function of an entry; `None` if it cannot be read now.
fn vendor(entry: &DirEntry) -> Option<Vendor> {
    let directory = entry.path();
    if read(&directory.join("vendor"))?.trim() != NVIDIA {
        return Some(Vendor::Other);
    }
    let class = class_in(&directory)?;
    let virtual_function = directory.join("physfn").symlink_metadata().is_ok();
    Some(Vendor::Nvidia { class, virtual_function })
}

/// The class of a function, e.g. 0x030200.
#[must_use]
pub fn class(sysfs: &Path, id: PciBusId) -> Option<u32> {
    class_in(&sysfs.join("bus/pci/devices").join(id.to_string()))
}

fn class_in(directory: &Path) -> Option<u32> {
    let class = read(&directory.join("class"))?;
    u32::from_str_radix(class.trim().strip_prefix("0x")?, 16).ok()
}

impl Binding {
    fn read(id: PciBusId, link: &Path, roots: BusRoots<'_>) -> Self {
        let driver = fs::read_link(link).ok();
        let driver = driver.and_then(|driver| Some(driver.file_name()?.to_str()?.to_owned()));
        let information = roots.proc.join(format!("driver/nvidia/gpus/{id}/information"));
        let minor = read_at_most(&information, INFORMATION).and_then(|text| minor(&text));
        Self { driver, minor }
    }
}

/// Whether the device node of a function is in this container. It is taken to be where the driver
/// does not say which node that is.
fn is_given(minor: Option<u32>, roots: BusRoots<'_>) -> bool {
    minor.is_none_or(|minor| roots.dev.join(format!("dev/nvidia{minor}")).exists())
}

/// The number after `Device Minor:` in a file `information` of the driver.
fn minor(information: &str) -> Option<u32> {
    let line = information.lines().find_map(|line| line.trim().strip_prefix("Device Minor:"))?;
    line.trim().parse().ok()
}

/// A file of one short line; `None` for any other.
fn read(file: &Path) -> Option<String> {
    read_at_most(file, LINE + 1).filter(|text| text.len() <= LINE)
}

fn read_at_most(path: &Path, bytes: usize) -> Option<String> {
    String::from_utf8(file::read_start(path, Links::Follow, bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A sysfs, a procfs and a `/dev` of their own.
    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(node.at("sys/bus/pci/devices")).unwrap();
            fs::create_dir_all(node.at("dev")).unwrap();
            node
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let file = self.at(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        /// A function with its vendor and class, and the driver that is bound to it.
        fn add(&self, id: &str, vendor: &str, class: &str, driver: Option<&str>) {
            let directory = format!("sys/bus/pci/devices/{id}");
            self.write(&format!("{directory}/vendor"), vendor);
            self.write(&format!("{directory}/class"), class);
            if let Some(driver) = driver {
                let target = format!("../../../bus/pci/drivers/{driver}");
                symlink(target, self.at(&directory).join("driver")).unwrap();
            }
        }

        /// Each function as `address driver class`, with a mark for what is odd.
        fn functions(&self) -> io::Result<Vec<String>> {
            let (sysfs, proc) = (self.at("sys"), self.at("proc"));
            let roots = BusRoots { sysfs: &sysfs, proc: &proc, dev: self.0.path() };
            let text = |of: &PciFunction| {
                let driver = of.driver.as_deref().unwrap_or("-");
                let virtual_function = if of.virtual_function { " virtual" } else { "" };
                let given = if of.given { "" } else { " not given" };
                format!("{} {driver} {:06x}{virtual_function}{given}", of.id, of.class)
            };
            Ok(BusReader::default().functions(roots)?.iter().map(text).collect())
        }
    }

    #[test]
    fn what_stays_of_a_function_is_read_once_and_what_may_change_each_time() {
        let node = Node::new();
        let (sysfs, proc) = (node.at("sys"), node.at("proc"));
        let roots = BusRoots { sysfs: &sysfs, proc: &proc, dev: node.0.path() };
        let mut reader = BusReader::default();
        let mut drivers = || {
            let functions = reader.functions(roots).unwrap();
            functions.iter().map(|of| (of.class, of.driver.clone())).collect::<Vec<_>>()
        };
        node.add("0000:1b:00.0", "0x10de\n", "0x030200\n", None);
        node.add("0000:1c:00.0", "0x8086\n", "0x030200\n", None);
        assert_eq!(drivers(), [(0x03_0200, None)]);
        node.add("0000:1b:00.0", "0x8086\n", "0x010000\n", Some("nvidia"));
        node.add("0000:1c:00.0", "0x10de\n", "0x030200\n", Some("nvidia"));
        assert_eq!(drivers(), [(0x03_0200, Some("nvidia".to_owned()))], "the same entries");
        // Beside the old one, so that it has another inode number.
        node.add("next", "0x10de\n", "0x030000\n", Some("nvidia"));
        let devices = node.at("sys/bus/pci/devices");
        fs::rename(devices.join("0000:1c:00.0"), node.at("old")).unwrap();
        fs::rename(devices.join("next"), devices.join("0000:1c:00.0")).unwrap();
        assert_eq!(drivers().len(), 2, "a function that was added");
    }

    #[test]
    fn what_stays_of_a_binding_is_read_once_and_the_node_is_looked_for_each_time() {
        let node = Node::new();
        let (sysfs, proc) = (node.at("sys"), node.at("proc"));
        let roots = BusRoots { sysfs: &sysfs, proc: &proc, dev: node.0.path() };
        let mut reader = BusReader::default();
        let mut given = || {
            let of = reader.functions(roots).unwrap().remove(0);
            (of.driver, of.given)
        };
        let expected = |driver: &str, given| (Some(driver.to_owned()), given);
        let information = "proc/driver/nvidia/gpus/0000:1b:00.0/information";
        node.add("0000:1b:00.0", "0x10de\n", "0x030200\n", Some("nvidia"));
        assert_eq!(given(), expected("nvidia", true), "the driver says no number yet");
        node.write(information, "Device Minor: \t 3\n");
        assert_eq!(given(), expected("nvidia", false));
        node.write("dev/nvidia3", "");
        assert_eq!(given(), expected("nvidia", true));
        fs::remove_file(node.at("dev/nvidia3")).unwrap();
        assert_eq!(given(), expected("nvidia", false));
        // Nothing but a new binding gives it another number.
        node.write(information, "Device Minor: \t 4\n");
        node.write("dev/nvidia4", "");
        assert_eq!(given(), expected("nvidia", false));
        for driver in ["vfio-pci", "nvidia"] {
            let link = node.at("sys/bus/pci/devices/0000:1b:00.0/driver");
            fs::remove_file(&link).unwrap();
            symlink(format!("../../../bus/pci/drivers/{driver}"), link).unwrap();
            assert_eq!(given(), expected(driver, true));
        }
    }

    #[test]
    fn the_functions_of_nvidia_come_with_driver_and_class() {
        let node = Node::new();
        node.add("0000:c8:00.0", "0x10de\n", "0x030000\n", Some("vfio-pci"));
        node.add("0000:1b:00.0", "0x10de\n", "0x030200\n", Some("nvidia"));
        node.add("0000:1b:00.1", "0x10de\n", "0x040300\n", Some("snd_hda_intel"));
        node.add("0000:1c:00.4", "0x10de\n", "0x030200\n", None);
        fs::create_dir(node.at("sys/bus/pci/devices/0000:1c:00.4/physfn")).unwrap();
        node.add("0000:00:02.0", "0x8086\n", "0x030000\n", Some("i915"));
        assert_eq!(
            node.functions().unwrap(),
            [
                "0000:1b:00.0 nvidia 030200",
                "0000:1b:00.1 snd_hda_intel 040300",
                "0000:1c:00.4 - 030200 virtual",
                "0000:c8:00.0 vfio-pci 030000"
            ]
        );
    }

    #[test]
    fn a_gpu_is_given_if_its_node_is_here_or_the_driver_does_not_say_which_that_is() {
        let information = "proc/driver/nvidia/gpus/0000:1b:00.0/information";
        let long = format!("Model: \t {}\nDevice Minor: \t 3\n", "x".repeat(300));
        for (text, node_is_there, expected) in [
            (None, false, true),
            (Some("Model: \t NVIDIA H100\nDevice Minor: \t 3\n"), true, true),
            (Some("Model: \t NVIDIA H100\nDevice Minor: \t 3\n"), false, false),
            (Some(long.as_str()), false, false),
            (Some("Device Minor: \t ?\n"), false, true),
            (Some(""), false, true),
        ] {
            let node = Node::new();
            node.add("0000:1b:00.0", "0x10de", "0x030200", Some("nvidia"));
            if let Some(text) = text {
                node.write(information, text);
            }
            if node_is_there {
                node.write("dev/nvidia3", "");
            }
            let given = !node.functions().unwrap()[0].ends_with("not given");
            assert_eq!(given, expected, "{text:?} {node_is_there}");
        }
    }

    #[test]
    fn what_is_odd_on_the_bus_is_passed_over() {
        let node = Node::new();
        node.add("0000:1b:00.0", "0x10de", "0x030200", Some("nvidia"));
        node.add("0000:1c:00.0", "0x10de", "a class", Some("nvidia"));
        node.add("0000:1d:00.0", &"0x10de".repeat(100), "0x030200", Some("nvidia"));
        node.add("no address", "0x10de", "0x030200", Some("nvidia"));
        fs::create_dir_all(node.at("sys/bus/pci/devices/0000:1e:00.0/vendor")).unwrap();
        node.write("sys/bus/pci/devices/0000:1f:00.0/vendor", "\u{0}");
        assert_eq!(node.functions().unwrap(), ["0000:1b:00.0 nvidia 030200"]);
    }

    #[test]
    fn a_bus_that_cannot_be_read_or_has_no_end_is_an_error() {
        let node = Node::new();
        for number in 0..=FUNCTIONS {
            fs::create_dir(node.at(&format!("sys/bus/pci/devices/{number}"))).unwrap();
        }
        let error = node.functions().unwrap_err().to_string();
        assert!(error.contains("more than 4096 PCI functions"), "{error}");
        fs::remove_dir_all(node.at("sys/bus")).unwrap();
        assert_eq!(node.functions().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
