//! Names of MIG profiles, `1c.2g.20gb+me`: worked out from what NVML says about an instance, or
//! read from the name that newer drivers give.

use std::fmt;
use std::str::FromStr;

/// A MIG profile: compute slices, GPU slices, memory, and what sets it apart from others of this
/// size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigProfile {
    compute_slices: u32,
    gpu_slices: u32,
    memory_gb: u32,
    /// `+me`, `+me.all`, `+gfx`, `-me` or empty; newer drivers may know more.
    suffix: String,
}

/// A text that is no name of a MIG profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MIG profile (slices and memory, e.g. 1g.10gb, 1c.2g.20gb, 1g.10gb+me)")]
pub struct NotAProfile(pub String);

/// What NVML says about a MIG device and its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Which of NVML's GPU instance profiles it has, by NVML's constant; `None` if that could not
    /// be found out.
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
    /// The profile that `attributes` describe. `None` where they contradict themselves, or where
    /// the GPU instance profile is one that this table does not know: a name that lacks its suffix
    /// would be another profile's.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Option<Self> {
        let &Attributes { gpu_slices, compute_slices, memory_mib, gpu_memory_bytes, .. } =
            attributes;
        if gpu_slices == 0 || compute_slices == 0 || compute_slices > gpu_slices {
            return None;
        }
        let suffix = attributes.gpu_instance_profile.map_or(Some(""), suffix)?.to_owned();
        let memory_gb = memory_gb(memory_mib, gpu_memory_bytes)?;
        Some(Self { compute_slices, gpu_slices, memory_gb, suffix })
    }

    /// The profile in a name that the driver gives: "MIG 1g.10gb", "NVIDIA H100 80GB HBM3 MIG
    /// 1g.10gb+me".
    #[must_use]
    pub fn in_name(name: &str) -> Option<Self> {
        name.split_whitespace().next_back()?.parse().ok()
    }

    /// Compute slices of the compute instance.
    #[must_use]
    pub fn compute_slices(&self) -> u32 {
        self.compute_slices
    }

    /// GPU slices of the GPU instance.
    #[must_use]
    pub fn gpu_slices(&self) -> u32 {
        self.gpu_slices
    }

    /// Memory in GB, as the name rounds it.
    #[must_use]
    pub fn memory_gb(&self) -> u32 {
        self.memory_gb
    }

    /// Whether the compute instance is only a part of its GPU instance.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.compute_slices < self.gpu_slices
    }

    /// What follows `nvidia.com/` in the name of its resource: `mig-1g.10gb.me` for `1g.10gb+me`.
    #[must_use]
    pub fn resource_base(&self) -> String {
        format!("mig-{self}").replace('+', ".")
    }
}

/// What sets a GPU instance profile apart, by NVML's constant (`NVML_GPU_INSTANCE_PROFILE_*`).
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

/// The memory that a name states: the instance's share of the GPU in whole eighths, rounded up, of
/// the GPU's memory in whole GiB, rounded up; halves round up.
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
    type Err = NotAProfile;

    fn from_str(text: &str) -> Result<Self, NotAProfile> {
        parse(text).ok_or_else(|| NotAProfile(text.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Model, the GPU's memory in MiB, and its profiles: NVML's constant, GPU slices, compute
    /// slices, the instance's memory in MiB, the name.
    type Model = (&'static str, u64, &'static [(u32, u32, u32, u64, &'static str)]);

    const MODELS: &[Model] = &[
        (
            "A30",
            24_576,
            &[
                (0, 1, 1, 5_952, "1g.6gb"),
                (7, 1, 1, 5_952, "1g.6gb+me"),
                (1, 2, 2, 11_968, "2g.12gb"),
                (8, 2, 2, 11_968, "2g.12gb+me"),
                (3, 4, 4, 24_125, "4g.24gb"),
                (1, 2, 1, 11_968, "1c.2g.12gb"),
            ],
        ),
        (
            "A100 40GB",
            40_536,
            &[
                (0, 1, 1, 4_864, "1g.5gb"),
                (7, 1, 1, 4_864, "1g.5gb+me"),
                (9, 1, 1, 9_856, "1g.10gb"),
                (1, 2, 2, 9_856, "2g.10gb"),
                (2, 3, 3, 19_968, "3g.20gb"),
                (2, 3, 1, 19_968, "1c.3g.20gb"),
                (2, 3, 2, 19_968, "2c.3g.20gb"),
                (3, 4, 4, 19_968, "4g.20gb"),
                (4, 7, 7, 40_192, "7g.40gb"),
            ],
        ),
        (
            "A100 80GB",
            81_920,
            &[
                (0, 1, 1, 9_728, "1g.10gb"),
                (7, 1, 1, 9_728, "1g.10gb+me"),
                (9, 1, 1, 19_968, "1g.20gb"),
                (1, 2, 2, 19_968, "2g.20gb"),
                (2, 3, 3, 40_192, "3g.40gb"),
                (3, 4, 4, 40_192, "4g.40gb"),
                (4, 7, 7, 81_024, "7g.80gb"),
            ],
        ),
        (
            "H100 80GB",
            81_559,
            &[
                (0, 1, 1, 9_856, "1g.10gb"),
                (7, 1, 1, 9_856, "1g.10gb+me"),
                (9, 1, 1, 19_968, "1g.20gb"),
                (1, 2, 2, 19_968, "2g.20gb"),
                (1, 2, 1, 19_968, "1c.2g.20gb"),
                (2, 3, 3, 40_448, "3g.40gb"),
                (3, 4, 4, 40_448, "4g.40gb"),
                (4, 7, 7, 80_896, "7g.80gb"),
            ],
        ),
        (
            "H100 NVL 94GB",
            95_830,
            &[
                (0, 1, 1, 11_008, "1g.12gb"),
                (9, 1, 1, 22_400, "1g.24gb"),
                (1, 2, 2, 22_400, "2g.24gb"),
                (2, 3, 3, 47_488, "3g.47gb"),
                (3, 4, 4, 47_488, "4g.47gb"),
                (4, 7, 7, 94_976, "7g.94gb"),
            ],
        ),
        (
            "H100 and GH200 96GB",
            97_871,
            &[
                (0, 1, 1, 11_264, "1g.12gb"),
                (7, 1, 1, 11_264, "1g.12gb+me"),
                (9, 1, 1, 23_552, "1g.24gb"),
                (2, 3, 3, 48_128, "3g.48gb"),
                (4, 7, 7, 96_768, "7g.96gb"),
            ],
        ),
        (
            "GH200 144GB",
            147_000,
            &[
                (0, 1, 1, 16_384, "1g.18gb"),
                (2, 3, 3, 73_000, "3g.72gb"),
                (4, 7, 7, 146_000, "7g.144gb"),
            ],
        ),
        (
            "H200 141GB",
            143_771,
            &[
                (0, 1, 1, 16_384, "1g.18gb"),
                (7, 1, 1, 16_384, "1g.18gb+me"),
                (9, 1, 1, 33_280, "1g.35gb"),
                (1, 2, 2, 33_280, "2g.35gb"),
                // These three as an H200 with driver 580.159.04 gives them.
                (2, 3, 3, 71_424, "3g.71gb"),
                (3, 4, 4, 71_424, "4g.71gb"),
                (4, 7, 7, 143_360, "7g.141gb"),
            ],
        ),
        (
            "B200 180GB",
            183_359,
            &[
                (0, 1, 1, 21_760, "1g.23gb"),
                (9, 1, 1, 44_800, "1g.45gb"),
                (1, 2, 2, 44_800, "2g.45gb"),
                (2, 3, 3, 91_136, "3g.90gb"),
                (3, 4, 4, 91_136, "4g.90gb"),
                (4, 7, 7, 182_272, "7g.180gb"),
            ],
        ),
        (
            "RTX PRO 6000 Blackwell 96GB",
            97_887,
            &[
                (0, 1, 1, 24_192, "1g.24gb"),
                (7, 1, 1, 24_192, "1g.24gb+me"),
                (10, 1, 1, 24_192, "1g.24gb+gfx"),
                (13, 1, 1, 24_192, "1g.24gb-me"),
                (15, 1, 1, 24_192, "1g.24gb+me.all"),
                (1, 2, 2, 48_512, "2g.48gb"),
                (11, 2, 2, 48_512, "2g.48gb+gfx"),
                (14, 2, 2, 48_512, "2g.48gb-me"),
                (16, 2, 2, 48_512, "2g.48gb+me.all"),
                (3, 4, 4, 97_280, "4g.96gb"),
                (12, 4, 4, 97_280, "4g.96gb+gfx"),
                (17, 3, 3, 72_000, "3g.72gb+gfx"),
            ],
        ),
    ];

    /// NVIDIA's plugin, "1.6 Resource naming": Profile GB and MIG mixed.
    #[test]
    fn real_profiles_have_their_real_names() {
        for (model, gpu_mib, profiles) in MODELS {
            for &(constant, gpu_slices, compute_slices, memory_mib, name) in *profiles {
                let profile = MigProfile::of(&Attributes {
                    gpu_instance_profile: Some(constant),
                    gpu_slices,
                    compute_slices,
                    memory_mib,
                    gpu_memory_bytes: gpu_mib << 20,
                });
                let profile = profile.unwrap_or_else(|| panic!("{model} {name}"));
                assert_eq!(profile.to_string(), name, "{model}");
                assert_eq!(name.parse(), Ok(profile.clone()), "{model}");
                assert_eq!(
                    MigProfile::in_name(&format!("NVIDIA {model} MIG {name}")),
                    Some(profile.clone())
                );
                assert_eq!(profile.is_split(), compute_slices < gpu_slices);
            }
        }
    }

    /// NVIDIA's plugin, "1.6 Resource naming": MIG mixed.
    #[test]
    fn a_resource_has_points_where_its_profile_has_plus_signs() {
        for (profile, base) in [
            ("1g.5gb", "mig-1g.5gb"),
            ("1g.10gb+me", "mig-1g.10gb.me"),
            ("1g.10gb+me.all", "mig-1g.10gb.me.all"),
            ("1g.24gb+gfx", "mig-1g.24gb.gfx"),
            ("1g.10gb-me", "mig-1g.10gb-me"),
            ("1c.2g.20gb", "mig-1c.2g.20gb"),
            ("1g.10gb+me,gfx", "mig-1g.10gb.me.gfx"),
        ] {
            let profile: MigProfile = profile.parse().unwrap();
            assert_eq!(profile.resource_base(), base);
            let name = format!("nvidia.com/{base}");
            assert!(name.parse::<crate::names::ResourceName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for text in [
            "",
            "1g",
            "g.10gb",
            "1g.gb",
            "1g.10",
            "1g.10gb+",
            "1g.10gb+ME",
            "1g.10gb.me",
            "0g.10gb",
            "01g.10gb",
            "+1g.10gb",
            "3c.2g.20gb",
            "1c.2g",
            "1g.10gb+me/x",
            "1g.10gb+me..all",
            "1g.99999999999gb",
            "MIG 1g.10gb",
            "ü",
            "+me",
        ] {
            assert_eq!(text.parse::<MigProfile>(), Err(NotAProfile(text.to_owned())));
        }
        for name in ["", "NVIDIA H100 80GB HBM3", "MIG"] {
            assert_eq!(MigProfile::in_name(name), None);
        }
    }

    #[test]
    fn attributes_that_contradict_themselves_have_no_name() {
        let good = Attributes {
            gpu_instance_profile: None,
            gpu_slices: 2,
            compute_slices: 1,
            memory_mib: 9_856,
            gpu_memory_bytes: 40_536 << 20,
        };
        assert_eq!(MigProfile::of(&good).unwrap().to_string(), "1c.2g.10gb");
        for bad in [
            Attributes { gpu_slices: 0, ..good },
            Attributes { compute_slices: 0, ..good },
            Attributes { compute_slices: 3, ..good },
            Attributes { memory_mib: 0, ..good },
            Attributes { gpu_memory_bytes: 0, ..good },
            Attributes { gpu_instance_profile: Some(99), ..good },
            Attributes { memory_mib: u64::MAX, gpu_memory_bytes: 1, ..good },
        ] {
            assert_eq!(MigProfile::of(&bad), None, "{bad:?}");
        }
    }
}
