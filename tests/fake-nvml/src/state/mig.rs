//! Partitioning of a GPU.

use serde::{Deserialize, Serialize};

use super::Rule;

/// Partitioning of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mig {
    /// MIG mode is on.
    pub enabled: bool,
    /// MIG mode after the next reset of the GPU; absent: as now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<bool>,
    /// The MIG devices that exist.
    pub devices: Vec<MigDevice>,
}

/// One MIG device: a compute instance on a GPU instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigDevice {
    /// "MIG-" and a UUID, or the form of drivers before 470: `MIG-GPU-<uuid>/<gi>/<ci>`.
    pub uuid: String,
    /// MIG index, which may have gaps; absent: the place in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// GPU slices (the g of 1g.10gb).
    pub gpu_slices: u32,
    /// Compute slices; fewer than `gpu_slices` in a compute instance split (the c of 1c.2g.20gb).
    pub compute_slices: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// The GPU instance profile number (`NVML_GPU_INSTANCE_PROFILE_*`).
    pub gpu_instance_profile: u32,
    /// The device's name where the driver gives one, e.g. "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
    pub name: Option<String>,
    /// How calls on this device go wrong.
    pub rules: Vec<Rule>,
}

impl Default for MigDevice {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            index: None,
            gpu_instance: 0,
            compute_instance: 0,
            gpu_slices: 1,
            compute_slices: 1,
            memory_mib: 9_984,
            multiprocessors: 16,
            gpu_instance_profile: 0,
            name: None,
            rules: Vec::new(),
        }
    }
}
