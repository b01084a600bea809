//! The longer texts of findings.

use crate::health::{NvmlError, ReturnCode};
use crate::identity::GpuName;
use crate::names::Uuid;

/// `NVML_ERROR_NO_PERMISSION`.
const NO_PERMISSION: ReturnCode = ReturnCode(4);

/// What to do about a call for a fact that was refused or failed.
fn cure(error: &NvmlError) -> &'static str {
    match error.code {
        NO_PERMISSION => {
            "run the plugin privileged, or set NVIDIA_MIG_MONITOR_DEVICES=all in its container"
        }
        _ => "see nvidia-smi -q and the kernel log of the node (dmesg, NVRM)",
    }
}

/// A device by its label, and its UUID if that is not its label.
pub(super) fn labelled(label: &str, device: &Uuid) -> String {
    if label == device.as_str() { label.to_owned() } else { format!("{label} ({device})") }
}

pub(super) fn mig_mode_unknown(gpu: &GpuName, error: Option<&NvmlError>) -> String {
    match error {
        Some(error) => format!(
            "the MIG mode of {gpu} cannot be read, so nothing of it is offered: {error}; {}",
            cure(error)
        ),
        None => format!(
            "NVML does not answer about {gpu}, and it may be partitioned, so nothing of it is \
             offered until it answers; see the kernel log of the node (dmesg, NVRM)"
        ),
    }
}

pub(super) fn facts_missing(gpu: &GpuName, gaps: &[NvmlError]) -> String {
    let texts: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    let cure = gaps.first().map_or("", cure);
    format!("facts of {gpu} are missing: {}; {cure}", texts.join(", "))
}

pub(super) fn broken_mig_device(gpu: &GpuName, mig: Option<u32>, error: &NvmlError) -> String {
    match mig {
        Some(mig) => format!(
            "MIG device {} is not offered, the others are: {error}; nvidia-smi -L on the node \
             shows more",
            gpu.mig_label(mig)
        ),
        None => {
            format!("no MIG device of {gpu} is offered, they cannot be counted: {error}")
        }
    }
}

pub(super) fn owners_unknown(gpus: &[GpuName]) -> String {
    let names: Vec<String> = gpus.iter().map(ToString::to_string).collect();
    format!(
        "{} are offered under other ids than before, and it is not known whether pods still use \
         the old ones, so that a GPU may be given twice: mount the kubelet's podresources socket \
         (--pod-resources-socket), or end those pods",
        names.join(", ")
    )
}
