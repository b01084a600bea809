//! What the manager shows: its state as a view, and its records.

use super::checkpoint::PodDevices;
use super::manager::{Devices, Manager};
use super::records::{Call, PodDevice, ReceivedList};
use super::view::{DeviceView, ResourceView};
use super::violations::Violation;
use crate::proto::Device;

impl Manager {
    pub(crate) fn called(&mut self, call: Call) {
        self.calls.push(call);
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.violations.all()
    }

    pub(crate) fn lists(&self, resource: &str) -> Vec<ReceivedList> {
        self.lists.iter().filter(|list| list.resource == resource).cloned().collect()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.clone()
    }

    pub(crate) fn pod_devices(&self) -> Vec<PodDevice> {
        let each = |held: &PodDevices| {
            let held = held.clone();
            held.ids().into_iter().map(move |id| PodDevice {
                pod: held.pod.clone(),
                container: held.container.clone(),
                resource: held.resource.clone(),
                id,
            })
        };
        self.pods.iter().flat_map(each).collect()
    }

    /// Shows a resource's state in the view.
    pub(super) fn publish(&self, resource: &str) {
        let now = self.resource_view(resource);
        self.view.send_modify(|view| {
            view.resources.insert(resource.to_owned(), now);
        });
    }

    pub(super) fn resource_view(&self, resource: &str) -> ResourceView {
        let mut view = ResourceView::default();
        if let Some(endpoint) = self.endpoints.get(resource) {
            view.known = true;
            view.endpoint.clone_from(&endpoint.name);
            view.stopped_at = endpoint.stopped_at;
            view.stream_open = endpoint
                .client
                .as_ref()
                .is_some_and(|client| self.open_streams.contains_key(&client.id));
        }
        if let Some(devices) = self.devices.get(resource) {
            view.capacity = devices.healthy.len() + devices.unhealthy.len();
            view.allocatable = devices.healthy.len();
            view.lists_received = devices.lists;
            view.last_list_at = devices.last_list_at;
            view.devices = devices
                .all
                .iter()
                .map(|(id, device)| (id.clone(), devices.device_view(device)))
                .collect();
        }
        view
    }
}

impl Devices {
    fn device_view(&self, device: &Device) -> DeviceView {
        let nodes = device.topology.iter().flat_map(|topology| &topology.nodes);
        DeviceView {
            healthy: self.healthy.contains(&device.id),
            numa: nodes.map(|node| node.id).collect(),
        }
    }
}
