//! Tests of layouts: NVIDIA's table of MIG strategies, names, sharing and the filter.

use super::*;
use crate::allocation::AllocationPolicy;
use crate::gpu::{Gpu, MigDevice, MigFailure, MigMode, NumaNode, Placement};
use crate::health::{NvmlError, ReturnCode};
use crate::identity::{GpuRecord, KnownGpu};
use crate::layout::filter::{Pattern, Term};
use crate::layout::sharing::{DeviceRef, Replication, Selection, SharedResource};
use crate::testing::gpu;

fn sliced(index: u32, profiles: &[&str]) -> Gpu {
    let slice = |(mig, profile): (usize, &&str)| MigDevice {
        uuid: format!("MIG-{index}-{mig}").parse().unwrap(),
        index: mig as u32,
        placement: Placement { gpu_instance: mig as u32 + 1, compute_instance: 0 },
        gpu_slices: 1,
        compute_slices: 1,
        memory_mib: 9_984,
        profile: (!profile.is_empty()).then(|| (*profile).to_owned()),
        engines: None,
    };
    let mig_devices = profiles.iter().enumerate().map(slice).collect();
    Gpu { mig_mode: MigMode::On, mig_devices, ..gpu(index) }
}

fn by(strategy: MigStrategy) -> Layout {
    Layout { mig_strategy: strategy, ..Layout::default() }
}

fn apply(layout: &Layout, gpus: &[Gpu]) -> LayoutResult {
    let records: Vec<_> = gpus.iter().map(|gpu| GpuRecord::listed(gpu.clone())).collect();
    layout
        .apply(gpus.iter().zip(&records).map(|(gpu, record)| KnownGpu { uuid: &gpu.uuid, record }))
}

/// `gpu: GPU-0 GPU-1 | mig-1g.10gb: ...`, without the domain.
fn offered(result: &LayoutResult) -> String {
    let resource = |(name, devices): (&ResourceName, &BTreeMap<DeviceId, Device>)| {
        let ids: Vec<_> = devices.keys().map(ToString::to_string).collect();
        format!("{}: {}", name.base(), ids.join(" "))
    };
    result.resources.iter().map(resource).collect::<Vec<_>>().join(" | ")
}

fn findings(result: &LayoutResult) -> String {
    result.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// NVIDIA's plugin, "1.7 MIG strategies": each row, with the valid part of what is fatal there.
#[test]
fn mig_strategies_follow_section_1_7() {
    use MigStrategy::{Mixed, None as Whole, Single};
    let whole = vec![gpu(0), gpu(1)];
    let alike = vec![sliced(0, &["1g.10gb", "1g.10gb"]), sliced(1, &["1g.10gb"])];
    let empty = vec![sliced(0, &[]), sliced(1, &["1g.10gb"])];
    let two_profiles = vec![sliced(0, &["1g.10gb", "1g.10gb", "2g.20gb"])];
    let some_mig = vec![gpu(0), sliced(1, &["1g.10gb"]), gpu(2)];
    let half_mig = vec![gpu(0), sliced(1, &["1g.10gb+me"])];
    let split = vec![sliced(0, &["1c.2g.20gb", "1c.2g.20gb"])];
    let undescribed = vec![sliced(0, &["", "1g.10gb"])];
    let rows: &[(&[Gpu], MigStrategy, &str, &str)] = &[
        // non-MIG GPU
        (&whole, Whole, "gpu: GPU-0 GPU-1", ""),
        (&whole, Single, "gpu: GPU-0 GPU-1", ""),
        (&whole, Mixed, "gpu: GPU-0 GPU-1", ""),
        // MIG-enabled GPU
        (&alike, Whole, "gpu: GPU-0 GPU-1", "offered whole, since the MIG strategy is none"),
        (&alike, Single, "gpu: MIG-0-0 MIG-0-1 MIG-1-0", ""),
        (&alike, Mixed, "mig-1g.10gb: MIG-0-0 MIG-0-1 MIG-1-0", ""),
        // MIG enabled, no MIG devices
        (&empty, Whole, "gpu: GPU-0 GPU-1", "offered whole"),
        (&empty, Single, "gpu: MIG-1-0", "GPU 0 (GPU-0) has MIG mode on and no MIG devices"),
        (&empty, Mixed, "mig-1g.10gb: MIG-1-0", "GPU 0 (GPU-0) has MIG mode on and no MIG devices"),
        // two profiles on node
        (
            &two_profiles,
            Single,
            "gpu: MIG-0-0 MIG-0-1",
            "MIG 1g.10gb is offered, and MIG 2g.20gb (0:2) is not",
        ),
        (&two_profiles, Mixed, "mig-1g.10gb: MIG-0-0 MIG-0-1 | mig-2g.20gb: MIG-0-2", ""),
        // mix of MIG and non-MIG GPUs
        (
            &some_mig,
            Single,
            "gpu: GPU-0 GPU-2",
            "whole GPUs is offered, and MIG 1g.10gb (1:0) is not",
        ),
        (&half_mig, Single, "gpu: MIG-1-0", "MIG 1g.10gb+me is offered, and whole GPUs (0) is not"),
        (&some_mig, Mixed, "gpu: GPU-0 GPU-2 | mig-1g.10gb: MIG-1-0", ""),
        (&half_mig, Mixed, "gpu: GPU-0 | mig-1g.10gb.me: MIG-1-0", ""),
        // compute-instance split
        (&split, Whole, "gpu: GPU-0", "offered whole"),
        (&split, Single, "gpu: MIG-0-0 MIG-0-1", ""),
        (&split, Mixed, "mig-1c.2g.20gb: MIG-0-0 MIG-0-1", ""),
        // a device that no pattern fits
        (&undescribed, Mixed, "mig-1g.10gb: MIG-0-1", "MIG device 0:0 (MIG-0-0) is not offered"),
    ];
    for (gpus, strategy, expected, says) in rows {
        let result = apply(&by(*strategy), gpus);
        assert_eq!(offered(&result), *expected, "{strategy:?}");
        assert!(findings(&result).contains(says), "{strategy:?} {expected}: {}", findings(&result));
        assert_eq!(
            result.findings.is_empty(),
            says.is_empty(),
            "{strategy:?} {expected}: {}",
            findings(&result)
        );
    }
}

/// NVIDIA's plugin, "1.8 Device identity": Index; and what events and capability nodes need.
#[test]
fn a_mig_device_has_its_index_and_the_facts_of_its_gpu() {
    let result = apply(
        &by(MigStrategy::Mixed),
        &[Gpu { minor: Some(9), ..sliced(5, &["1g.10gb", "1g.10gb"]) }],
    );
    let devices: Vec<_> = result.resources.values().flat_map(BTreeMap::values).collect();
    assert_eq!(devices[1].label(), "5:1");
    assert_eq!((devices[1].gpu.as_str(), devices[1].minor), ("GPU-5", Some(9)));
    assert_eq!(devices[1].placement, Some(Placement { gpu_instance: 2, compute_instance: 0 }));
    assert_eq!(devices[1].numa_node.map(NumaNode::number), Some(1));
}

#[test]
fn a_broken_mig_device_is_reported_and_the_others_are_offered() {
    let error = NvmlError { call: "nvmlDeviceGetUUID", code: ReturnCode::UNKNOWN };
    let broken =
        Gpu { mig_failures: vec![MigFailure { index: Some(1), error }], ..sliced(0, &["1g.10gb"]) };
    for strategy in [MigStrategy::Single, MigStrategy::Mixed] {
        let result = apply(&by(strategy), std::slice::from_ref(&broken));
        assert!(offered(&result).ends_with(": MIG-0-0"));
        assert!(
            findings(&result)
                .contains("MIG device 0:1 is not offered, the others are: nvmlDeviceGetUUID")
        );
    }
}

/// NVIDIA's plugin, "1.6 Resource naming": Skipped GPUs.
#[test]
fn reserved_gpus_are_shown_and_never_offered() {
    let named = |index, name: &str| Gpu { name: Some(name.to_owned()), ..gpu(index) };
    let gpus = [
        named(0, "NVIDIA A100"),
        named(1, "NVIDIA DGX Display"),
        named(2, "DGX Display"),
        gpu(3),
        gpu(4),
    ];
    let layout = Layout {
        devices: DeviceFilter {
            include: vec![Term::Index(0, 3)],
            exclude: vec![Term::Uuid(gpu(3).uuid)],
        },
        ..Layout::default()
    };
    let result = apply(&layout, &gpus);
    assert_eq!(offered(&result), "gpu: GPU-0");
    let reserved: Vec<_> =
        result.reserved.iter().map(|(uuid, why)| format!("{uuid} {why}")).collect();
    assert_eq!(
        reserved,
        [
            "GPU-1 a NVIDIA DGX Display computes nothing",
            "GPU-2 a DGX Display computes nothing",
            "GPU-3 excluded by GPU-3",
            "GPU-4 no term includes it"
        ]
    );
    assert!(result.findings.is_empty());
}

fn shared(base: &str, offered_as: &str, replicas: u32, devices: Selection) -> SharedResource {
    let name = |base: &str| format!("nvidia.com/{base}").parse().unwrap();
    SharedResource { name: name(base), offered_as: name(offered_as), replicas, devices }
}

fn replication(resources: Vec<SharedResource>) -> Replication {
    Replication { rename_by_default: false, fail_requests_greater_than_one: false, resources }
}

fn sliced_in_time(resources: Vec<SharedResource>) -> Layout {
    Layout { sharing: Sharing::TimeSlicing(replication(resources)), ..by(MigStrategy::Mixed) }
}

/// NVIDIA's plugin, "1.17 Sharing" and "1.8 Device identity": replicas are `<uuid>::<n>` from 0 on.
#[test]
fn replicas_follow_section_1_17() {
    let two = [gpu(0), gpu(1)];
    let all = |name| sliced_in_time(vec![shared("gpu", name, 2, Selection::All)]);
    assert_eq!(offered(&apply(&all("gpu"), &two)), "gpu: GPU-0::0 GPU-0::1 GPU-1::0 GPU-1::1");
    assert_eq!(
        offered(&apply(&all("gpu.shared"), &two)),
        "gpu.shared: GPU-0::0 GPU-0::1 GPU-1::0 GPU-1::1"
    );
    // A name that fits no device is passed over.
    let other = sliced_in_time(vec![shared("mig-1g.5gb", "mig-1g.5gb", 2, Selection::All)]);
    assert_eq!(offered(&apply(&other, &two)), "gpu: GPU-0 GPU-1");
    // MIG and time-slicing.
    let mig = sliced_in_time(vec![shared("mig-1g.10gb", "mig-1g.10gb.shared", 2, Selection::All)]);
    assert_eq!(
        offered(&apply(&mig, &[gpu(0), sliced(1, &["1g.10gb"])])),
        "gpu: GPU-0 | mig-1g.10gb.shared: MIG-1-0::0 MIG-1-0::1"
    );
    let topology: Vec<_> =
        apply(&all("gpu"), &[gpu(7)]).resources.into_values().flatten().collect();
    assert!(topology.iter().all(|(_, device)| device.numa_node.map(NumaNode::number) == Some(1)));
}

/// The keys `resources`, `rename` and `devices`, which NVIDIA's plugin parses and ignores.
#[test]
fn one_gpu_can_be_shared_and_the_others_exclusive() {
    let gpus = [gpu(0), gpu(1)];
    let list = |devices: &[DeviceRef]| Selection::List(devices.iter().cloned().collect());
    let uuid = |text: &str| DeviceRef::Uuid(text.parse().unwrap());
    let table = [
        (list(&[DeviceRef::Gpu(0)]), "gpu: GPU-1 | one: GPU-0::0 GPU-0::1"),
        (list(&[uuid("GPU-1")]), "gpu: GPU-0 | one: GPU-1::0 GPU-1::1"),
        (Selection::Count(1), "gpu: GPU-1 | one: GPU-0::0 GPU-0::1"),
        (Selection::Count(9), "one: GPU-0::0 GPU-0::1 GPU-1::0 GPU-1::1"),
    ];
    for (devices, expected) in table {
        let result = apply(&sliced_in_time(vec![shared("gpu", "one", 2, devices)]), &gpus);
        assert_eq!((offered(&result).as_str(), result.findings.len()), (expected, 0));
    }
    let mig = sliced_in_time(vec![shared(
        "mig-1g.10gb",
        "one",
        2,
        list(&[DeviceRef::Mig(0, 1), DeviceRef::Gpu(7)]),
    )]);
    let result = apply(&mig, &[sliced(0, &["1g.10gb", "1g.10gb"])]);
    assert_eq!(offered(&result), "mig-1g.10gb: MIG-0-0 | one: MIG-0-1::0 MIG-0-1::1");
    assert!(findings(&result).contains("names device 7, and no device of that resource is it"));
}

#[test]
fn a_model_and_a_profile_can_have_names_of_their_own() {
    let pattern = |pattern: &str, base: &str| NamePattern {
        pattern: Pattern::new(pattern),
        name: format!("nvidia.com/{base}").parse().unwrap(),
    };
    let layout = Layout {
        gpu_names: vec![pattern("*A100*", "a100"), pattern("*H100*", "h100")],
        mig_names: vec![pattern("1g.*", "small")],
        ..by(MigStrategy::Mixed)
    };
    let a100 = Gpu { name: Some("NVIDIA A100-SXM4-40GB".to_owned()), ..gpu(0) };
    let t4 = Gpu { name: Some("Tesla T4".to_owned()), ..gpu(2) };
    let gpus = [a100, gpu(1), t4, sliced(3, &["1g.10gb", "1g.10gb+me", "2g.20gb"])];
    assert_eq!(
        offered(&apply(&layout, &gpus)),
        "a100: GPU-0 | gpu: GPU-2 | h100: GPU-1 | mig-2g.20gb: MIG-3-2 | small: MIG-3-0 MIG-3-1"
    );
    // Under `single` the rule of one kind is for what the strategy names.
    let single = Layout { mig_strategy: MigStrategy::Single, ..layout };
    let result = apply(&single, &gpus);
    assert_eq!(
        offered(&result),
        "a100: GPU-0 | gpu: MIG-3-2 | h100: GPU-1 | small: MIG-3-0 MIG-3-1"
    );
}

/// NVIDIA's plugin, "1.7 MIG strategies": MIG + MPS.
#[test]
fn mps_shares_no_mig_devices_and_says_so() {
    let replication = replication(vec![shared("gpu", "gpu", 2, Selection::All)]);
    let sharing = Sharing::Mps { replication, root: "/run/nvidia/mps".into() };
    let layout = Layout { sharing, ..by(MigStrategy::Single) };
    let result = apply(&layout, &[sliced(0, &["1g.10gb"])]);
    assert_eq!(offered(&result), "");
    assert!(findings(&result).contains("sharing using MPS is not supported for MIG devices"));
    assert_eq!(offered(&apply(&layout, &[gpu(0)])), "gpu: GPU-0::0 GPU-0::1");
}

#[test]
fn a_list_that_is_too_long_for_the_kubelet_is_refused_with_the_arithmetic() {
    let long = |index: u32| Gpu { uuid: format!("GPU-{index:036}").parse().unwrap(), ..gpu(index) };
    let gpus: Vec<_> = (0..8).map(long).collect();
    let fits = sliced_in_time(vec![shared("gpu", "gpu", 7_825, Selection::All)]);
    assert_eq!(apply(&fits, &gpus).findings, []);
    let layout = sliced_in_time(vec![shared("gpu", "gpu", 10_000, Selection::All)]);
    let result = apply(&layout, &gpus);
    assert!(result.resources.is_empty());
    assert_eq!(
        findings(&result),
        "nvidia.com/gpu is not offered: it makes a list of 8 devices x 10000 replicas x 67 bytes = \
         5360000 bytes, and the kubelet receives at most 4194304; at most 7825 replicas fit"
    );
}

mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::health::{Moment, NodeHealth};
    use crate::injection::Injector;
    use crate::inventory::Inventory;
    use crate::testing::listing;

    fn some_gpu() -> impl Strategy<Value = Option<Vec<&'static str>>> {
        let profile = prop_oneof![
            Just("1g.10gb"),
            Just("2g.20gb"),
            Just("1c.2g.20gb"),
            Just("1g.10gb+me"),
            Just("")
        ];
        proptest::option::of(vec(profile, 0..4))
    }

    fn some_layout() -> impl Strategy<Value = Layout> {
        let strategy = prop_oneof![
            Just(MigStrategy::None),
            Just(MigStrategy::Single),
            Just(MigStrategy::Mixed)
        ];
        let name = prop_oneof![Just("gpu"), Just("mig-1g.10gb")];
        let as_name = prop_oneof![Just("gpu"), Just("gpu.shared"), Just("other")];
        let devices = prop_oneof![Just(Selection::All), (1_u32..4).prop_map(Selection::Count)];
        let entries = vec((name, as_name, 2_u32..5, devices), 0..3);
        (strategy, entries, any::<bool>(), proptest::option::of(0_u32..5)).prop_map(
            |(strategy, entries, mps, excluded)| {
                let entries = entries
                    .into_iter()
                    .map(|(name, other, replicas, devices)| shared(name, other, replicas, devices));
                let replication = replication(entries.collect());
                Layout {
                    mig_strategy: strategy,
                    devices: DeviceFilter {
                        include: Vec::new(),
                        exclude: excluded
                            .into_iter()
                            .map(|index| Term::Index(index, index))
                            .collect(),
                    },
                    sharing: match mps {
                        true => Sharing::Mps { replication, root: "/mps".into() },
                        false => Sharing::TimeSlicing(replication),
                    },
                    ..Layout::default()
                }
            },
        )
    }

    fn gpus(kinds: &[Option<Vec<&'static str>>]) -> Vec<Gpu> {
        let one = |(index, kind): (usize, &Option<Vec<&str>>)| match kind {
            None => gpu(index as u32),
            Some(profiles) => sliced(index as u32, profiles),
        };
        kinds.iter().enumerate().map(one).collect()
    }

    proptest! {
        #[test]
        fn every_device_is_offered_once_or_reported_and_never_while_reserved(
            kinds in vec(some_gpu(), 0..5),
            layout in some_layout(),
        ) {
            let gpus = gpus(&kinds);
            let result = apply(&layout, &gpus);
            let mut ids = std::collections::BTreeSet::new();
            for device in result.resources.values().flat_map(BTreeMap::values) {
                prop_assert!(ids.insert(&device.id), "{} is offered twice", device.id);
                prop_assert!(!result.reserved.contains_key(&device.gpu));
                let text = device.id.to_string();
                prop_assert_eq!(text.parse::<DeviceId>(), Ok(device.id.clone()));
            }
            for gpu in &gpus {
                let offered =
                    result.resources.values().flatten().any(|(_, device)| device.gpu == gpu.uuid);
                let told = !result.findings.is_empty() || result.reserved.contains_key(&gpu.uuid);
                prop_assert!(offered || told, "{} is missing without a finding", gpu.uuid);
            }
            let again = apply(&layout, &gpus);
            prop_assert_eq!(&result, &again, "the same facts give the same layout");
        }

        #[test]
        fn an_id_once_advertised_never_leaves_its_resource(
            steps in vec((vec(some_gpu(), 0..4), some_layout()), 1..5),
        ) {
            let mut node = Inventory::new(
                Layout::default(),
                Injector::default(),
                NodeHealth::default(),
                AllocationPolicy::default(),
            );
            let mut advertised: Vec<(ResourceName, DeviceId)> = Vec::new();
            for (kinds, layout) in steps {
                node.set_layout(layout);
                node.apply(Moment::default(), listing(gpus(&kinds)));
                for (resource, id) in &advertised {
                    prop_assert!(
                        node.devices(resource).is_some_and(|devices| devices.contains_key(id))
                    );
                }
                for resource in node.resources().cloned().collect::<Vec<_>>() {
                    let ids = node.devices(&resource).into_iter().flat_map(BTreeMap::keys);
                    advertised.extend(ids.map(|id| (resource.clone(), id.clone())));
                }
            }
        }
    }
}
