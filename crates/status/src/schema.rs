//! The JSON schema. Other programs rely on its field names: within one version fields are added and
//! never changed.

use serde::{Deserialize, Serialize};

use super::gpu::{Gpu, Reason};
use super::problem::Problem;
use super::resource::Resource;
use super::time::Timestamp;

/// The version of the schema.
pub const SCHEMA_VERSION: u32 = 1;

/// The kind of the finding that another device plugin serves a resource of this one.
pub const OTHER_PLUGIN: &str = "other_plugin";

/// All that the daemon knows of its node, in reading order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When this was generated.
    pub generated_at: Timestamp,
    /// The name of the Kubernetes node, if it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    /// All of it in a sentence, for people.
    #[serde(default)]
    pub summary: String,
    /// What is wrong, once for each cause, the worst first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// The plugin itself.
    pub plugin: Plugin,
    /// NVML.
    pub nvml: Nvml,
    /// How many GPUs there are, by each that counts them.
    #[serde(default)]
    pub gpu_counts: GpuStageCounts,
    /// The physical GPUs, by index.
    pub gpus: Vec<Gpu>,
    /// The resources, by name.
    pub resources: Vec<Resource>,
    /// Whether it is known which pod holds which device.
    pub holders_known: bool,
    /// What is not offered as one would expect.
    pub findings: Vec<Finding>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The last events, newest first.
    pub events: Vec<Event>,
}

impl Status {
    /// Where it is: the name of the Kubernetes node, or of the host or pod that the plugin runs in.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.node.as_deref().or(self.plugin.hostname.as_deref())
    }

    /// A note if a newer plugin wrote it, of which this program may not know everything.
    #[must_use]
    pub fn newer(&self) -> Option<String> {
        (self.schema_version > SCHEMA_VERSION).then(|| {
            format!(
                "the plugin's status is of version {}, newer than this program, which knows \
                 version {SCHEMA_VERSION}: what is new in it is not shown",
                self.schema_version
            )
        })
    }
}

/// How many GPUs there are, by each that counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuStageCounts {
    /// On the PCI bus with NVIDIA's driver, and given to this container; `None`: it cannot be seen.
    pub bus: Option<u32>,
    /// Counted by NVML; `None`: it was not asked yet.
    pub enumerated: Option<u32>,
    /// Counted by NVML, with a UUID of their own.
    pub identified: u32,
    /// Offered to the kubelet, whole or in parts, Healthy or not.
    pub offered: u32,
    /// Reserved for the system.
    pub reserved: u32,
    /// Expected by the configuration.
    pub expected: Option<u32>,
}

impl GpuStageCounts {
    /// Each number that is known, with the name of its stage.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("bus", self.bus),
            ("enumerated", self.enumerated),
            ("identified", Some(self.identified)),
            ("offered", Some(self.offered)),
            ("expected", self.expected),
        ];
        all.into_iter().filter_map(|(stage, count)| Some((stage, count?)))
    }

    /// All of them in a line, if two that should be the same differ.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let same = |count: Option<u32>| count.is_none_or(|count| count == self.identified);
        let offered = self.offered + self.reserved == self.identified;
        if same(self.bus) && same(self.enumerated) && same(self.expected) && offered {
            return None;
        }
        let text = self.stages().map(|(stage, count)| match stage {
            "bus" => format!("{count} on the bus"),
            "enumerated" => format!("{count} counted by NVML"),
            "offered" if self.reserved > 0 => {
                format!("{count} offered, {} reserved", self.reserved)
            }
            stage => format!("{count} {stage}"),
        });
        Some(text.collect::<Vec<_>>().join(", "))
    }
}

/// The plugin itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its version.
    pub version: String,
    /// The git commit that it was built from.
    pub commit: String,
    /// The name of the host, or of the pod, that it runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hostname: Option<String>,
    /// The type of the machine, as its firmware names it: DMI's product_name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub machine_type: Option<String>,
    /// When the process began.
    pub started_at: Timestamp,
    /// Seconds since.
    pub uptime_seconds: f64,
    /// Whether every resource is registered and watched by the kubelet.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<String>,
}

/// NVML, the driver's library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nvml {
    /// Its state.
    pub state: NvmlState,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<Reason>,
    /// The driver's version; the last known one while NVML is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub driver_version: Option<String>,
    /// The CUDA version that the driver supports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cuda_version: Option<String>,
    /// The library's version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvml_version: Option<String>,
    /// Calls that currently do not return.
    pub unanswered_calls: u64,
    /// Until when it is released, unless it is taken up before; absent if it is not released.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub released_until: Option<Timestamp>,
}

/// The state of NVML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NvmlState {
    /// It is initialised and answers.
    Up,
    /// It is not there, or fails.
    Down,
    /// It was released, for the reset of a GPU.
    #[serde(rename = "letGo")]
    Released,
    /// A state that a newer plugin has and this program does not know.
    #[serde(other)]
    Unknown,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The config file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// How MIG devices are offered: "single" or "mixed"; absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mig_strategy: Option<String>,
    /// How often a changed configuration was applied.
    pub reloads_applied: u64,
    /// How often a changed configuration was refused.
    pub reloads_refused: u64,
    /// The last reload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_reload: Option<LastReload>,
}

/// The outcome of a reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastReload {
    /// When.
    pub at: Timestamp,
    /// Why it was refused; absent if it is in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

/// Something that is not offered as one would expect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// One of a fixed set of words, for programs.
    pub kind: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// An event, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When it happened; of several equal ones, the last.
    pub at: Timestamp,
    /// Of several equal ones, when the first happened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_at: Option<Timestamp>,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The physical GPU that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu: Option<String>,
    /// NVML's index of that GPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu_index: Option<u32>,
    /// The number of the Xid, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u32>,
    /// The resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// What happened.
    pub message: String,
    /// How many equal ones this stands for.
    pub times: u64,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// A GPU was seen for the first time.
    GpuFound,
    /// A GPU has a new cause.
    GpuUnhealthy,
    /// A cause is over.
    CauseOver,
    /// A GPU has no cause any more.
    GpuHealthy,
    /// The driver reported an Xid.
    Xid,
    /// A GPU is degraded.
    GpuDegraded,
    /// A GPU is no longer degraded.
    GpuRestored,
    /// Devices are not offered as one would expect.
    Finding,
    /// A finding is over.
    FindingOver,
    /// The kubelet accepted a registration.
    Registered,
    /// The server of a resource was restarted.
    ServerRestarted,
    /// A changed configuration is in force.
    ConfigurationApplied,
    /// A changed configuration was refused.
    ConfigurationRefused,
    /// A kind that a newer plugin has and this program does not know.
    #[serde(other)]
    Other,
}
