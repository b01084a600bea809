//! A node for tests: its inventory, and what its host has.

use std::path::Path;

use device::allocation::AllocationPolicy;
use device::cdi::{
    CdiHost, ContainerEdits, HostDevices, NodeNumbers, SpecSettings, Specifications, specifications,
};
use device::gpu::{Gpu, MigDevice, MigMode, Placement};
use device::health::{Moment, NodeHealth};
use device::injection::{Capability, DeviceListStrategy, Injector};
use device::inventory::Inventory;
use device::layout::{Layout, MigStrategy};
use device::testing;

use crate::host::driver_files::hook_program::{self, HookPath, HookVersions};
use crate::host::driver_files::sample::VERSION;
use crate::host::driver_files::{self, DriverRoot, Wanted};

/// The device nodes of the node of [`inventory`].
pub(crate) fn devices() -> HostDevices {
    let node = |path: &str, major, minor, mode, gid| {
        (path.to_owned(), NodeNumbers { major, minor, mode, gid })
    };
    let capability =
        |gpu_instance, compute_instance| Capability { minor: 1, gpu_instance, compute_instance };
    HostDevices {
        nodes: [
            node("/dev/nvidia0", 195, 0, 0o666, 0),
            node("/dev/nvidia1", 195, 1, 0o666, 0),
            node("/dev/nvidiactl", 195, 255, 0o666, 0),
            node("/dev/nvidia-uvm", 508, 0, 0o666, 0),
            node("/dev/nvidia-uvm-tools", 508, 1, 0o666, 0),
            node("/dev/dri/card1", 226, 1, 0o660, 44),
            node("/dev/dri/renderD128", 226, 128, 0o660, 105),
            node("/dev/dri/card2", 226, 2, 0o660, 44),
            node("/dev/nvidia-caps/nvidia-cap1", 236, 1, 0o400, 0),
            node("/dev/nvidia-caps/nvidia-cap30", 236, 30, 0o444, 0),
            node("/dev/nvidia-caps/nvidia-cap31", 236, 31, 0o444, 0),
        ]
        .into(),
        drm: [
            ("1b:00.0".parse().unwrap(), vec!["card1".to_owned(), "renderD128".to_owned()]),
            ("1c:00.0".parse().unwrap(), vec!["card2".to_owned()]),
        ]
        .into(),
        capabilities: [(capability(2, None), 30), (capability(2, Some(0)), 31)].into(),
    }
}

/// A MIG device.
pub(crate) fn slice(number: u32, gpu_instance: u32) -> MigDevice {
    MigDevice {
        uuid: format!("MIG-{number}").parse().unwrap(),
        index: number,
        placement: Placement { gpu_instance, compute_instance: 0 },
        gpu_slices: 1,
        compute_slices: 1,
        memory_mib: 9_984,
        profile: Some("1g.10gb".to_owned()),
        engines: None,
    }
}

/// What gives CDI names.
pub(crate) fn injector() -> Injector {
    Injector { strategies: [DeviceListStrategy::CdiCri].into(), ..Injector::default() }
}

/// An empty inventory, MIG devices by their profile.
pub(crate) fn empty(injector: Injector) -> Inventory {
    let layout = Layout { mig_strategy: MigStrategy::Mixed, ..Layout::default() };
    Inventory::new(layout, injector, NodeHealth::default(), AllocationPolicy::default())
}

/// A GPU, and another one with a MIG device.
pub(crate) fn inventory(injector: Injector) -> Inventory {
    let mut inventory = empty(injector);
    let at = |bus: &str| Some(bus.parse().unwrap());
    let whole = Gpu { pci_bus_id: at("1b:00.0"), ..testing::gpu(0) };
    let cut = Gpu {
        pci_bus_id: at("1c:00.0"),
        mig_mode: MigMode::On,
        mig_devices: vec![slice(1, 2)],
        ..testing::gpu(1)
    };
    inventory.apply(Moment::default(), testing::listing([whole, cut]));
    inventory.apply(Moment::default(), testing::answers());
    inventory
}

/// What a root has, seen by a host to which it is at `host`.
pub(crate) fn host(root: &Path, host: &str, hook: HookPath<'_>) -> CdiHost {
    let root = DriverRoot { here: root, host };
    let wanted = Wanted { sockets: true, ..Wanted::default() };
    CdiHost {
        files: driver_files::find(root, Some(VERSION), wanted),
        devices: devices(),
        hook: hook_program::find(root, hook, &mut HookVersions::default()),
        ..CdiHost::default()
    }
}

pub(crate) fn specified(
    inventory: &Inventory,
    host: &CdiHost,
    settings: &SpecSettings,
) -> Specifications {
    specifications(inventory, host, settings, &[].into())
}

/// The edits of a device of the class of GPUs.
pub(crate) fn of<'a>(found: &'a Specifications, name: &str) -> &'a ContainerEdits {
    &found.files[0].devices[name]
}
