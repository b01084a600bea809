//! Metrics about GPUs: how many there are, what each is, and what happened to it.

use status::{Gpu, GpuStageCounts};

use super::text::Text;

pub(super) fn gpu_counts(text: &mut Text, counts: &GpuStageCounts) {
    let help = "GPUs on the PCI bus with NVIDIA's driver, counted by NVML, identified by a UUID, \
        offered to the kubelet and expected by the configuration, by stage.";
    text.gauge("gpu_device_plugin_gpus", help).add_by("stage", counts.stages());
}

pub(super) fn gpus(text: &mut Text, gpus: &[Gpu]) {
    let help = "Attributes of a GPU or MIG device, to be joined by uuid. Always 1.";
    let mut info = text.gauge("gpu_device_plugin_device_info", help);
    for gpu in gpus {
        // A stale index would be another GPU's.
        let index = if gpu.index_stale { String::new() } else { gpu.index.to_string() };
        let numa_node = gpu.numa_node.map(|node| node.to_string());
        let mut add = |uuid: &str, profile: &str, parent: &str| {
            let labels = [
                ("uuid", uuid),
                ("gpu", &index),
                ("pci_bus_id", gpu.pci_bus_id.as_deref().unwrap_or_default()),
                ("model", gpu.model.as_deref().unwrap_or_default()),
                ("numa_node", numa_node.as_deref().unwrap_or_default()),
                ("mig_profile", profile),
                ("parent_uuid", parent),
            ];
            info.add(&labels, 1);
        };
        add(&gpu.uuid, "", "");
        for mig in &gpu.mig_devices {
            add(&mig.uuid, mig.profile.as_deref().unwrap_or_default(), &gpu.uuid);
        }
    }
    let help = "How often a GPU or a part of it became Healthy or Unhealthy.";
    let mut transitions = text.counter("gpu_device_plugin_device_health_transitions_total", help);
    for gpu in gpus {
        transitions.add(&[("uuid", &gpu.uuid), ("to", "healthy")], gpu.became_healthy);
        transitions.add(&[("uuid", &gpu.uuid), ("to", "unhealthy")], gpu.became_unhealthy);
    }
}

pub(super) fn gpu_events(text: &mut Text, gpus: &[Gpu]) {
    let all = || gpus.iter().map(|gpu| (&*gpu.uuid, gpu));
    let help = "What the driver asks for: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, \
        4 drain and reset.";
    let action = |(uuid, gpu): (_, &Gpu)| Some((uuid, gpu.recovery_action.as_ref()?.value));
    text.gauge("gpu_device_plugin_recovery_action", help).add_by("uuid", all().filter_map(action));
    let help = "Whether a memory row waits for a reset to be remapped.";
    text.gauge("gpu_device_plugin_row_remap_pending", help)
        .add_by("uuid", all().map(|(uuid, gpu)| (uuid, u8::from(gpu.row_remap_pending))));
    text.gauge("gpu_device_plugin_row_remap_failed", "Whether a memory row could not be remapped.")
        .add_by("uuid", all().map(|(uuid, gpu)| (uuid, u8::from(gpu.row_remap_failed))));
    let help = "Why a GPU that stays Healthy is degraded. Always 1.";
    let mut degraded = text.gauge("gpu_device_plugin_degraded", help);
    for (uuid, gpu) in all() {
        for degradation in &gpu.degradations {
            degraded.add(&[("uuid", uuid), ("reason", &degradation.kind)], 1);
        }
    }
    // Its series exist before the first Xid, which `increase()` then sees.
    let help = "Xids that the driver reported, of all numbers.";
    let total = |gpu: &Gpu| gpu.xids.iter().map(|xid| xid.count).sum::<u64>() + gpu.other_xids;
    text.counter("gpu_device_plugin_xids_total", help)
        .add_by("uuid", all().map(|(uuid, gpu)| (uuid, total(gpu))));
    let help = "Xids that the driver reported, by number.";
    let mut xids = text.counter("gpu_device_plugin_xid_events_total", help);
    for (uuid, gpu) in all() {
        for xid in &gpu.xids {
            xids.add(&[("uuid", uuid), ("xid", &xid.xid.to_string())], xid.count);
        }
        if gpu.other_xids > 0 {
            xids.add(&[("uuid", uuid), ("xid", "other")], gpu.other_xids);
        }
    }
    let help = "The time of a GPU's last event: an Xid, or a change of its health.";
    let last = |(uuid, gpu): (_, &Gpu)| Some((uuid, gpu.last_event?.unix_seconds()));
    text.gauge("gpu_device_plugin_last_event_timestamp_seconds", help)
        .add_by("uuid", all().filter_map(last));
}
