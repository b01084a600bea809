//! Cutting a GPU into MIG devices.

use super::model;
use crate::state::{Gpu, Mig, MigDevice};

/// A GPU instance with one compute instance that takes all of it.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    slices: u32,
    gigabytes: u32,
    memory_mib: u64,
    multiprocessors: u32,
    /// `NVML_GPU_INSTANCE_PROFILE_*`
    profile: u32,
    /// GPU instance ids of this profile count up from here.
    first_id: u32,
}

impl Slice {
    /// 1g.10gb
    pub(super) const G1: Self = Self {
        slices: 1,
        gigabytes: 10,
        memory_mib: 9_984,
        multiprocessors: 16,
        profile: 0,
        first_id: 7,
    };
    /// 2g.20gb
    pub(super) const G2: Self = Self {
        slices: 2,
        gigabytes: 20,
        memory_mib: 20_096,
        multiprocessors: 32,
        profile: 1,
        first_id: 3,
    };
    /// 3g.40gb
    pub(super) const G3: Self = Self {
        slices: 3,
        gigabytes: 40,
        memory_mib: 40_448,
        multiprocessors: 60,
        profile: 2,
        first_id: 1,
    };
}

/// Turns MIG mode on with these devices.
pub(super) fn cut(gpu: &mut Gpu, slices: &[Slice]) {
    let devices = slices.iter().enumerate().map(|(index, slice)| {
        let before = slices[..index].iter().filter(|other| other.profile == slice.profile).count();
        let gpu_instance = slice.first_id + before as u32;
        MigDevice {
            uuid: format!("MIG-{}", model::uuid(&format!("{}/{gpu_instance}/0", gpu.uuid))),
            gpu_instance,
            compute_instance: 0,
            gpu_slices: slice.slices,
            compute_slices: slice.slices,
            memory_mib: slice.memory_mib,
            multiprocessors: slice.multiprocessors,
            gpu_instance_profile: slice.profile,
            name: Some(format!("{} MIG {}g.{}gb", gpu.name, slice.slices, slice.gigabytes)),
            ..MigDevice::default()
        }
    });
    gpu.mig = Some(Mig { enabled: true, devices: devices.collect(), ..Mig::default() });
}
