//! Tests of layouts: NVIDIA's table of MIG strategies, names, sharing and the filter.

use super::*;
use crate::allocation::AllocationPolicy;
use crate::gpu::{Gpu, MigDevice, MigFailure, MigMode, NumaNode, Placement};
use crate::health::{NvmlError, ReturnCode};
use crate::identity::{GpuBinding, GpuRecord, KnownGpu};
use crate::layout::filter::{Pattern, Term};
use crate::layout::sharing::{DeviceRef, Replication, Selection, SharedResource};
use crate::memory_share::MemoryLimits;
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
    Replication {
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        memory_limits: None,
        resources,
    }
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
    // Names of the configuration can put whole GPUs beside them.
    let named = || vec![NamePattern { pattern: Pattern::new("*"), name: ResourceName::gpu() }];
    let layout = Layout { gpu_names: named(), mig_names: named(), ..layout };
    let result = apply(&layout, &[gpu(0), sliced(1, &["1g.10gb", "1g.10gb"])]);
    assert_eq!(offered(&result), "gpu: GPU-0::0 GPU-0::1");
    assert!(findings(&result).starts_with("2 MIG devices of nvidia.com/gpu are not offered"));
}

#[test]
fn each_replica_has_its_share_of_the_memory_of_its_device() {
    let entries = ["gpu", "mig-1g.10gb"].map(|name| shared(name, name, 2, Selection::All)).to_vec();
    let shares = |memory_limits| -> Vec<Option<u64>> {
        let replication = Replication { memory_limits, ..replication(entries.clone()) };
        let sharing = Sharing::TimeSlicing(replication);
        assert_eq!(sharing.limits_memory(), memory_limits.is_some());
        let layout = Layout { sharing, ..by(MigStrategy::Mixed) };
        let known = Gpu { memory_bytes: Some(8 << 30), ..gpu(0) };
        let result = apply(&layout, &[known, gpu(1), sliced(2, &["1g.10gb"])]);
        let devices = result.resources.values().flat_map(BTreeMap::values);
        devices.map(|device| device.memory_share.map(|bytes| bytes >> 20)).collect()
    };
    let all = MemoryLimits { oversubscribe_percent: 100, reserve_percent: 0 };
    let of_mig = Some(9_984 / 2);
    assert_eq!(shares(Some(all)), [Some(4096), Some(4096), None, None, of_mig, of_mig]);
    assert_eq!(shares(None), [None; 6]);
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

fn gap(call: &'static str, code: u32) -> NvmlError {
    NvmlError { call, code: ReturnCode(code) }
}

/// As an unprivileged caller sees a MIG parent; and a GPU whose MIG mode cannot be read for another
/// reason.
#[test]
fn a_gpu_that_may_be_partitioned_is_never_offered_whole_where_mig_devices_are() {
    use MigStrategy::{Mixed, None as Whole, Single};
    const MODE: &str = "nvmlDeviceGetMigMode";
    for (mode, code, strategy, expected, says) in [
        (MigMode::Unknown, 4, Whole, "gpu: GPU-0 GPU-1", "facts of GPU 0 (GPU-0) are missing"),
        (MigMode::Unknown, 4, Single, "gpu: GPU-1", "NVIDIA_MIG_MONITOR_DEVICES=all"),
        (MigMode::Unknown, 4, Mixed, "gpu: GPU-1", "the MIG mode of GPU 0 (GPU-0) cannot be read"),
        (MigMode::Unknown, 999, Mixed, "gpu: GPU-1", "nvmlDeviceGetMigMode: an unknown error"),
        (MigMode::On, 4, Mixed, "gpu: GPU-1", "GPU 0 (GPU-0) has MIG mode on and no MIG devices"),
    ] {
        let gaps = if mode == MigMode::Unknown { vec![gap(MODE, code)] } else { Vec::new() };
        let result = apply(&by(strategy), &[Gpu { mig_mode: mode, gaps, ..gpu(0) }, gpu(1)]);
        assert_eq!(offered(&result), expected, "{mode:?} {strategy:?}");
        assert!(findings(&result).contains(says), "{says}: {}", findings(&result));
        assert_eq!(result.findings.len(), 1, "{}", findings(&result));
    }
}

#[test]
fn each_gpu_with_missing_facts_is_told_with_the_cure() {
    let gaps = vec![gap("nvmlDeviceGetMemoryInfo", 4), gap("nvmlDeviceGetName", 999)];
    let result = apply(&by(MigStrategy::Mixed), &[Gpu { gaps, ..gpu(0) }, gpu(1)]);
    assert_eq!(offered(&result), "gpu: GPU-0 GPU-1");
    assert_eq!(
        findings(&result),
        "facts of GPU 0 (GPU-0) are missing: nvmlDeviceGetMemoryInfo: no permission (NVML return \
         code 4), nvmlDeviceGetName: an unknown error (NVML return code 999); run the plugin \
         privileged, or set NVIDIA_MIG_MONITOR_DEVICES=all in its container"
    );
}

/// GPUs that do not answer: whole if they were so earlier on this boot, and without a vote.
#[test]
fn gpus_whose_facts_are_unknown_do_not_vote() {
    let unknown = |number: u32, mig_mode| {
        let binding = GpuBinding { index: Some(number), mig_mode, ..GpuBinding::default() };
        (gpu(number).uuid, GpuRecord::known(binding))
    };
    let known = |gpu: Gpu| (gpu.uuid.clone(), GpuRecord::listed(gpu));
    let single = |gpus: &[(Uuid, GpuRecord)]| {
        let known = gpus.iter().map(|(uuid, record)| KnownGpu { uuid, record });
        offered(&by(MigStrategy::Single).apply(known))
    };
    let slices = || known(sliced(2, &["1g.10gb"]));
    for mode in [MigMode::Off, MigMode::On, MigMode::Unknown] {
        let gpus = [unknown(0, mode), unknown(1, mode), slices()];
        assert_eq!(single(&gpus), "gpu: MIG-2-0", "{mode:?}");
    }
    assert_eq!(single(&[unknown(0, MigMode::Off)]), "gpu: GPU-0");
    assert_eq!(single(&[unknown(0, MigMode::Off), known(gpu(1))]), "gpu: GPU-0 GPU-1");
}

#[test]
fn mig_devices_of_one_uuid_are_one_device_and_a_finding() {
    let twin = |number| {
        let mut gpu = sliced(number, &["1g.10gb"]);
        gpu.mig_devices[0].uuid = "MIG-twin".parse().unwrap();
        gpu
    };
    for strategy in [MigStrategy::Single, MigStrategy::Mixed] {
        let result = apply(&by(strategy), &[twin(1), twin(0)]);
        let devices: Vec<_> = result.resources.values().flat_map(BTreeMap::values).collect();
        assert_eq!((devices.len(), devices[0].gpu.as_str()), (1, "GPU-0"), "the first keeps it");
        assert!(findings(&result).contains("device 1:0 is not offered: another device has its"));
    }
}

#[test]
fn a_selector_that_matches_nothing_is_told() {
    let pattern = |text: &str| Pattern::new(text);
    let named = |text: &str| NamePattern { pattern: pattern(text), name: ResourceName::gpu() };
    let include = |term| {
        let devices = DeviceFilter { include: vec![term], exclude: Vec::new() };
        Layout { devices, ..Layout::default() }
    };
    let exclude = |term| {
        let devices = DeviceFilter { include: Vec::new(), exclude: vec![term] };
        Layout { devices, ..Layout::default() }
    };
    let models = |texts: &[&str]| Layout {
        gpu_names: texts.iter().map(|text| named(text)).collect(),
        ..Layout::default()
    };
    let one = |device| {
        let entry = shared("mig-1g.5gb", "mig-1g.5gb", 2, Selection::List([device].into()));
        sliced_in_time(vec![entry])
    };
    for (layout, says) in [
        (include(Term::Model(pattern("H100"))), "model=H100 in devices matches nothing"),
        (include(Term::Uuid(gpu(9).uuid)), "GPU-9 in devices matches nothing"),
        (include(Term::PciBusId("1b:00.0".parse().unwrap())), ""),
        (exclude(Term::Index(9, 9)), "!9 in devices matches nothing"),
        (exclude(Term::Index(0, 9)), ""),
        (models(&["H100"]), "H100 in resources.gpus matches nothing"),
        (models(&["*A100*", "*T4*"]), "*A100* in resources.gpus"),
        (models(&["*A100*", "*H100*"]), ""),
        (models(&["A100", "*H100*"]), "A100 in resources.gpus"),
        (one(DeviceRef::Gpu(0)), "the sharing of nvidia.com/mig-1g.5gb names device 0"),
    ] {
        let result = apply(&layout, &[gpu(0), gpu(1)]);
        assert_eq!(result.findings.is_empty(), says.is_empty(), "{}", findings(&result));
        assert!(findings(&result).contains(says), "{says}: {}", findings(&result));
        assert!(apply(&layout, &[]).findings.is_empty(), "there is nothing to match yet");
    }
    let nameless = Gpu { name: None, ..gpu(0) };
    assert_eq!(apply(&include(Term::Model(pattern("H100"))), &[nameless]).findings, []);
}

/// Whole GPUs have no profile, and the strategy `none` looks at none.
#[test]
fn a_name_for_a_profile_that_no_mig_device_has_is_told() {
    use MigStrategy::{Mixed, None as Whole, Single};
    for (mig_strategy, pattern, profiles, is_told) in [
        (Mixed, "2g.*", &["1g.10gb"][..], true),
        (Single, "2g.20gb", &["1g.10gb"], true),
        (Mixed, "1g.*", &["1g.10gb"], false),
        (Whole, "2g.20gb", &["1g.10gb"], false),
        (Mixed, "2g.20gb", &[], false),
    ] {
        let named = NamePattern { pattern: Pattern::new(pattern), name: ResourceName::gpu() };
        let layout = Layout { mig_strategy, mig_names: vec![named], ..Layout::default() };
        let gpu = if profiles.is_empty() { gpu(0) } else { sliced(0, profiles) };
        let told = findings(&apply(&layout, &[gpu]));
        assert_eq!(told.contains("in resources.mig matches"), is_told, "{mig_strategy:?}: {told}");
    }
}

mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::health::{Moment, NodeHealth};
    use crate::in_use::usage::InUse;
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

    fn healthy(node: &Inventory) -> Vec<(ResourceName, Device)> {
        let of = |resource: &ResourceName| {
            let devices = node.devices(resource).into_iter().flat_map(BTreeMap::values);
            let healthy = devices.filter(|device| node.is_healthy(device));
            healthy.map(|device| (resource.clone(), device.clone())).collect::<Vec<_>>()
        };
        node.resources().flat_map(of).collect()
    }

    /// Whether a device may be Healthy while a pod has another: by their ids alone, in which both
    /// the GPU and the slice are numbers.
    fn can_be_beside(
        resource: &ResourceName,
        device: &Device,
        held_in: &ResourceName,
        held: &DeviceId,
    ) -> bool {
        let numbers = |id: &DeviceId| -> (u32, Option<u32>) {
            let mut parts = id.uuid().as_str().split('-').skip(1).map(|part| part.parse().unwrap());
            (parts.next().unwrap(), parts.next())
        };
        let ((gpu, slice), (held_gpu, held_slice)) = (numbers(&device.id), numbers(held));
        let other_slice = slice.is_some() && held_slice.is_some() && slice != held_slice;
        let shared = device.id.uuid() == held.uuid()
            && device.id.replica_number().is_some() == held.replica_number().is_some();
        gpu != held_gpu || other_slice || shared && resource == held_in
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

        /// Pods take Healthy ids, and sharing, names and partitions change under them.
        #[test]
        fn no_id_is_healthy_on_a_gpu_that_a_pod_owns_otherwise(
            steps in vec((0..4_u32, any::<Index>(), some_gpu(), some_layout()), 1..40),
        ) {
            let mut node = Inventory::new(
                Layout::default(),
                Injector::default(),
                NodeHealth::default(),
                AllocationPolicy::default(),
            );
            let mut kinds = vec![None, Some(vec!["1g.10gb", "1g.10gb"])];
            let mut in_use = InUse { known: true, ..InUse::default() };
            node.apply(Moment::default(), listing(gpus(&kinds)));
            for (step, which, kind, layout) in steps {
                let healthy = healthy(&node);
                match step {
                    0 if !healthy.is_empty() => {
                        let device = healthy[which.index(healthy.len())].clone();
                        in_use.devices.insert((device.0, device.1.id), None);
                    }
                    1 if !in_use.devices.is_empty() => {
                        let key = which.index(in_use.devices.len());
                        let key = in_use.devices.keys().nth(key).cloned();
                        key.map(|key| in_use.devices.remove(&key));
                    }
                    2 => drop(node.set_layout(layout)),
                    _ => {
                        let at = which.index(kinds.len());
                        kinds[at] = kind;
                        node.apply(Moment::default(), listing(gpus(&kinds)));
                    }
                }
                node.set_in_use(in_use.clone());
                for (resource, device) in self::healthy(&node) {
                    for (held_in, held) in in_use.devices.keys() {
                        prop_assert!(
                            can_be_beside(&resource, &device, held_in, held),
                            "{} of {resource} is Healthy, and a pod has {held} of {held_in}",
                            device.id
                        );
                    }
                }
            }
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
