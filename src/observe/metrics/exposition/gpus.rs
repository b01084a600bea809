//! Metrics of each GPU.

use status::Gpu;

use crate::observe::metrics::text::{Family, Text};

pub(super) fn gpus(text: &mut Text, gpus: &[Gpu]) {
    info(text, gpus);
    transitions(text, gpus);
    recovery_action(text, gpus);
    row_remap(text, gpus);
    degradations(text, gpus);
    xids(text, gpus);
    last_event(text, gpus);
}

fn info(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.gauge(
        "gpu_device_plugin_device_info",
        "Attributes of a GPU or MIG device, to be joined by uuid. Always 1.",
    );
    for gpu in gpus {
        add_info(&mut family, gpu, &gpu.uuid, "", "");
        for mig in &gpu.mig_devices {
            let profile = mig.profile.as_deref().unwrap_or_default();
            add_info(&mut family, gpu, &mig.uuid, profile, &gpu.uuid);
        }
    }
}

fn add_info(family: &mut Family<'_>, gpu: &Gpu, uuid: &str, profile: &str, parent: &str) {
    let numa_node = gpu.numa_node.map(|node| node.to_string()).unwrap_or_default();
    let labels = [
        ("uuid", uuid),
        ("gpu", &gpu.index.to_string()),
        ("pci_bus_id", gpu.pci_bus_id.as_deref().unwrap_or_default()),
        ("model", gpu.model.as_deref().unwrap_or_default()),
        ("numa_node", &numa_node),
        ("mig_profile", profile),
        ("parent_uuid", parent),
    ];
    family.add(&labels, 1);
}

fn transitions(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.counter(
        "gpu_device_plugin_device_health_transitions_total",
        "How often a GPU or a part of it became Healthy or Unhealthy.",
    );
    for gpu in gpus {
        family.add(&[("uuid", &gpu.uuid), ("to", "healthy")], gpu.became_healthy);
        family.add(&[("uuid", &gpu.uuid), ("to", "unhealthy")], gpu.became_unhealthy);
    }
}

fn recovery_action(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.gauge(
        "gpu_device_plugin_recovery_action",
        "What the driver asks for: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and \
         reset.",
    );
    for gpu in gpus {
        if let Some(action) = &gpu.recovery_action {
            family.add(&[("uuid", &gpu.uuid)], action.value);
        }
    }
}

fn row_remap(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.gauge(
        "gpu_device_plugin_row_remap_pending",
        "Whether a memory row waits for a reset to be remapped.",
    );
    for gpu in gpus {
        family.add(&[("uuid", &gpu.uuid)], u8::from(gpu.row_remap_pending));
    }
    let mut family = text
        .gauge("gpu_device_plugin_row_remap_failed", "Whether a memory row could not be remapped.");
    for gpu in gpus {
        family.add(&[("uuid", &gpu.uuid)], u8::from(gpu.row_remap_failed));
    }
}

fn degradations(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text
        .gauge("gpu_device_plugin_degraded", "Why a GPU that stays Healthy is degraded. Always 1.");
    for gpu in gpus {
        for degradation in &gpu.degradations {
            family.add(&[("uuid", &gpu.uuid), ("reason", &degradation.kind)], 1);
        }
    }
}

fn xids(text: &mut Text, gpus: &[Gpu]) {
    let mut family =
        text.counter("gpu_device_plugin_xid_events_total", "Xids that the driver reported.");
    for gpu in gpus {
        for xid in &gpu.xids {
            family.add(&[("uuid", &gpu.uuid), ("xid", &xid.xid.to_string())], xid.count);
        }
        if gpu.other_xids > 0 {
            family.add(&[("uuid", &gpu.uuid), ("xid", "other")], gpu.other_xids);
        }
    }
}

fn last_event(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.gauge(
        "gpu_device_plugin_last_event_timestamp_seconds",
        "The time of a GPU's last event: an Xid, or a change of its health.",
    );
    for gpu in gpus {
        if let Some(at) = gpu.last_event {
            family.add(&[("uuid", &gpu.uuid)], at.unix_seconds());
        }
    }
}
