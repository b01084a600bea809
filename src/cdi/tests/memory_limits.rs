//! Tests of the devices that limit the memory of a shared GPU.

use std::sync::Arc;

use device::allocation::AllocationPolicy;
use device::cdi::{CdiHost, HookProgram, HookStage, SpecSettings, may_be_held};
use device::gpu::Gpu;
use device::health::{Moment, NodeHealth};
use device::injection::Injection;
use device::injection::cdi_names::{CdiNames, key};
use device::inventory::{Inventory, InventoryEvent};
use device::layout::Layout;
use device::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use device::memory_share::MemoryLimits;
use device::names::ResourceName;
use device::testing;

use super::node::{injector, of, specified};

const GIB: u64 = 1 << 30;

/// A GPU with 80 GiB, offered four times over.
fn inventory(limits: Option<MemoryLimits>) -> Inventory {
    let sharing = Sharing::TimeSlicing(Replication {
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        memory_limits: limits,
        resources: vec![SharedResource {
            name: ResourceName::gpu(),
            offered_as: ResourceName::gpu(),
            replicas: 4,
            devices: Selection::All,
        }],
    });
    let layout = Layout { sharing, ..Layout::default() };
    let policy = AllocationPolicy::default();
    let mut inventory = Inventory::new(layout, injector(), NodeHealth::default(), policy);
    let gpu = Gpu {
        pci_bus_id: Some("1b:00.0".parse().unwrap()),
        memory_bytes: Some(80 * GIB),
        ..testing::gpu(0)
    };
    inventory.apply(Moment::default(), testing::listing([gpu]));
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

/// What a container gets for two replicas, where the files have what they are to have.
fn two_replicas(inventory: &mut Inventory, host: &CdiHost) -> Injection {
    let found = specified(inventory, host, &SpecSettings::default());
    let names = found.files[0].devices.keys().map(|name| key("gpu", name));
    let names = CdiNames { in_files: Arc::new(names.collect()), ..CdiNames::default() };
    inventory.apply(Moment::default(), InventoryEvent::Cdi(Arc::new(names)));
    let ids = ["GPU-0::1".to_owned(), "GPU-0::3".to_owned()];
    let devices = inventory.allocate(&ResourceName::gpu(), &ids).unwrap();
    inventory.inject(&ResourceName::gpu(), &devices, || [0; 16])
}

#[test]
fn the_replicas_of_a_container_add_up_in_the_arguments_of_the_hook() {
    let mut inventory = inventory(Some(MemoryLimits::default()));
    let found = specified(&inventory, &host(), &SpecSettings::default());
    assert_eq!(found.incomplete, Vec::<String>::new());
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
    ] {
        let mut inventory = inventory(limits);
        let found = specified(&inventory, &host, &SpecSettings::default());
        let told = found.incomplete.iter().any(|what| {
            what.starts_with("memory limits are not enforceable on this node: ")
                && what.contains(why)
        });
        assert!(told, "{why}: {:?}", found.incomplete);
        let two = two_replicas(&mut inventory, &host);
        assert_eq!(two.cdi_devices.len(), 1, "{why}");
        assert!(two.envs.contains_key("NVIDIA_GPU_MEMORY_LIMIT"), "{why}");
    }
}

#[test]
fn without_the_setting_there_is_no_trace_of_it() {
    let mut inventory = inventory(None);
    let found = specified(&inventory, &host(), &SpecSettings::default());
    assert_eq!(found.files[0].devices.keys().collect::<Vec<_>>(), ["GPU-0"]);
    assert_eq!(found.incomplete, Vec::<String>::new());
    assert!(!two_replicas(&mut inventory, &host()).envs.contains_key("NVIDIA_GPU_MEMORY_LIMIT"));
}
