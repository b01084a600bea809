//! A resource in the schema: its registration with the kubelet, how its devices are shared, and
//! each of them.

use serde::{Deserialize, Serialize};

use super::problem::Holder;
use super::time::Timestamp;

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Its name, such as nvidia.com/gpu.
    pub name: String,
    /// Its registration with the kubelet.
    pub kubelet: Registration,
    /// How its devices are shared; absent if they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sharing: Option<Sharing>,
    /// How many of its devices are Healthy; one that is no longer offered does not count.
    pub healthy: usize,
    /// How many of its devices are offered, Healthy or not.
    #[serde(default)]
    pub offered: usize,
    /// How many of its devices pods hold; `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allocated: Option<usize>,
    /// Its devices, by GPU, then by MIG device, then by replica.
    pub devices: Vec<Device>,
}

/// How the devices of a resource are shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// By which means.
    pub strategy: SharingStrategy,
    /// Replicas of each device.
    pub replicas: u32,
    /// The resource that the devices would be in unshared: another one if the shared one is
    /// renamed.
    pub of: String,
    /// MPS, where it is the strategy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mps: Option<MpsSharing>,
}

/// How MPS shares the GPUs of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MpsSharing {
    /// Whether the control daemon works for clients.
    pub up: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Whether one server works for the processes of all users.
    pub multi_user: bool,
    /// Whether the limits are variables of each container, since it may have several replicas;
    /// else they are the daemon's, and no client can raise them.
    pub limits_by_container: bool,
    /// What each replica gets of each GPU.
    pub shares: Vec<MpsShare>,
}

impl MpsSharing {
    /// What one replica gets, in words; of GPUs that differ, the least and the most.
    #[must_use]
    pub fn in_words(&self) -> String {
        let threads = range(self.shares.iter().map(|share| u64::from(share.thread_percentage)));
        let memory = range(self.shares.iter().filter_map(|share| share.memory_mib));
        let words = [threads.map(|of| of + " % of the threads"), memory.map(|of| of + " MiB")];
        let words: Vec<String> = words.into_iter().flatten().collect();
        match words.is_empty() {
            true => "nothing yet".to_owned(),
            false => words.join(" and "),
        }
    }
}

/// "25", or "25 to 33"; `None`: there is no number.
fn range(numbers: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (least, most) = (numbers.clone().min()?, numbers.max()?);
    Some(if least == most { least.to_string() } else { format!("{least} to {most}") })
}

/// What a replica gets of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MpsShare {
    /// The GPU's UUID.
    pub gpu: String,
    /// Its share of the threads, in percent.
    pub thread_percentage: u32,
    /// Its limit of memory in MiB; absent: no limit, since the GPU's memory is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_mib: Option<u64>,
    /// The most memory in MiB of all replicas of a container: the GPU's without the reserve.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub most_memory_mib: Option<u64>,
}

/// The means by which devices are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SharingStrategy {
    /// By time-slicing, without isolation.
    TimeSlicing,
    /// Concurrently, under the control of an MPS daemon.
    Mps,
    /// By means that a newer plugin has and this program does not know.
    #[serde(other)]
    Other,
}

/// The registration of a resource with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Whether the kubelet accepted the registration and watches the devices.
    pub registered: bool,
    /// Since when it is, or is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// What is missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// The base name of the socket that the plugin serves on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<String>,
    /// ListAndWatch streams that are open.
    pub streams: usize,
    /// Registrations that the kubelet accepted since the plugin started.
    pub registrations: u64,
}

/// One device as the kubelet knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub id: String,
    /// The UUID of the GPU or MIG device that it is, or is a replica of.
    pub uuid: String,
    /// Its index as NVIDIA's tools write it: "0", or "0:1" for a MIG device.
    pub index: String,
    /// The number of the replica, where the device is shared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replica: Option<u32>,
    /// The UUID of the physical GPU.
    pub gpu: String,
    /// Whether it is Healthy, so that it can be allocated.
    pub healthy: bool,
    /// Whether it was offered earlier and is no longer.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub withdrawn: bool,
    /// The kinds of its causes, the worst first. The details are with its GPU.
    /// `awaits_mps`: its MPS control daemon is not there for it. `other_owner`: a pod uses its GPU
    /// under an id that is no longer offered, as the finding of that kind says. `awaits_cdi`: no
    /// CDI specification on the disk has it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
    /// The containers that hold it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub holders: Vec<Holder>,
}
