//! Devices that are not offered, or not as one would expect.

use std::sync::Arc;

use super::finding_text::{
    broken_mig_device, facts_missing, labelled, mig_mode_unknown, owners_unknown,
};
use crate::health::NvmlError;
use crate::identity::{GpuName, IdentityFinding, KnownGpu};
use crate::in_use::usage::Owner;
use crate::layout::list_size::{KUBELET_LIMIT, ListTooLarge};
use crate::names::{ResourceName, Uuid};

/// The call that reads the MIG mode.
pub(super) const MIG_MODE: &str = "nvmlDeviceGetMigMode";

/// A device that is not offered, or not as one would expect. Where NVIDIA's plugin exits because of
/// it, the rest of the node is served here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFinding {
    /// Something about the identity or the number of GPUs.
    #[error("{0}")]
    Identity(IdentityFinding),
    /// MIG mode is on, and the GPU has no MIG devices.
    #[error(
        "{gpu} has MIG mode on and no MIG devices, so nothing of it is offered; \
         create some (nvidia-smi mig -cgi ... -C) or turn MIG mode off"
    )]
    NoMigDevices {
        /// The GPU.
        gpu: GpuName,
    },
    /// The MIG mode cannot be read, so that the GPU cannot be offered whole.
    #[error("{}", mig_mode_unknown(.gpu, .error.as_ref()))]
    MigModeUnknown {
        /// The GPU.
        gpu: GpuName,
        /// The failed call and its return code; `None`: NVML does not answer about the GPU.
        error: Option<NvmlError>,
    },
    /// Facts that are missing because a call was refused or failed.
    #[error("{}", facts_missing(.gpu, .gaps))]
    FactsMissing {
        /// The GPU.
        gpu: GpuName,
        /// The calls and their return codes.
        gaps: Vec<NvmlError>,
    },
    /// MIG mode is on, and the strategy `none` ignores it.
    #[error(
        "{gpu} has MIG mode on and is offered whole, since the MIG strategy is none; \
         CUDA programs see none of it but one MIG device: set the strategy single or mixed, or \
         turn MIG mode off"
    )]
    MigNotLookedAt {
        /// The GPU.
        gpu: GpuName,
    },
    /// Devices of another kind than the one that the strategy `single` offers.
    #[error(
        "the MIG strategy single has one kind of device in {resource}: {offered} is offered, and \
         {kind} ({}) is not; make the GPUs alike, or set the strategy mixed",
        .devices.join(", ")
    )]
    LeftOut {
        /// The resource of both kinds.
        resource: ResourceName,
        /// The kind that is offered.
        offered: String,
        /// The kind that is not.
        kind: String,
        /// Indices of its devices: "3", "0:1".
        devices: Vec<String>,
    },
    /// A MIG device whose profile NVML does not state, so that its resource has no name.
    #[error(
        "MIG device {} is not offered: NVML states neither its attributes nor a name with its \
         profile; a newer driver may, and the strategy single needs no profile",
        labelled(.index, .device)
    )]
    Undescribed {
        /// Its index: "0:1".
        index: String,
        /// The MIG device.
        device: Uuid,
    },
    /// A MIG device, or the list of them, for which NVML answers with an error.
    #[error("{}", broken_mig_device(.gpu, *.mig, .error))]
    BrokenMigDevice {
        /// Its GPU.
        gpu: GpuName,
        /// Its MIG index; `None`: they cannot even be counted.
        mig: Option<u32>,
        /// The failed call and its return code.
        error: NvmlError,
    },
    /// MIG devices of a resource that is shared by MPS, which does not support them.
    #[error(
        "{devices} MIG devices of {resource} are not offered: sharing using MPS is not supported \
         for MIG devices, since a process, such as a control daemon, sees one MIG device; use \
         sharing.timeSlicing, or turn MIG mode off"
    )]
    MigUnderMps {
        /// The resource.
        resource: ResourceName,
        /// How many.
        devices: usize,
    },
    /// A GPU that cannot have as many clients of MPS as there are replicas.
    #[error(
        "GPU {device} is not offered in {resource}: it has {replicas} replicas, and a GPU of its \
         compute capability can have {most} clients of MPS; have fewer replicas"
    )]
    TooManyMpsClients {
        /// The resource.
        resource: ResourceName,
        /// The GPU.
        device: Uuid,
        /// Its replicas.
        replicas: u32,
        /// How many clients it can have.
        most: u32,
    },
    /// A device that the configuration shares and that the resource does not have.
    #[error(
        "the sharing of {resource} names device {named}, and no device of that resource is it; the \
         node's devices are in the log and in nvidia-smi -L"
    )]
    NoSuchDevice {
        /// The resource.
        resource: ResourceName,
        /// How the configuration names it.
        named: String,
    },
    /// A selector of the settings that matches nothing on this node.
    #[error(
        "{selector} in {setting} matches nothing on this node; the node's GPUs are in the log and \
         in nvidia-smi -L, and a pattern has to match the whole name"
    )]
    MatchesNothing {
        /// The setting.
        setting: &'static str,
        /// The selector in it.
        selector: String,
    },
    /// A device whose UUID another device has.
    #[error(
        "device {index} is not offered: another device has its UUID {device}; see nvidia-smi -L \
         on the node"
    )]
    DuplicateUuid {
        /// Its index: "0:1".
        index: String,
        /// The UUID.
        device: Uuid,
    },
    /// A GPU that a pod uses under an id that is no longer offered.
    #[error(
        "the ids of {gpu} are Unhealthy: {owner}, which is no longer offered; they are Healthy \
         when the pod is gone"
    )]
    OtherOwner {
        /// The GPU.
        gpu: GpuName,
        /// The pod, and the id.
        owner: Arc<Owner>,
    },
    /// GPUs that have other ids than before, while it is not known whether pods use those.
    #[error("{}", owners_unknown(.gpus))]
    OwnersUnknown {
        /// The GPUs.
        gpus: Vec<GpuName>,
    },
    /// A resource whose list is longer than the kubelet accepts.
    #[error("{resource} is not offered: it {why}")]
    ListTooLarge {
        /// The resource.
        resource: ResourceName,
        /// Its size, and how it comes about.
        why: ListTooLarge,
    },
    /// Withdrawn ids that the list would be too long with.
    #[error(
        "{ids} ids of {resource} that are offered no more are forgotten: with them its list would \
         be longer than the {KUBELET_LIMIT} bytes that the kubelet receives; a pod that still uses \
         one has to be recreated"
    )]
    Forgotten {
        /// The resource.
        resource: ResourceName,
        /// How many.
        ids: usize,
    },
    /// The CDI specifications are not as they should be on the disk.
    #[error(
        "the CDI specifications cannot be written, will retry: {why}; devices that the ones before \
         do not have are Unhealthy until then"
    )]
    CdiNotWritten {
        /// The file or directory, and the error.
        why: String,
    },
    /// What containers lack that get their devices by CDI names.
    #[error("{what}")]
    CdiIncomplete {
        /// It, in words.
        what: String,
    },
    /// The memory of shared GPUs is to be limited, and is not.
    #[error("memory limits are not enforceable on this node: {why}")]
    MemoryNotLimited {
        /// Why, in words.
        why: String,
    },
    /// A MIG device whose capability nodes are to be passed and that the driver does not list.
    #[error(
        "no capability nodes of MIG device {} are passed: the driver's mig-minors does not list \
         them; is /proc/driver/nvidia-caps visible here?",
        labelled(.index, .device)
    )]
    NoCapability {
        /// Its index: "0:1".
        index: String,
        /// The MIG device.
        device: Uuid,
    },
}

impl LayoutFinding {
    /// Every value of [`LayoutFinding::as_str`].
    pub const KINDS: [&str; 25] = [
        "matches_nothing",
        "duplicate_uuid",
        "other_owner",
        "owners_unknown",
        "mig_mode_unknown",
        "facts_missing",
        "numbering_changed",
        "bus_differs",
        "unidentified",
        "offered_differs",
        "expected_differs",
        "no_mig_devices",
        "mig_not_looked_at",
        "left_out",
        "undescribed",
        "broken_mig_device",
        "mig_under_mps",
        "too_many_mps_clients",
        "no_such_device",
        "list_too_large",
        "forgotten",
        "no_capability",
        "cdi_not_written",
        "cdi_incomplete",
        "memory_not_limited",
    ];

    pub(super) fn matches_nothing(setting: &'static str, selector: String) -> Self {
        Self::MatchesNothing { setting, selector }
    }

    pub(super) fn mig_mode_unknown(gpu: KnownGpu<'_>) -> Self {
        let gaps = gpu.facts().map_or(&[][..], |facts| &facts.gaps);
        let error = gaps.iter().find(|gap| gap.call == MIG_MODE).cloned();
        Self::MigModeUnknown { gpu: gpu.name(), error }
    }

    /// Its kind, one of a fixed set, as in `/status` and in the label of a metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Identity(finding) => finding.as_str(),
            Self::NoMigDevices { .. } => "no_mig_devices",
            Self::MigModeUnknown { .. } => "mig_mode_unknown",
            Self::FactsMissing { .. } => "facts_missing",
            Self::MigNotLookedAt { .. } => "mig_not_looked_at",
            Self::LeftOut { .. } => "left_out",
            Self::Undescribed { .. } => "undescribed",
            Self::BrokenMigDevice { .. } => "broken_mig_device",
            Self::MigUnderMps { .. } => "mig_under_mps",
            Self::TooManyMpsClients { .. } => "too_many_mps_clients",
            Self::NoSuchDevice { .. } => "no_such_device",
            Self::MatchesNothing { .. } => "matches_nothing",
            Self::DuplicateUuid { .. } => "duplicate_uuid",
            Self::OtherOwner { .. } => "other_owner",
            Self::OwnersUnknown { .. } => "owners_unknown",
            Self::ListTooLarge { .. } => "list_too_large",
            Self::Forgotten { .. } => "forgotten",
            Self::NoCapability { .. } => "no_capability",
            Self::CdiNotWritten { .. } => "cdi_not_written",
            Self::CdiIncomplete { .. } => "cdi_incomplete",
            Self::MemoryNotLimited { .. } => "memory_not_limited",
        }
    }
}
