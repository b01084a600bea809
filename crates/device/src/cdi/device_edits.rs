//! What a container gets for one GPU or MIG device.

use super::edits::{ContainerEdits, SpecNode};
use super::hooks::Hooks;
use super::host::{FileLink, HostDevices};
use crate::Device;
use crate::gpu::{MigDevice, Placement};
use crate::identity::GpuRecord;
use crate::injection::Capability;
use crate::inventory::Inventory;
use crate::names::PciBusId;

/// What the edits of devices are made from.
#[derive(Clone, Copy)]
pub(super) struct DeviceEdits<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) devices: &'a HostDevices,
    pub(super) hooks: Hooks<'a>,
    pub(super) dev_root: &'a str,
}

impl<'a> DeviceEdits<'a> {
    /// The edits of a device; or why there are none.
    pub(super) fn of(self, device: &Device) -> Result<ContainerEdits, &'static str> {
        let minor = device.minor.ok_or("the number of its device node is not known")?;
        let mut paths = vec![format!("/dev/nvidia{minor}")];
        paths.extend(self.capability_paths(device, minor)?);
        let drm = self.drm(device);
        paths.extend(drm.iter().map(|name| format!("/dev/dri/{name}")));
        let hooks = self.hooks.create_symlinks(&self.drm_links(device, drm));
        Ok(ContainerEdits {
            nodes: paths.iter().map(|path| self.node(path)).collect(),
            hooks: hooks.into_iter().collect(),
            ..ContainerEdits::default()
        })
    }

    /// What a monitor of the node needs: every node of the driver.
    pub(super) fn management(self) -> ContainerEdits {
        let nodes = self.devices.nodes.keys().filter(|path| path.starts_with("/dev/nvidia"));
        let nodes = nodes.map(|path| self.node(path)).collect();
        ContainerEdits { nodes, ..ContainerEdits::default() }
    }

    /// A node of the device itself, also where it is not visible here: the host has it, or the
    /// container cannot use the device.
    fn node(self, path: &str) -> SpecNode {
        SpecNode {
            path: path.to_owned(),
            host: format!("{}{path}", self.dev_root),
            numbers: self.devices.nodes.get(path).copied(),
        }
    }

    /// The capability nodes of a MIG device; of a GPU in MIG mode that is offered whole those of
    /// all that is on it.
    fn capability_paths(self, device: &Device, minor: u32) -> Result<Vec<String>, &'static str> {
        let mut numbers: Vec<u32> = match device.placement {
            Some(placement) => self.capabilities(minor, placement).map(Vec::from).ok_or(
                "the driver's mig-minors does not list its capabilities; is \
                 /proc/driver/nvidia-caps visible here?",
            )?,
            None => {
                let on_gpu = self.mig_devices(device).iter();
                on_gpu.filter_map(|mig| self.capabilities(minor, mig.placement)).flatten().collect()
            }
        };
        // The compute instances of a GPU instance have its capability in common.
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into_iter().map(|n| format!("/dev/nvidia-caps/nvidia-cap{n}")).collect())
    }

    /// The capabilities of a GPU instance and of a compute instance on it.
    fn capabilities(self, minor: u32, placement: Placement) -> Option<[u32; 2]> {
        let Placement { gpu_instance, compute_instance } = placement;
        let of = |compute_instance| {
            let capability = Capability { minor, gpu_instance, compute_instance };
            self.devices.capabilities.get(&capability).copied()
        };
        Some([of(None)?, of(Some(compute_instance))?])
    }

    fn mig_devices(self, device: &Device) -> &'a [MigDevice] {
        let record = self.inventory.gpus().get(&device.gpu);
        record.and_then(|record| record.facts.as_ref()).map_or(&[], |gpu| &gpu.mig_devices)
    }

    fn bus(self, device: &Device) -> Option<PciBusId> {
        self.inventory.gpus().get(&device.gpu).and_then(GpuRecord::pci_bus_id)
    }

    /// The DRM nodes of a GPU. A MIG device has them only with a profile for graphics.
    fn drm(self, device: &Device) -> &'a [String] {
        let mut mig = self.mig_devices(device).iter();
        let profile =
            mig.find(|mig| mig.uuid == *device.id.uuid()).and_then(|mig| mig.profile.as_deref());
        let draws = profile.is_some_and(|profile| profile.contains("gfx"));
        let bus = self.bus(device).filter(|_| device.placement.is_none() || draws);
        bus.and_then(|bus| self.devices.drm.get(&bus)).map_or(&[], Vec::as_slice)
    }

    /// The names by which programs find a GPU's DRM nodes by its place on the bus.
    fn drm_links(self, device: &Device, drm: &[String]) -> Vec<FileLink> {
        let Some(bus) = self.bus(device) else { return Vec::new() };
        let link = |name: &String| {
            let kind = if name.starts_with("renderD") { "render" } else { "card" };
            let path = format!("/dev/dri/by-path/pci-{bus}-{kind}");
            FileLink { path, target: format!("../{name}"), host: String::new() }
        };
        drm.iter().map(link).collect()
    }
}
