//! Which names of CDI devices a pod may still hold.

use crate::Device;
use crate::injection::cdi_names::{limited_device, valid_name};
use crate::inventory::Inventory;
use crate::names::DeviceId;

/// Whether a pod may hold the GPU device with this name under any id or strategy, so that its
/// container may be started again with it.
#[must_use]
pub fn may_be_held(inventory: &Inventory, name: &str) -> bool {
    let in_use = inventory.in_use();
    let name = limited_device(name);
    !in_use.known || in_use.devices.keys().any(|(_, id)| may_have_name(inventory, id, name))
}

fn may_have_name(inventory: &Inventory, id: &DeviceId, name: &str) -> bool {
    if valid_name(id.uuid().as_str()) == name {
        return true;
    }
    // What is no UUID is an index: of a device that is known, or of any other.
    let is_index = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    is_index && device(inventory, id).is_none_or(|device| device.bound_name() == name)
}

fn device<'a>(inventory: &'a Inventory, id: &DeviceId) -> Option<&'a Device> {
    let lists = inventory.resources().filter_map(|resource| inventory.devices(resource));
    let mut devices = lists.flat_map(|devices| devices.values());
    devices.find(|device| device.id.uuid() == id.uuid())
}
