//! Tests of the identity and the number of GPUs, by way of the inventory.

use std::collections::BTreeMap;

use super::*;
use crate::allocation::AllocationPolicy;
use crate::gpu::{Gpu, MigMode};
use crate::health::{
    Epoch, HealthPolicy, Moment, NodeHealth, NodeObservation, NvmlError, PersistedHealth,
    ReturnCode,
};
use crate::injection::{DeviceIdStrategy, DeviceListStrategy, Injector};
use crate::inventory::{
    EnumerationEntry, Inventory, InventoryChanges, InventoryEvent, is_complete,
};
use crate::layout::filter::{DeviceFilter, Term};
use crate::layout::sharing::{DeviceRef, Replication, Selection, SharedResource, Sharing};
use crate::layout::{Layout, MigStrategy};
use crate::names::{PciBusId, ResourceName, Uuid};
use crate::testing::{answers, gpu, listing};

const BOOT: &str = "3f0c";

fn pci(number: u32) -> PciBusId {
    format!("{number:02x}:00.0").parse().unwrap()
}

/// The GPU that a node with all of them numbers so, at an index of NVML now.
fn at(number: u32, index: u32) -> Gpu {
    Gpu { index, pci_bus_id: Some(pci(number)), ..gpu(number) }
}

fn all(count: u32) -> impl Iterator<Item = Gpu> {
    (0..count).map(|number| at(number, number))
}

/// The GPUs without one of them, numbered again by NVML.
fn without(gone: u32, count: u32) -> impl Iterator<Item = Gpu> {
    (0..count).filter(move |number| *number != gone).zip(0..).map(|(number, at_)| at(number, at_))
}

fn inventory(layout: Layout) -> Inventory {
    let health = NodeHealth::default();
    Inventory::new(layout, Injector::default(), health, AllocationPolicy::default())
}

fn included(first: u32, last: u32) -> Layout {
    let include = vec![Term::Index(first, last)];
    Layout { devices: DeviceFilter { include, exclude: Vec::new() }, ..Layout::default() }
}

/// The ids that are offered, with `!` before those that are Unhealthy.
fn offered(node: &Inventory) -> String {
    let mut ids = Vec::new();
    for resource in node.resources() {
        for device in node.devices(resource).into_iter().flat_map(BTreeMap::values) {
            let mark = if node.is_healthy(device) { "" } else { "!" };
            ids.extend((!device.withdrawn).then(|| format!("{mark}{}", device.id)));
        }
    }
    ids.join(" ")
}

fn findings(node: &Inventory) -> Vec<String> {
    node.findings().iter().map(ToString::to_string).collect()
}

fn kinds(node: &Inventory) -> String {
    node.findings().iter().map(|finding| finding.as_str()).collect::<Vec<_>>().join(" ")
}

/// Applies an event, after which each GPU that is listed answers.
fn apply(node: &mut Inventory, event: InventoryEvent) -> InventoryChanges {
    let changes = node.apply(Moment::default(), event);
    node.apply(Moment::default(), answers());
    changes
}

/// The inventory of a plugin that starts on the same boot.
fn restarted(node: &Inventory, boot: &str) -> Inventory {
    let mut next = inventory(node.layout().clone());
    next.restore_gpus(boot, node.known_gpus(BOOT));
    next
}

#[test]
fn an_index_means_the_gpu_that_had_it_first_whichever_breaks() {
    for gone in 0..4 {
        let mut node = inventory(included(0, 2));
        apply(&mut node, listing(all(4)));
        let before = offered(&node);
        assert_eq!(before, "GPU-0 GPU-1 GPU-2");
        apply(&mut node, listing(without(gone, 4)));
        let expected = before.replace(&format!("GPU-{gone}"), &format!("!GPU-{gone}"));
        assert_eq!(offered(&node), expected, "GPU {gone} is gone");
        // And so after a restart of the plugin, with and without the GPU.
        let mut next = restarted(&node, BOOT);
        apply(&mut next, listing(without(gone, 4)));
        assert_eq!(
            offered(&next),
            expected,
            "GPU {gone} is gone, and the plugin was started again"
        );
        apply(&mut next, listing(all(4)));
        assert_eq!(offered(&next), before);
    }
}

#[test]
fn another_boot_binds_the_indices_again() {
    let mut node = inventory(included(0, 0));
    apply(&mut node, listing(all(2)));
    for boot in ["another", ""] {
        let mut next = restarted(&node, boot);
        apply(&mut next, listing(without(0, 2)));
        assert_eq!(offered(&next), "GPU-1", "{boot:?}");
    }
}

#[test]
fn a_gpu_that_takes_the_index_of_another_is_meant_by_no_index() {
    let mut node = inventory(included(0, 7));
    apply(&mut node, listing(all(2)));
    apply(&mut node, listing([at(0, 0), at(5, 1)]));
    assert_eq!(offered(&node), "GPU-0 !GPU-1");
    assert_eq!(node.gpus()[&gpu(5).uuid].binding.index, None);
    assert!(kinds(&node).contains("numbering_changed"));
    let text = findings(&node).join("\n");
    assert!(text.contains("GPU-5 at 0000:05:00.0 has index 1, which was another GPU's"), "{text}");
    node.set_layout(Layout::default());
    assert_eq!(offered(&node), "GPU-0 !GPU-1 GPU-5", "and without indices it is offered");
}

#[test]
fn a_change_of_numbering_is_a_finding_until_it_is_over() {
    let mut node = inventory(Layout::default());
    apply(&mut node, listing(all(3)));
    assert_eq!(kinds(&node), "");
    apply(&mut node, listing(without(0, 3)));
    assert_eq!(kinds(&node), "numbering_changed offered_differs");
    let text = findings(&node).join("\n");
    for part in [
        "GPU-1 at 0000:01:00.0 has index 0 and had 1",
        "GPU-2 at 0000:02:00.0 has index 1 and had 2",
        "2 GPUs are identified, 0 are reserved and 3 are offered",
        "GPU-0 at 0000:00:00.0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    apply(&mut node, listing(all(3)));
    assert_eq!(kinds(&node), "");
}

#[test]
fn people_are_told_an_index_only_while_it_means_the_gpu() {
    let mut node = inventory(Layout::default());
    apply(&mut node, listing(all(2)));
    let name = |node: &Inventory, number| {
        let uuid = gpu(number).uuid;
        node.gpus()[&uuid].name(&uuid).to_string()
    };
    assert_eq!(name(&node, 1), "GPU 1 (GPU-1)");
    apply(&mut node, listing(without(0, 2)));
    assert_eq!(name(&node, 0), "GPU-0 at 0000:00:00.0");
    assert_eq!(name(&node, 1), "GPU-1 at 0000:01:00.0");
}

#[test]
fn sharing_by_index_or_by_number_stays_with_its_gpu() {
    for devices in [Selection::List([DeviceRef::Gpu(0)].into()), Selection::Count(1)] {
        let resource = SharedResource {
            name: ResourceName::gpu(),
            offered_as: "nvidia.com/shared".parse().unwrap(),
            replicas: 2,
            devices,
        };
        let sharing = Sharing::TimeSlicing(Replication {
            memory_limits: None,
            rename_by_default: false,
            fail_requests_greater_than_one: false,
            resources: vec![resource],
        });
        let mut node = inventory(Layout { sharing, ..Layout::default() });
        apply(&mut node, listing(all(2)));
        assert_eq!(offered(&node), "GPU-1 GPU-0::0 GPU-0::1");
        apply(&mut node, listing(without(0, 2)));
        assert_eq!(offered(&node), "GPU-1 !GPU-0::0 !GPU-0::1");
    }
}

/// The runtime resolves an index when the container starts; a CDI specification was written before.
#[test]
fn the_runtime_gets_the_present_index_and_cdi_the_one_of_the_boot() {
    let mut node = inventory(Layout::default());
    node.set_injector(Injector {
        ids: DeviceIdStrategy::Index,
        strategies: [DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri].into(),
        ..Injector::default()
    });
    apply(&mut node, listing(all(2)));
    apply(&mut node, listing(without(0, 2)));
    let given = |id: &str| {
        let devices = node.allocate(&ResourceName::gpu(), &[id.to_owned()]).unwrap();
        let injection = node.injector().inject(&ResourceName::gpu(), &devices, None, || [0; 16]);
        (injection.envs["NVIDIA_VISIBLE_DEVICES"].clone(), injection.cdi_devices.concat())
    };
    let kind = "k8s.device-plugin.nvidia.com/gpu=";
    assert_eq!(given("GPU-1"), ("0".to_owned(), format!("{kind}1")));
    assert_eq!(given("GPU-0"), ("GPU-0".to_owned(), format!("{kind}0")), "never another GPU");
}

/// What is remembered of this boot is listed: by MIG strategy and the mode that was last read.
#[test]
fn a_gpu_of_this_boot_that_is_not_listed_after_a_restart_is_offered_unhealthy() {
    use MigMode::{Off, On, Unknown};
    use MigStrategy::{Mixed, None as Whole, Single};
    for (strategy, mode, expected) in [
        (Whole, Off, "!GPU-0 GPU-1"),
        (Whole, On, "!GPU-0 GPU-1"),
        (Whole, Unknown, "!GPU-0 GPU-1"),
        (Single, Off, "!GPU-0 GPU-1"),
        (Single, On, "GPU-1"),
        (Single, Unknown, "GPU-1"),
        (Mixed, Off, "!GPU-0 GPU-1"),
        (Mixed, On, "GPU-1"),
        (Mixed, Unknown, "GPU-1"),
    ] {
        let mut node = inventory(Layout { mig_strategy: strategy, ..Layout::default() });
        apply(&mut node, listing([Gpu { mig_mode: mode, ..at(0, 0) }, at(1, 1)]));
        let mut next = restarted(&node, BOOT);
        assert_eq!(offered(&next), "", "nothing is listed before NVML has enumerated");
        apply(&mut next, listing(without(0, 2)));
        assert_eq!(offered(&next), expected, "{strategy:?} {mode:?}");
        let told = findings(&next).join("\n");
        assert!(expected.contains("GPU-0") || told.contains("GPU-0"), "{told}");
        // It may be missing for several restarts.
        let mut third = restarted(&next, BOOT);
        let changes = apply(&mut third, listing(without(0, 2)));
        assert_eq!(changes.new_gpus, [gpu(1).uuid]);
        assert_eq!(offered(&third), expected);
        let back = apply(&mut third, listing(all(2)));
        assert_eq!((back.new_gpus, offered(&third).as_str()), (vec![gpu(0).uuid], "GPU-0 GPU-1"));
    }
}

#[test]
fn a_gpu_that_is_missing_can_be_forgotten_and_one_that_is_listed_cannot() {
    let mut node = inventory(Layout::default());
    apply(&mut node, listing(all(2)));
    apply(&mut node, listing(without(0, 2)));
    for number in 0..2 {
        let forget = NodeObservation::Forget(gpu(number).uuid);
        apply(&mut node, InventoryEvent::Health(forget));
    }
    assert_eq!(node.gpus().keys().collect::<Vec<_>>(), [&gpu(1).uuid]);
    assert!(!node.known_gpus(BOOT).gpus.contains_key(&gpu(0).uuid));
    let id = gpu(0).uuid.to_string().parse().unwrap();
    let devices = node.devices(&ResourceName::gpu()).unwrap();
    assert!(devices[&id].withdrawn, "its id stays until no pod can have it");
}

fn function(number: u32, driver: Option<&str>) -> PciFunction {
    PciFunction {
        id: pci(number),
        driver: driver.map(str::to_owned),
        class: 0x03_02_00,
        virtual_function: false,
        given: true,
    }
}

/// Each number against each other: the bus, NVML's count, UUIDs, the lists, the operator.
#[test]
fn every_difference_between_two_counts_is_a_finding() {
    let failed = |index| EnumerationEntry::Failed {
        index,
        uuid: None,
        error: NvmlError { call: "nvmlDeviceGetHandleByIndex_v2", code: ReturnCode(15) },
    };
    let malformed = |index| EnumerationEntry::MalformedUuid {
        index,
        error: "N/A".parse::<Uuid>().unwrap_err(),
    };
    let entry = |number, index| EnumerationEntry::Gpu(at(number, index));
    let bound = |numbers: std::ops::Range<u32>| {
        Some(numbers.map(|number| function(number, Some("nvidia"))).collect::<Vec<_>>())
    };
    let two = || vec![entry(0, 0), entry(1, 1)];
    let table = [
        (bound(0..2), 2, two(), Some(2), "", ""),
        (None, 2, two(), None, "", ""),
        // Tegra and WSL have no GPU on the PCI bus.
        (bound(0..0), 2, two(), None, "", ""),
        (bound(0..3), 2, two(), None, "bus_differs", "not listed: 0000:02:00.0"),
        (bound(0..1), 2, two(), None, "bus_differs", "has 1 GPUs on the PCI bus and NVML lists 2"),
        (bound(0..2), 2, two(), Some(3), "expected_differs", "3 GPUs are expected"),
        (
            bound(0..3),
            3,
            [two(), vec![failed(2)]].concat(),
            None,
            "unidentified",
            "lists 3 GPUs and identifies 2: the GPU at index 2: nvmlDeviceGetHandleByIndex_v2",
        ),
        (
            bound(0..3),
            3,
            [two(), vec![malformed(2)]].concat(),
            None,
            "unidentified",
            "the GPU at index 2: \"N/A\" is not a device UUID",
        ),
        (
            bound(0..3),
            3,
            [two(), vec![entry(0, 2)]].concat(),
            None,
            "unidentified",
            "the GPU at index 2: another one has its UUID GPU-0",
        ),
        (bound(0..3), 3, two(), None, "unidentified", "1 about which NVML does not answer"),
        (None, u32::MAX, two(), None, "unidentified", "4294967293 about which NVML"),
    ];
    for (bus, count, entries, expected, kind, text) in table {
        let mut node = inventory(Layout::default());
        // The bus is read before the driver's library is there.
        if let Some(bus) = bus {
            apply(&mut node, InventoryEvent::Bus(bus));
        }
        assert_eq!(kinds(&node), "");
        node.set_layout(Layout { expected_gpus: expected, ..Layout::default() });
        let complete = is_complete(count, &entries);
        apply(&mut node, InventoryEvent::Enumeration { session: 1, count, entries });
        assert_eq!(kinds(&node), kind, "{:?}", findings(&node));
        assert!(findings(&node).concat().contains(text), "{text}: {:?}", findings(&node));
        assert_eq!(complete, kind != "unidentified", "{kind}");
        assert_eq!(offered(&node), "GPU-0 GPU-1", "never two devices with one id");
        let counts = node.gpu_counts();
        assert_eq!((counts.enumerated, counts.identified, counts.offered), (Some(count), 2, 2));
    }
}

#[test]
fn what_is_identified_and_neither_offered_nor_reserved_is_named() {
    let layout = Layout { mig_strategy: MigStrategy::Mixed, ..included(0, 1) };
    let mut node = inventory(layout);
    apply(&mut node, listing([at(0, 0), Gpu { mig_mode: MigMode::On, ..at(1, 1) }, at(2, 2)]));
    assert_eq!(kinds(&node), "no_mig_devices offered_differs");
    let text = findings(&node).concat();
    assert!(text.contains("3 GPUs are identified, 1 are reserved and 1 are offered"), "{text}");
    assert!(text.contains("not offered, for which another finding has the reason: GPU 1 (GPU-1)"));
}

#[test]
fn functions_that_are_no_gpus_of_the_driver_are_named_apart_and_no_fault() {
    let table = [
        (function(0, Some("nvidia")), true, ""),
        (function(0, Some("vfio-pci")), false, "bound to vfio-pci"),
        (function(0, Some("nouveau")), false, "bound to nouveau"),
        (function(0, None), false, "bound to no driver"),
        (
            PciFunction { given: false, ..function(0, Some("nvidia")) },
            false,
            "its device node is not in this container",
        ),
        (PciFunction { virtual_function: true, ..function(0, None) }, false, "a virtual function"),
        (PciFunction { virtual_function: true, ..function(0, Some("nvidia")) }, true, ""),
        (PciFunction { class: 0x03_00_00, ..function(0, Some("nvidia")) }, true, ""),
        (PciFunction { class: 0x04_03_00, ..function(0, Some("snd_hda_intel")) }, false, ""),
        (PciFunction { class: 0x06_80_00, ..function(0, Some("nvidia")) }, false, ""),
    ];
    for (function, counts, apart) in table {
        let mut node = inventory(Layout::default());
        apply(&mut node, InventoryEvent::Bus(vec![function.clone()]));
        assert_eq!(node.gpu_counts().bus, Some(u32::from(counts)), "{function:?}");
        let named: Vec<String> = node.other_functions().map(|(_, why)| why.to_string()).collect();
        assert_eq!(named.concat(), apart, "{function:?}");
    }
}

#[test]
fn uuids_without_end_fill_no_memory() {
    let mut node = inventory(included(0, 0));
    apply(&mut node, listing((0..MAX_GPUS as u32 + 10).map(gpu)));
    assert_eq!(node.gpus().len(), MAX_GPUS);
    assert_eq!(kinds(&node), "unidentified");
}

#[test]
fn two_records_of_one_index_do_not_share_it() {
    let binding = GpuBinding { index: Some(0), ..GpuBinding::default() };
    let gpus = BTreeMap::from([(gpu(0).uuid, binding.clone()), (gpu(1).uuid, binding)]);
    let mut node = inventory(included(0, 0));
    node.restore_gpus(BOOT, KnownGpus { boot: BOOT.to_owned(), gpus });
    apply(&mut node, listing(all(2)));
    assert_eq!(offered(&node), "GPU-0");
}

#[test]
fn a_gpu_that_is_read_late_to_have_been_on_this_boot_is_listed_from_the_next_enumeration_on() {
    let mut before = inventory(Layout::default());
    apply(&mut before, listing((0..3).map(gpu)));
    let gpus = before.known_gpus(BOOT);
    let epoch = Epoch { boot: BOOT.to_owned(), driver: None };
    let health = NodeHealth::new(HealthPolicy::default(), epoch);
    let (layout, policy) = (Layout::default(), AllocationPolicy::default());
    let mut node = Inventory::new(layout, Injector::default(), health, policy);
    apply(&mut node, listing((0..2).map(gpu)));
    let health = PersistedHealth::default();
    apply(&mut node, InventoryEvent::Persisted { health, gpus: gpus.clone() });
    assert_eq!((node.gpus().len(), node.known_gpus(BOOT)), (2, gpus));
    apply(&mut node, listing((0..2).map(gpu)));
    assert_eq!(node.gpus().len(), 3);
    assert!(!node.gpus()[&gpu(2).uuid].listed);
}
