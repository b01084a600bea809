//! What a person should hear about a layout: each is something that is not offered as one would
//! expect.

use std::fmt;

use crate::health::NvmlError;
use crate::layout::list_size::{KUBELET_LIMIT, TooLarge};
use crate::layout::sharing::DeviceRef;
use crate::names::{ResourceName, Uuid};

/// One thing that keeps a device from being offered, or offers it otherwise than it looks. Where
/// NVIDIA's plugin exits over it, the rest of the node is served here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// MIG mode is on, and nothing is made of the GPU.
    NoMigDevices {
        /// Its index.
        index: u32,
        /// Its identity.
        gpu: Uuid,
    },
    /// MIG mode is on, and the strategy `none` does not look at it.
    MigNotLookedAt {
        /// Its index.
        index: u32,
        /// Its identity.
        gpu: Uuid,
    },
    /// Devices of a kind that the strategy `single` does not offer beside the one that most are of.
    LeftOut {
        /// The resource of both.
        resource: ResourceName,
        /// The kind that is offered.
        offered: String,
        /// The kind that is not.
        kind: String,
        /// Indices of its devices: "3", "0:1".
        devices: Vec<String>,
    },
    /// A MIG device whose profile NVML does not tell, so that it has no name.
    Undescribed {
        /// Its index.
        index: String,
        /// Its identity.
        device: Uuid,
    },
    /// A MIG device, or the list of them, that NVML answers about with an error.
    BrokenMigDevice {
        /// The index of its GPU.
        gpu: u32,
        /// Its own; `None`: they cannot even be counted.
        mig: Option<u32>,
        /// NVML's answer.
        error: NvmlError,
    },
    /// MIG devices of a resource that MPS is to share, which it cannot.
    MigUnderMps {
        /// The resource.
        resource: ResourceName,
        /// How many.
        devices: usize,
    },
    /// A device that the configuration shares and the node does not have.
    NoSuchDevice {
        /// The resource in which it is to be.
        resource: ResourceName,
        /// How the configuration names it.
        named: DeviceRef,
    },
    /// A resource whose list the kubelet would not receive.
    ListTooLarge {
        /// The resource.
        resource: ResourceName,
        /// The arithmetic.
        why: TooLarge,
    },
    /// Ids that are offered no more and for which the list has no room.
    Forgotten {
        /// The resource.
        resource: ResourceName,
        /// How many.
        ids: usize,
    },
    /// A MIG device whose capability nodes the driver does not list, while device nodes are to be
    /// passed.
    NoCapability {
        /// Its index.
        index: String,
        /// Its identity.
        device: Uuid,
    },
}

impl Finding {
    /// Every word of [`Finding::as_str`].
    pub const WORDS: [&str; 10] = [
        "no_mig_devices",
        "mig_not_looked_at",
        "left_out",
        "undescribed",
        "broken_mig_device",
        "mig_under_mps",
        "no_such_device",
        "list_too_large",
        "forgotten",
        "no_capability",
    ];

    /// A word for machines, one of a fixed set.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoMigDevices { .. } => "no_mig_devices",
            Self::MigNotLookedAt { .. } => "mig_not_looked_at",
            Self::LeftOut { .. } => "left_out",
            Self::Undescribed { .. } => "undescribed",
            Self::BrokenMigDevice { .. } => "broken_mig_device",
            Self::MigUnderMps { .. } => "mig_under_mps",
            Self::NoSuchDevice { .. } => "no_such_device",
            Self::ListTooLarge { .. } => "list_too_large",
            Self::Forgotten { .. } => "forgotten",
            Self::NoCapability { .. } => "no_capability",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMigDevices { index, gpu } => write!(
                f,
                "GPU {index} ({gpu}) has MIG mode on and no MIG devices, so nothing of it is \
                 offered; create some (nvidia-smi mig -cgi ... -C) or turn MIG mode off"
            ),
            Self::MigNotLookedAt { index, gpu } => write!(
                f,
                "GPU {index} ({gpu}) has MIG mode on and is offered whole, since the MIG strategy \
                 is none; CUDA programs see none of it but one MIG device: set the strategy single \
                 or mixed, or turn MIG mode off"
            ),
            Self::LeftOut { resource, offered, kind, devices } => write!(
                f,
                "the MIG strategy single has one kind of device in {resource}: {offered} is \
                 offered, and {kind} ({}) is not; make the GPUs alike, or set the strategy mixed",
                devices.join(", ")
            ),
            Self::Undescribed { index, device } => write!(
                f,
                "MIG device {index} ({device}) is not offered: NVML tells neither its attributes \
                 nor a name with its profile; a newer driver may, and the strategy single needs no \
                 profile"
            ),
            Self::BrokenMigDevice { gpu, mig: Some(mig), error } => write!(
                f,
                "MIG device {gpu}:{mig} is not offered, the others are: {error}; nvidia-smi -L on \
                    the node tells more"
            ),
            Self::BrokenMigDevice { gpu, mig: None, error } => {
                write!(f, "no MIG device of GPU {gpu} is offered, they cannot be counted: {error}")
            }
            Self::MigUnderMps { resource, devices } => write!(
                f,
                "{devices} MIG devices of {resource} are not offered: sharing using MPS is not \
                 supported for MIG devices; use sharing.timeSlicing, or turn MIG mode off"
            ),
            Self::NoSuchDevice { resource, named } => write!(
                f,
                "the sharing of {resource} names device {named}, and no device of that resource is \
                 it; the node's devices are in the log and in nvidia-smi -L"
            ),
            Self::ListTooLarge { resource, why } => {
                write!(f, "{resource} is not offered: it {why}")
            }
            Self::Forgotten { resource, ids } => write!(
                f,
                "{ids} ids of {resource} that are offered no more are forgotten: with them its \
                 list would be longer than the {KUBELET_LIMIT} bytes that the kubelet receives; a \
                 pod that still holds one has to be created anew"
            ),
            Self::NoCapability { index, device } => write!(
                f,
                "no capability nodes of MIG device {index} ({device}) are passed: the driver's \
                 mig-minors does not list them; is /proc/driver/nvidia-caps visible here?"
            ),
        }
    }
}
