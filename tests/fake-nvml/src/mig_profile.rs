//! The GPU instance profiles: what each is called, how many fit, and what it gets of the GPU.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlGpuInstanceProfileInfo_t;

use crate::state::Gpu;

/// A GPU instance profile of one GPU.
pub(crate) struct MigProfile {
    /// E.g. "1g.10gb+me".
    pub(crate) name: String,
    row: &'static Row,
    multiprocessors: u32,
    memory_mib: u64,
}

/// A profile as GPUs with seven compute slices have it.
struct Row {
    /// `NVML_GPU_INSTANCE_PROFILE_*`
    number: c_uint,
    /// The number by which `nvmlGpuInstanceInfo_t` and nvidia-smi know it.
    id: c_uint,
    slices: u32,
    /// Of the eight memory slices.
    eighths: u32,
    /// How many fit on a GPU.
    instances: u32,
    suffix: &'static str,
    /// Streaming multiprocessors on Hopper and on Ampere.
    sms: (u32, u32),
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { number: 0, id: 19, slices: 1, eighths: 1, instances: 7, suffix: "",    sms: (16, 14) },
    Row { number: 7, id: 20, slices: 1, eighths: 1, instances: 1, suffix: "+me", sms: (16, 14) },
    Row { number: 9, id: 15, slices: 1, eighths: 2, instances: 4, suffix: "",    sms: (26, 14) },
    Row { number: 1, id: 14, slices: 2, eighths: 2, instances: 3, suffix: "",    sms: (32, 28) },
    Row { number: 2, id: 9,  slices: 3, eighths: 4, instances: 2, suffix: "",    sms: (60, 42) },
    Row { number: 3, id: 5,  slices: 4, eighths: 4, instances: 1, suffix: "",    sms: (64, 56) },
    Row { number: 4, id: 0,  slices: 7, eighths: 8, instances: 1, suffix: "",    sms: (132, 98) },
];

impl MigProfile {
    /// How many profile numbers there are.
    pub(crate) const COUNT: c_uint = 17;

    /// The profile of this number, if the GPU has it.
    pub(crate) fn of(gpu: &Gpu, number: c_uint) -> Option<Self> {
        let row = row(number)?;
        // The name tells the share of the product's size.
        let gigabytes = (gpu.memory_mib.div_ceil(1024) * u64::from(row.eighths) + 4) / 8;
        let hopper = gpu.compute_capability.0 >= 9;
        Some(Self {
            name: format!("{}g.{gigabytes}gb{}", row.slices, row.suffix),
            row,
            multiprocessors: if hopper { row.sms.0 } else { row.sms.1 },
            memory_mib: memory_mib(gpu.memory_mib, row.eighths),
        })
    }

    pub(crate) fn info(&self) -> nvmlGpuInstanceProfileInfo_t {
        let media = u32::from(self.row.suffix == "+me");
        nvmlGpuInstanceProfileInfo_t {
            id: self.row.id,
            isP2pSupported: 0,
            sliceCount: self.row.slices,
            instanceCount: self.row.instances,
            multiprocessorCount: self.multiprocessors,
            // The whole GPU has one more than it has slices.
            copyEngineCount: if self.row.slices == 7 { 8 } else { self.row.slices },
            decoderCount: self.row.slices,
            encoderCount: 0,
            jpegCount: self.row.slices.max(media),
            ofaCount: media.max(u32::from(self.row.slices == 7)),
            memorySizeMB: self.memory_mib,
        }
    }

    /// The id of the profile of this number.
    pub(crate) fn id_of(number: c_uint) -> c_uint {
        row(number).map_or(number, |row| row.id)
    }

    /// The memory slices of the profile of this number.
    pub(crate) fn eighths_of(number: c_uint) -> u32 {
        row(number).map_or(1, |row| row.eighths)
    }
}

/// The memory of so many of eight slices. The driver keeps some of each, by no simple rule.
fn memory_mib(total: u64, eighths: u32) -> u64 {
    match (total.div_ceil(1024), eighths) {
        (80, 1) => 9_984,
        (80, 2) => 20_096,
        (80, 4) => 40_448,
        (80, 8) => 81_152,
        (141, 1) => 16_384,
        (141, 2) => 33_280,
        (141, 4) => 71_424,
        (141, 8) => 143_360,
        (_, 8) => total,
        _ => total * u64::from(eighths) / 8,
    }
}

fn row(number: c_uint) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_by_slices_and_gigabytes() {
        let names = |memory_mib, numbers: &[u32]| -> Vec<String> {
            let gpu = Gpu { memory_mib, ..Gpu::default() };
            numbers
                .iter()
                .filter_map(|number| MigProfile::of(&gpu, *number))
                .map(|profile| profile.name)
                .collect()
        };
        assert_eq!(
            names(81_559, &[0, 7, 9, 1, 2, 3, 4, 5]).join(" "),
            "1g.10gb 1g.10gb+me 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb"
        );
        assert_eq!(names(40_960, &[0, 1, 2, 4]).join(" "), "1g.5gb 2g.10gb 3g.20gb 7g.40gb");
        assert_eq!(names(143_771, &[0, 1, 2, 4]).join(" "), "1g.18gb 2g.35gb 3g.71gb 7g.141gb");
    }
}
