//! What a test may see of the kubelet: its registrations and, by resource, the devices as the
//! kubelet counts them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// The kubelet's state at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Counts the starts: 1 in the first life, 2 after a restart.
    pub life: u64,
    /// False between a stop and the next start; the rest is then as it last was.
    pub running: bool,
    /// Every Register call of every life, in order of receipt.
    pub registrations: Vec<Registration>,
    /// The resources of this life, those from the checkpoint included. Never removed: as on a
    /// node's status, one whose grace time is over stays with 0 devices.
    pub resources: BTreeMap<String, ResourceView>,
}

/// One Register call.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The kubelet's life that received it.
    pub life: u64,
    /// The name as the plugin gave it.
    pub resource: String,
    /// The endpoint as the plugin gave it.
    pub endpoint: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was received.
    pub at: Instant,
    /// When the kubelet was done with it.
    pub answered: Option<Instant>,
}

/// What became of a Register call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The kubelet dials, or waits for the options.
    Pending,
    /// Answered without error.
    Accepted,
    /// Answered with this error.
    Refused(String),
    /// The plugin did not wait for the answer, or the kubelet died.
    Abandoned,
}

/// One resource as the kubelet counts it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceView {
    /// The current endpoint as the plugin gave it; empty for a resource known from the checkpoint
    /// alone.
    pub endpoint: String,
    /// The last list, with the health that the kubelet counts: all unhealthy once the stream has
    /// ended.
    pub devices: BTreeMap<String, DeviceView>,
    /// Lists received in this life, over all streams.
    pub lists_received: u64,
    /// The current endpoint's ListAndWatch stream is open.
    pub stream_open: bool,
    /// Healthy and unhealthy devices.
    pub capacity: usize,
    /// Healthy devices.
    pub allocatable: usize,
    /// When the last list was received.
    pub last_list_at: Option<Instant>,
    /// When the endpoint stopped, if it did.
    pub stopped_at: Option<Instant>,
    /// False when the grace time after the stop is over and the kubelet has dropped the resource.
    pub known: bool,
}

/// One device as the kubelet counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceView {
    /// In the set of healthy devices.
    pub healthy: bool,
    /// The NUMA nodes that the plugin states.
    pub numa: Vec<i64>,
}

impl View {
    /// The resource of that name, as soon as it has registered in this life or stands in the
    /// checkpoint.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&ResourceView> {
        self.resources.get(name)
    }

    /// Allocatable devices of a resource; 0 for one that is not known.
    #[must_use]
    pub fn allocatable(&self, name: &str) -> usize {
        self.resource(name).map_or(0, |resource| resource.allocatable)
    }

    /// Capacity of a resource; 0 for one that is not known.
    #[must_use]
    pub fn capacity(&self, name: &str) -> usize {
        self.resource(name).map_or(0, |resource| resource.capacity)
    }

    /// The kubelet's word on a device: None if the resource's last list does not have it.
    #[must_use]
    pub fn healthy(&self, resource: &str, device: &str) -> Option<bool> {
        self.resource(resource)?.devices.get(device).map(|device| device.healthy)
    }

    /// The accepted registrations of a resource, of every life.
    pub fn accepted<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Registration> {
        self.registrations
            .iter()
            .filter(move |call| call.resource == resource && call.outcome == Outcome::Accepted)
    }

    /// The registrations that this life received.
    pub fn of_this_life(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().filter(|call| call.life == self.life)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = if self.running { "running" } else { "stopped" };
        writeln!(f, "kubelet {running}, life {}", self.life)?;
        for call in &self.registrations {
            let outcome = match &call.outcome {
                Outcome::Pending => "pending",
                Outcome::Accepted => "accepted",
                Outcome::Refused(error) => error,
                Outcome::Abandoned => "abandoned",
            };
            writeln!(
                f,
                "  life {} Register {} {}: {outcome}",
                call.life, call.resource, call.endpoint
            )?;
        }
        if self.resources.is_empty() {
            writeln!(f, "  no resources")?;
        }
        for (name, resource) in &self.resources {
            write!(f, "  {name}: {resource}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ResourceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "allocatable {} of {}, {} lists, stream {}, endpoint {:?}",
            self.allocatable,
            self.capacity,
            self.lists_received,
            if self.stream_open { "open" } else { "closed" },
            self.endpoint,
        )?;
        for (id, device) in &self.devices {
            let health = if device.healthy { "healthy" } else { "UNHEALTHY" };
            writeln!(f, "    {id}  {health}  NUMA {:?}", device.numa)?;
        }
        Ok(())
    }
}
