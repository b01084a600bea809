//! Node, kubelet and plugin together, and what both the scenario and the commands do with them.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fake_nvml::state::Gpu;
use simnode::kubelet::{Outcome, Registration, ResourceView};
use simnode::proto::ContainerAllocateResponse;
use simnode::{Kubelet, Node, Plugin, View};

use super::{PATIENCE, Screen};

/// All that plays.
pub(super) struct Setup {
    pub(super) node: Node,
    pub(super) kubelet: Kubelet,
    pub(super) plugin: Plugin,
    pub(super) screen: Screen,
}

/// A GPU or a part of one, as the kubelet's id names it.
struct GpuLocation {
    /// "3", or "3:1" for a MIG device.
    index: String,
    gpu: usize,
    model: String,
}

impl Setup {
    /// Waits for the kubelet, and for no longer than the plugin lives.
    pub(super) async fn wait_until(
        &mut self,
        what: &str,
        condition: impl FnMut(&View) -> bool + Send,
    ) -> anyhow::Result<View> {
        tokio::select! {
            reached = self.kubelet.wait_until(what, PATIENCE, condition) => reached,
            // Never over before the kubelet's wait, unless the plugin is.
            Ok(status) = self.plugin.wait_exit(2 * PATIENCE) => {
                bail!("the plugin ended by itself ({status}) before this was so: \
                    {what}\n{}", self.kubelet.view())
            }
        }
    }

    /// Waits until the plugin has registered and every GPU, or every part of them, is with the
    /// kubelet.
    pub(super) async fn wait_ready(&mut self) -> anyhow::Result<View> {
        let state = self.node.state();
        let mig =
            |gpu: &Gpu| gpu.mig.as_ref().filter(|mig| mig.enabled).map(|mig| mig.devices.len());
        let parts: usize = state.gpus.iter().filter_map(mig).sum();
        let whole = state.gpus.iter().filter(|gpu| mig(gpu).is_none()).count();
        // How partitioned GPUs are offered is the plugin's configuration.
        let mut counts = BTreeSet::from([state.gpus.len(), whole + parts, parts]);
        counts.remove(&0);
        let numbers: Vec<String> = counts.iter().rev().map(ToString::to_string).collect();
        let what = format!("{} devices are registered and listed", numbers.join(" or "));
        self.wait_until(&what, |view| {
            let settled =
                |resource: &ResourceView| resource.stream_open && resource.lists_received > 0;
            let ids = view.resources.values().flat_map(|resource| resource.devices.keys());
            let devices: BTreeSet<&str> = ids.map(|id| device_of(id)).collect();
            counts.contains(&devices.len()) && view.resources.values().all(settled)
        })
        .await
    }

    /// The resource with the most allocatable devices.
    pub(super) fn largest_resource(&self) -> anyhow::Result<String> {
        let view = self.kubelet.view();
        let largest = view.resources.iter().max_by_key(|(_, resource)| resource.allocatable);
        let (name, _) = largest.context("no resource is registered")?;
        Ok(name.clone())
    }

    /// Every device that the kubelet has.
    pub(super) fn show_devices(&self, only: Option<&BTreeSet<String>>) {
        let view = self.kubelet.view();
        let mut rows = Vec::new();
        for (name, resource) in &view.resources {
            for (id, device) in &resource.devices {
                if only.is_some_and(|only| !only.contains(id)) {
                    continue;
                }
                let (index, model) =
                    self.place(id).map(|place| (place.index, place.model)).unwrap_or_default();
                let numa: Vec<String> = device.numa.iter().map(ToString::to_string).collect();
                let numa = if numa.is_empty() { "-".to_owned() } else { numa.join(",") };
                let mut row = vec![index, id.clone(), model, numa];
                if view.resources.len() > 1 {
                    row.push(name.clone());
                }
                row.push(if device.healthy { "healthy" } else { "unhealthy" }.to_owned());
                rows.push((row, device.healthy));
            }
        }
        rows.sort_by_key(|(row, _)| {
            row[0].split(':').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
        });
        match view.resources.len() {
            0 | 1 => self.screen.table(&["GPU", "device id", "model", "NUMA", "health"], &rows),
            _ => self
                .screen
                .table(&["GPU", "device id", "model", "NUMA", "resource", "health"], &rows),
        }
    }

    /// "nvidia.com/gpu: 7 of 8 allocatable", for every resource.
    pub(super) fn show_totals(&self) {
        for (name, resource) in &self.kubelet.view().resources {
            self.screen.detail(&format!(
                "{name}: {} of {} allocatable",
                resource.allocatable, resource.capacity
            ));
        }
    }

    /// What a container receives.
    pub(super) fn show_answer(&self, answer: &ContainerAllocateResponse) {
        for (name, value) in &answer.envs {
            self.screen.detail(&format!("env     {name}={value}"));
        }
        for device in &answer.devices {
            let place = if device.container_path == device.host_path {
                String::new()
            } else {
                format!(" at {}", device.container_path)
            };
            self.screen
                .detail(&format!("device  {} ({}){place}", device.host_path, device.permissions));
        }
        for mount in &answer.mounts {
            let mode = if mount.read_only { "ro" } else { "rw" };
            self.screen.detail(&format!(
                "mount   {} on {} ({mode})",
                mount.host_path, mount.container_path
            ));
        }
        for device in &answer.cdi_devices {
            self.screen.detail(&format!("CDI     {}", device.name));
        }
        for (name, value) in &answer.annotations {
            self.screen.detail(&format!("note    {name}={value}"));
        }
    }

    /// Where an accepted registration leads.
    pub(super) fn show_registrations<'a>(
        &self,
        registrations: impl IntoIterator<Item = &'a Registration>,
    ) {
        for registration in registrations {
            self.screen.detail(&format!("{} at {}", registration.resource, registration.endpoint));
        }
    }

    /// The devices of a GPU, whole, partitioned or shared.
    pub(super) fn devices_of(&self, gpu: usize) -> BTreeSet<String> {
        let view = self.kubelet.view();
        let ids = view.resources.values().flat_map(|resource| resource.devices.keys());
        ids.filter(|id| self.place(id).is_some_and(|place| place.gpu == gpu)).cloned().collect()
    }

    /// Removes the plugin's sockets and waits until it has registered all of its resources again.
    pub(super) async fn delete_sockets(&mut self) -> anyhow::Result<(Duration, Vec<Registration>)> {
        let sockets = self.node.plugin_sockets();
        if sockets.is_empty() {
            bail!("the plugin has no socket in {}", self.node.kubelet_directory().display());
        }
        let before = self.kubelet.view();
        let begun = Instant::now();
        for socket in sockets {
            fs::remove_file(&socket).with_context(|| format!("removing {}", socket.display()))?;
        }
        self.wait_registered_again("after its socket was deleted", &before, begun).await
    }

    /// Kills the kubelet, starts it again, and waits until the plugin has registered all of its
    /// resources again.
    pub(super) async fn restart_kubelet(
        &mut self,
    ) -> anyhow::Result<(Duration, Vec<Registration>)> {
        let before = self.kubelet.view();
        self.kubelet.stop().await;
        let begun = Instant::now();
        self.kubelet.start_again().await?;
        self.wait_registered_again("after the kubelet's restart", &before, begun).await
    }

    async fn wait_registered_again(
        &mut self,
        when: &str,
        before: &View,
        begun: Instant,
    ) -> anyhow::Result<(Duration, Vec<Registration>)> {
        let what = format!("every resource is registered {when}, with the devices that it had");
        let same = |view: &View| {
            before.resources.iter().all(|(name, old)| {
                let new = view.resource(name);
                new.is_some_and(|new| {
                    new.endpoint != old.endpoint && new.stream_open && new.devices == old.devices
                })
            })
        };
        let view = self.wait_until(&what, same).await?;
        let last = view.resources.values().filter_map(|resource| resource.last_list_at).max();
        let took = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(begun));
        let new = view.registrations[before.registrations.len()..].iter();
        Ok((took, new.filter(|call| call.outcome == Outcome::Accepted).cloned().collect()))
    }

    fn place(&self, id: &str) -> Option<GpuLocation> {
        let uuid = device_of(id);
        for (gpu, facts) in self.node.state().gpus.iter().enumerate() {
            let model = facts.name.trim_start_matches("NVIDIA ");
            if facts.uuid == uuid {
                return Some(GpuLocation { index: gpu.to_string(), gpu, model: model.to_owned() });
            }
            let mig = facts
                .mig
                .iter()
                .flat_map(|mig| &mig.devices)
                .position(|device| device.uuid == uuid);
            if let Some(mig) = mig {
                return Some(GpuLocation {
                    index: format!("{gpu}:{mig}"),
                    gpu,
                    model: format!("{model} (MIG)"),
                });
            }
        }
        None
    }
}

/// A replica's id has a number behind the device's own.
fn device_of(id: &str) -> &str {
    id.split("::").next().unwrap_or(id)
}
