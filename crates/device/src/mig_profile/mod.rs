//! Names of MIG profiles, `1c.2g.20gb+me`: computed from the attributes of an instance, or parsed
//! from the name that newer drivers give.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

/// A MIG profile: compute slices, GPU slices, memory, and a suffix for its other features.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigProfile {
    compute_slices: u32,
    gpu_slices: u32,
    memory_gb: u32,
    /// `+me`, `+me.all`, `+gfx`, `-me` or empty; newer drivers may know more.
    suffix: String,
}

/// A text that is not the name of a MIG profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MIG profile (slices and memory, e.g. 1g.10gb, 1c.2g.20gb, 1g.10gb+me)")]
pub struct InvalidMigProfile(pub String);

/// The attributes of a MIG device and its GPU, from NVML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigAttributes {
    /// NVML's constant for its GPU instance profile; `None` if that could not be read.
    pub gpu_instance_profile: Option<u32>,
    /// GPU slices of its GPU instance.
    pub gpu_slices: u32,
    /// Compute slices of its compute instance.
    pub compute_slices: u32,
    /// Memory of the instance in MiB.
    pub memory_mib: u64,
    /// Memory of the whole GPU in bytes.
    pub gpu_memory_bytes: u64,
}

impl MigProfile {
    /// The profile that `attributes` describe. `None` where they contradict each other, or where
    /// the GPU instance profile is unknown here: without its suffix the name would be that of
    /// another profile.
    #[must_use]
    pub fn of(attributes: &MigAttributes) -> Option<Self> {
        let &MigAttributes { gpu_slices, compute_slices, memory_mib, gpu_memory_bytes, .. } =
            attributes;
        if gpu_slices == 0 || compute_slices == 0 || compute_slices > gpu_slices {
            return None;
        }
        let suffix = attributes.gpu_instance_profile.map_or(Some(""), suffix)?.to_owned();
        let memory_gb = memory_gb(memory_mib, gpu_memory_bytes)?;
        Some(Self { compute_slices, gpu_slices, memory_gb, suffix })
    }

    /// The profile at the end of a device name: "MIG 1g.10gb", "NVIDIA H100 80GB HBM3 MIG
    /// 1g.10gb+me".
    #[must_use]
    pub fn in_name(name: &str) -> Option<Self> {
        name.split_whitespace().next_back()?.parse().ok()
    }

    /// Whether the compute instance is only a part of its GPU instance.
    fn is_split(&self) -> bool {
        self.compute_slices < self.gpu_slices
    }

    /// The resource name without `nvidia.com/`: `mig-1g.10gb.me` for `1g.10gb+me`.
    pub(crate) fn resource_base(&self) -> String {
        format!("mig-{self}").replace('+', ".")
    }
}

/// The suffix of a GPU instance profile, by NVML's constant (`NVML_GPU_INSTANCE_PROFILE_*`).
fn suffix(profile: u32) -> Option<&'static str> {
    Some(match profile {
        // 1, 2, 3, 4, 7, 8 and 6 slices, and 1 slice with more memory (REV2).
        0..=6 | 9 => "",
        // 1 and 2 slices with the media engine (REV1).
        7 | 8 => "+me",
        // 1, 2, 4 and 3 slices with graphics.
        10..=12 | 17 => "+gfx",
        // 1 and 2 slices without media engines.
        13 | 14 => "-me",
        // 1 and 2 slices with all media engines.
        15 | 16 => "+me.all",
        _ => return None,
    })
}

/// The memory in a name, in GB: the instance's share of the GPU's memory in eighths, rounded up, of
/// that memory in GiB, rounded up; halves round up.
fn memory_gb(memory_mib: u64, gpu_memory_bytes: u64) -> Option<u32> {
    let (part, whole) = (u128::from(memory_mib) << 20, u128::from(gpu_memory_bytes));
    if part == 0 || whole == 0 {
        return None;
    }
    let eighths = (part * 8).div_ceil(whole);
    let gib = whole.div_ceil(1 << 30);
    u32::try_from((eighths * gib + 4) / 8).ok()
}

impl FromStr for MigProfile {
    type Err = InvalidMigProfile;

    fn from_str(text: &str) -> Result<Self, InvalidMigProfile> {
        parse(text).ok_or_else(|| InvalidMigProfile(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<MigProfile> {
    let size_end = text.find(['+', '-']).unwrap_or(text.len());
    let (size, suffix) = text.split_at(size_end);
    let letters = suffix.get(1..).unwrap_or_default();
    let attribute = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !suffix.is_empty() && !letters.split(['.', '+', '-', ',']).all(attribute) {
        return None;
    }
    let mut parts = size.split('.');
    let first = parts.next()?;
    let (compute, gpu) = match first.strip_suffix('c') {
        Some(compute) => (Some(number(compute)?), parts.next()?),
        None => (None, first),
    };
    let gpu_slices = number(gpu.strip_suffix('g')?)?;
    let memory_gb = number(parts.next()?.strip_suffix("gb")?)?;
    let compute_slices = compute.unwrap_or(gpu_slices);
    let whole = parts.next().is_none() && compute_slices <= gpu_slices;
    whole.then(|| MigProfile {
        compute_slices,
        gpu_slices,
        memory_gb,
        suffix: suffix.replace(',', "+"),
    })
}

/// A number above zero without leading zeros or a sign.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_split() {
            write!(f, "{}c.", self.compute_slices)?;
        }
        write!(f, "{}g.{}gb{}", self.gpu_slices, self.memory_gb, self.suffix)
    }
}
