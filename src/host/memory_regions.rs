//! The memory of GPUs that the kernel can limit: the regions of its `dmem` controller
//! (Documentation/admin-guide/cgroup-v2.rst, "DMEM"; Linux 6.14). NVIDIA's driver registers one for
//! each GPU from R615 on, `nvidia/<PCI address>/vidmem`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use device::cdi::MemoryRegions;
use device::names::PciBusId;

use super::file::{self, Links};

/// The most bytes of the file. It has a line of about 50 for each GPU.
const MOST_BYTES: usize = 1 << 20;

/// The bytes of each GPU's memory, by its place on the bus; or why none can be limited. The file is
/// at the root of the host's tree of cgroups alone.
pub fn find(cgroup_root: &Path) -> MemoryRegions {
    let path = cgroup_root.join("dmem.capacity");
    let text = file::read(&path, Links::Refuse, MOST_BYTES).map_err(|error| {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no {path}; Linux 6.14 with its dmem controller and cgroups of version 2 \
                 is needed, and in a container the host's /sys/fs/cgroup at --cgroup-root"
            ),
            _ => format!("{path}: {error}"),
        }
    })?;
    Ok(regions(&String::from_utf8_lossy(&text)))
}

fn regions(text: &str) -> BTreeMap<PciBusId, u64> {
    text.lines().filter_map(region).collect()
}

/// A line that is of a GPU's own memory: others are of parts that the system has reserved.
fn region(line: &str) -> Option<(PciBusId, u64)> {
    let (name, bytes) = line.rsplit_once(' ')?;
    let mut parts = name.split('/').rev();
    let kind = parts.next()?;
    let is_memory = kind.starts_with("vidmem") || kind.starts_with("vram");
    let bus = parts.find_map(|part| part.parse().ok()).filter(|_| is_memory)?;
    Some((bus, bytes.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn regions_are_known_by_the_bus() {
        let root = tempfile::tempdir().unwrap();
        let why = find(root.path()).unwrap_err();
        assert!(why.contains("dmem.capacity; Linux 6.14"), "{why}");
        let text = "nvidia/0000:17:00.0/vidmem 85899345920\ndrm/0000:65:00.0/vram0 1024\n\
                    drm/0000:65:00.0/stolen 12\nnonsense\nnvidia/x/vidmem 1\n\
                    nvidia/0:1:2.0/vidmem -1\n";
        fs::write(root.path().join("dmem.capacity"), text).unwrap();
        let found = find(root.path()).unwrap();
        let found: Vec<_> = found.iter().map(|(bus, bytes)| format!("{bus} {bytes}")).collect();
        assert_eq!(found, ["0000:17:00.0 85899345920", "0000:65:00.0 1024"]);
    }
}
