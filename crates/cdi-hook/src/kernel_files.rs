//! `dmem.capacity`: which memory of devices the kernel can limit.

/// A region of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region<'a> {
    /// As `nvidia/0000:17:00.0/vidmem`.
    pub(crate) name: &'a str,
    /// Bytes.
    pub(crate) capacity: u64,
}

impl Region<'_> {
    /// Whether it is the memory of the GPU at this address on the bus.
    pub(crate) fn is_of(&self, address: &str) -> bool {
        let mut parts = self.name.split('/').rev();
        let is_memory =
            parts.next().is_some_and(|last| last.starts_with("vidmem") || last.starts_with("vram"));
        is_memory && parts.any(|part| is_same(part, address))
    }
}

/// The regions that the file lists; what cannot be read as one is left out.
pub(crate) fn regions<'a>(text: &'a str) -> Vec<Region<'a>> {
    let region = |line: &'a str| {
        let (name, capacity) = line.rsplit_once(' ')?;
        Some(Region { name, capacity: capacity.parse().ok()? })
    };
    text.lines().filter_map(region).collect()
}

/// Whether two texts are one address: NVML writes the domain with eight digits, the kernel with
/// four, and either may have capital letters.
fn is_same(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let (domain, rest) = text.split_once(':')?;
        Some((u32::from_str_radix(domain, 16).ok()?, rest.to_ascii_lowercase()))
    };
    parts(a).is_some_and(|a| Some(a) == parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_found_by_the_address() {
        let text = "nvidia/0000:17:00.0/vidmem 85899345920\ndrm/0000:65:00.0/vram0 8514437120\n\
                    drm/0000:65:00.0/stolen 67108864\nnonsense\nnvidia/0000:18:00.0/vidmem x\n";
        let regions = regions(text);
        assert_eq!(regions.len(), 3);
        for (address, expected) in [
            ("00000000:17:00.0", Some("nvidia/0000:17:00.0/vidmem")),
            ("0000:65:00.0", Some("drm/0000:65:00.0/vram0")),
            ("0001:17:00.0", None),
            ("0000:18:00.0", None),
        ] {
            let found = regions.iter().find(|region| region.is_of(address));
            assert_eq!(found.map(|region| region.name), expected, "{address}");
        }
    }
}
