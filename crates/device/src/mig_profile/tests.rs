//! Tests of the names of MIG profiles.

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
            let profile = MigProfile::of(&MigAttributes {
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
fn a_text_that_is_no_profile_is_refused() {
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
        assert_eq!(text.parse::<MigProfile>(), Err(InvalidMigProfile(text.to_owned())));
    }
    for name in ["", "NVIDIA H100 80GB HBM3", "MIG"] {
        assert_eq!(MigProfile::in_name(name), None);
    }
}

#[test]
fn contradictory_attributes_have_no_name() {
    let good = MigAttributes {
        gpu_instance_profile: None,
        gpu_slices: 2,
        compute_slices: 1,
        memory_mib: 9_856,
        gpu_memory_bytes: 40_536 << 20,
    };
    assert_eq!(MigProfile::of(&good).unwrap().to_string(), "1c.2g.10gb");
    for bad in [
        MigAttributes { gpu_slices: 0, ..good },
        MigAttributes { compute_slices: 0, ..good },
        MigAttributes { compute_slices: 3, ..good },
        MigAttributes { memory_mib: 0, ..good },
        MigAttributes { gpu_memory_bytes: 0, ..good },
        MigAttributes { gpu_instance_profile: Some(99), ..good },
        MigAttributes { memory_mib: u64::MAX, gpu_memory_bytes: 1, ..good },
    ] {
        assert_eq!(MigProfile::of(&bad), None, "{bad:?}");
    }
}
