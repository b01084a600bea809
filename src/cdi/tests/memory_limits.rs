//! Tests of the devices that limit the memory of a shared GPU.

use std::sync::Arc;

use device::allocation::AllocationPolicy;
use device::cdi::{CdiHost, HookProgram, HookStage, HostDevices, SpecSettings, may_be_held};
use device::gpu::{Gpu, MigMode};
use device::health::{Moment, NodeHealth};
use device::injection::cdi_names::{CdiNames, key};
use device::injection::{Capability, DeviceListStrategy, Injection, Injector};
use device::inventory::{Inventory, InventoryEvent};
use device::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use device::layout::{Layout, MigStrategy};
use device::memory_share::MemoryLimits;
use device::names::ResourceName;
use device::testing;

use super::node::{devices, injector, of, slice, specified};

const GIB: u64 = 1 << 30;

/// A GPU with 80 GiB, offered four times over.
fn inventory(limits: Option<MemoryLimits>) -> Inventory {
    let gpu = Gpu {
        pci_bus_id: Some("1b:00.0".parse().unwrap()),
        memory_bytes: Some(80 * GIB),
        ..testing::gpu(0)
    };
    shared(limits, ResourceName::gpu(), [gpu])
}

/// GPUs of which this resource is offered four times over.
fn shared(
    memory_limits: Option<MemoryLimits>,
    name: ResourceName,
    gpus: impl IntoIterator<Item = Gpu>,
) -> Inventory {
    let sharing = Sharing::TimeSlicing(Replication {
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        memory_limits,
        resources: vec![SharedResource {
            offered_as: name.clone(),
            name,
            replicas: 4,
            devices: Selection::All,
        }],
    });
    let layout = Layout { sharing, mig_strategy: MigStrategy::Mixed, ..Layout::default() };
    let policy = AllocationPolicy::default();
    let mut inventory = Inventory::new(layout, injector(), NodeHealth::default(), policy);
    inventory.apply(Moment::default(), testing::listing(gpus));
    inventory.apply(Moment::default(), testing::answers());
    inventory
}

/// A host that can limit its memory, with our hook program.
fn host() -> CdiHost {
    let path = "/var/lib/gpu-cdi-hook/gpu-cdi-hook-1".to_owned();
    CdiHost {
        hook: Some(HookProgram { path, version: None, is_own: true }),
        memory: Ok([("1b:00.0".parse().unwrap(), 80 * GIB)].into()),
        ..CdiHost::default()
    }
}

/// What a container gets for two replicas of a GPU, where the files have what they are to have.
fn two_replicas(inventory: &mut Inventory, host: &CdiHost) -> Injection {
    given(inventory, host, &ResourceName::gpu(), &["GPU-0::1", "GPU-0::3"])
}

fn given(
    inventory: &mut Inventory,
    host: &CdiHost,
    resource: &ResourceName,
    ids: &[&str],
) -> Injection {
    let found = specified(inventory, host, &SpecSettings::default());
    let devices = found.files.iter().flat_map(|file| file.devices.keys());
    let names = CdiNames {
        in_files: Arc::new(devices.map(|name| key("gpu", name)).collect()),
        not_limited: found.not_limited,
        ..CdiNames::default()
    };
    inventory.apply(Moment::default(), InventoryEvent::Cdi(Arc::new(names)));
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let devices = inventory.allocate(resource, &ids).unwrap();
    inventory.inject(resource, &devices, || [0; 16])
}

/// What status and metrics say of limits.
fn told(inventory: &Inventory) -> Vec<String> {
    let findings = inventory.findings().iter();
    let of_limits = findings.filter(|finding| finding.as_str() == "memory_not_limited");
    of_limits.map(ToString::to_string).collect()
}

#[test]
fn the_replicas_of_a_container_add_up_in_the_arguments_of_the_hook() {
    let mut inventory = inventory(Some(MemoryLimits::default()));
    let found = specified(&inventory, &host(), &SpecSettings::default());
    assert_eq!((&found.incomplete, &found.not_limited), (&vec![], &vec![]));
    let names: Vec<_> = found.files[0].devices.keys().collect();
    let expected =
        ["GPU-0", "GPU-0.memory.1", "GPU-0.memory.2", "GPU-0.memory.3", "GPU-0.memory.4"];
    assert_eq!(names, expected);
    // A quarter of what the driver leaves, in whole MiB.
    let share = MemoryLimits::default().share(80 * GIB, 4);
    for count in 1..=4 {
        let [hook] = &of(&found, &format!("GPU-0.memory.{count}")).hooks[..] else { panic!() };
        let limit = format!("--limit=0000:1b:00.0={}", share * count);
        assert_eq!(hook.args, ["gpu-cdi-hook-1", "apply-cuda-memory-limits", &limit]);
        assert_eq!(hook.stage, HookStage::CreateRuntime);
    }
    let two = two_replicas(&mut inventory, &host());
    let kind = "k8s.device-plugin.nvidia.com/gpu";
    assert_eq!(two.cdi_devices, [format!("{kind}=GPU-0"), format!("{kind}=GPU-0.memory.2")]);
    assert_eq!(two.envs["NVIDIA_GPU_MEMORY_LIMIT"], ((2 * share) >> 20).to_string());
    assert!(may_be_held(&inventory, "GPU-0.memory.2"), "it is a name of the GPU");
}

#[test]
fn what_cannot_be_enforced_is_told_and_keeps_no_container_from_starting() {
    let limits = Some(MemoryLimits::default());
    let of_nvidia = HookProgram {
        path: "/usr/bin/nvidia-cdi-hook".to_owned(),
        version: Some((1, 20, 1)),
        is_own: false,
    };
    for (host, why) in [
        (CdiHost { memory: Err("no dmem".to_owned()), ..host() }, "no dmem"),
        (CdiHost { memory: Ok([].into()), ..host() }, "does not list the memory of GPU 0"),
        (CdiHost { hook: Some(of_nvidia), ..host() }, "set --cdi-hook-mode=self"),
        (CdiHost { hook: None, ..host() }, "set --cdi-hook-mode=self"),
    ] {
        let mut inventory = inventory(limits);
        let two = two_replicas(&mut inventory, &host);
        let told = told(&inventory);
        let start = "memory limits are not enforceable on this node: ";
        assert!(told.len() == 1 && told[0].starts_with(start) && told[0].contains(why), "{told:?}");
        assert_eq!(two.cdi_devices.len(), 1, "{why}");
        assert!(two.envs.contains_key("NVIDIA_GPU_MEMORY_LIMIT"), "{why}");
    }
}

/// The nodes of a host, with those of two MIG devices of its first GPU.
fn with_capabilities() -> HostDevices {
    let capability =
        |gpu_instance, compute_instance| Capability { minor: 0, gpu_instance, compute_instance };
    let of_gpu_instance = |gi| [(capability(gi, None), 30), (capability(gi, Some(0)), 31)];
    HostDevices {
        capabilities: [2, 3].into_iter().flat_map(of_gpu_instance).collect(),
        ..devices()
    }
}

#[test]
fn a_gpu_whose_memory_is_not_known_and_mig_devices_are_not_limited_and_that_is_told() {
    let bus = Some("1b:00.0".parse().unwrap());
    let cut = Gpu {
        mig_mode: MigMode::On,
        mig_devices: vec![slice(1, 2), slice(2, 3)],
        pci_bus_id: bus,
        memory_bytes: Some(80 * GIB),
        ..testing::gpu(0)
    };
    let unknown = Gpu { pci_bus_id: bus, memory_bytes: None, ..testing::gpu(0) };
    let elsewhere = Gpu { pci_bus_id: None, memory_bytes: Some(GIB), ..testing::gpu(0) };
    let mig: ResourceName = "nvidia.com/mig-1g.10gb".parse().unwrap();
    // A quarter of the 9,984 MiB of each device, less what the driver keeps, in whole MiB.
    let share = 2396;
    assert_eq!(MemoryLimits::default().share(9_984 << 20, 4), share << 20);
    for (name, gpu, ids, mib, why) in [
        (ResourceName::gpu(), unknown, &["GPU-0::0"][..], None, "memory of GPU 0 is not known"),
        (ResourceName::gpu(), elsewhere, &["GPU-0::0"], Some(245), "address of GPU 0 is not known"),
        (mig.clone(), cut.clone(), &["MIG-1::0"], Some(share), "not that of MIG devices"),
        // Replicas of one device add up; of several devices that with the least counts.
        (mig.clone(), cut.clone(), &["MIG-1::0", "MIG-1::3"], Some(2 * share), "MIG devices"),
        (mig, cut, &["MIG-1::0", "MIG-1::3", "MIG-2::1"], Some(share), "MIG devices"),
    ] {
        let mut inventory = shared(Some(MemoryLimits::default()), name.clone(), [gpu]);
        let host = CdiHost { devices: with_capabilities(), ..host() };
        let found = given(&mut inventory, &host, &name, ids);
        let told = told(&inventory);
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
        let limit = found.envs.get("NVIDIA_GPU_MEMORY_LIMIT").cloned();
        assert_eq!(limit, mib.map(|mib: u64| mib.to_string()), "{ids:?}");
        let limits = found.cdi_devices.iter().filter(|name| name.contains(".memory."));
        assert_eq!(limits.count(), 0, "{ids:?}");
    }
}

#[test]
fn without_cdi_no_limit_can_be_set_and_that_is_told() {
    for (strategies, expected) in [
        ([DeviceListStrategy::Envvar].as_slice(), 1),
        (&[DeviceListStrategy::CdiCri], 0),
        (&[DeviceListStrategy::Envvar, DeviceListStrategy::CdiAnnotations], 0),
    ] {
        let mut inventory = inventory(Some(MemoryLimits::default()));
        let strategies = strategies.iter().copied().collect();
        inventory.set_injector(Injector { strategies, ..injector() });
        let told = told(&inventory);
        assert_eq!(told.len(), expected, "{told:?}");
        assert!(told.iter().all(|line| line.contains("neither cdi-cri nor cdi-annotations")));
    }
}

#[test]
fn without_the_setting_there_is_no_trace_of_it() {
    let mut inventory = inventory(None);
    let found = specified(&inventory, &host(), &SpecSettings::default());
    assert_eq!(found.files[0].devices.keys().collect::<Vec<_>>(), ["GPU-0"]);
    assert_eq!((&found.incomplete, &found.not_limited), (&vec![], &vec![]));
    assert!(!two_replicas(&mut inventory, &host()).envs.contains_key("NVIDIA_GPU_MEMORY_LIMIT"));
}
