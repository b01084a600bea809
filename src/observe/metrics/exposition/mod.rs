//! Which series there are, and what their values are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use status::{Gpu, NvmlState, Resource, Status};

use super::snapshot::{MetricsSnapshot, ResourceFigures};
use super::text::Text;

/// The text that Prometheus gets.
#[must_use]
pub fn exposition(figures: &MetricsSnapshot) -> String {
    let mut text = Text::default();
    about(&mut text, figures);
    devices(&mut text, &figures.status);
    gpus(&mut text, &figures.status.gpus);
    nvml(&mut text, figures);
    kubelet(&mut text, &figures.status.resources, &figures.resources);
    calls(&mut text, figures);
    holders(&mut text, &figures.status);
    configuration(&mut text, &figures.status);
    process(&mut text, figures);
    text.into_string()
}

fn about(text: &mut Text, figures: &MetricsSnapshot) {
    let plugin = &figures.status.plugin;
    text.gauge("gpu_device_plugin_build_info", "The plugin's build. Always 1.").add(
        &[("version", &plugin.version), ("revision", &plugin.commit), ("rustc", figures.rustc)],
        1,
    );
    text.gauge(
        "gpu_device_plugin_ready",
        "Whether every resource is registered and watched by the kubelet.",
    )
    .add(&[], u8::from(plugin.ready));
}

fn devices(text: &mut Text, status: &Status) {
    let mut family = text
        .gauge("gpu_device_plugin_devices", "Devices by resource and health, replicas included.");
    for resource in &status.resources {
        let unhealthy = resource.devices.len() - resource.healthy;
        family.add(&[("resource", &resource.name), ("health", "healthy")], resource.healthy);
        family.add(&[("resource", &resource.name), ("health", "unhealthy")], unhealthy);
    }
    let mut family = text.gauge(
        "gpu_device_plugin_device_healthy",
        "Whether a GPU or MIG device can be handed out.",
    );
    for resource in &status.resources {
        // Replicas share a UUID and a health; after a change of the configuration some may be
        // withdrawn.
        let mut healthy = BTreeMap::<&str, bool>::new();
        for device in &resource.devices {
            *healthy.entry(&device.uuid).or_default() |= device.healthy;
        }
        for (uuid, healthy) in healthy {
            family.add(&[("uuid", uuid), ("resource", &resource.name)], u8::from(healthy));
        }
    }
    let of_gpus = status
        .gpus
        .iter()
        .flat_map(|gpu| gpu.reasons.iter().map(|reason| (&*gpu.uuid, &*reason.kind)));
    let devices = status.resources.iter().flat_map(|resource| &resource.devices);
    let of_devices =
        devices.flat_map(|device| device.reasons.iter().map(|kind| (&*device.uuid, &**kind)));
    let reasons: BTreeSet<(&str, &str)> = of_gpus.chain(of_devices).collect();
    let mut family = text.gauge(
        "gpu_device_plugin_device_unhealthy_reason",
        "What is held against a GPU or MIG device. Always 1.",
    );
    for (uuid, reason) in reasons {
        family.add(&[("uuid", uuid), ("reason", reason)], 1);
    }
    let reserved = status.gpus.iter().filter(|gpu| gpu.reserved.is_some()).count();
    text.gauge("gpu_device_plugin_devices_reserved", "GPUs that are reserved for the system.")
        .add(&[], reserved);
    let mut kinds = BTreeMap::<&str, usize>::new();
    for finding in &status.findings {
        *kinds.entry(&finding.kind).or_default() += 1;
    }
    let mut family = text.gauge(
        "gpu_device_plugin_findings",
        "What keeps devices from being offered as one would expect.",
    );
    for kind in device::layout::LayoutFinding::KINDS {
        family.add(&[("kind", kind)], kinds.get(kind).copied().unwrap_or(0));
    }
}

fn gpus(text: &mut Text, gpus: &[Gpu]) {
    let mut family = text.gauge(
        "gpu_device_plugin_device_info",
        "Facts about a GPU or MIG device, to be joined by uuid. Always 1.",
    );
    for gpu in gpus {
        let (index, numa) =
            (gpu.index.to_string(), gpu.numa_node.map(|node| node.to_string()).unwrap_or_default());
        let info = |uuid, profile, parent| {
            [
                ("uuid", uuid),
                ("gpu", &*index),
                ("pci_bus_id", gpu.pci_bus_id.as_deref().unwrap_or_default()),
                ("model", gpu.model.as_deref().unwrap_or_default()),
                ("numa_node", &*numa),
                ("mig_profile", profile),
                ("parent_uuid", parent),
            ]
        };
        family.add(&info(&gpu.uuid, "", ""), 1);
        for mig in &gpu.mig_devices {
            family.add(&info(&mig.uuid, mig.profile.as_deref().unwrap_or_default(), &gpu.uuid), 1);
        }
    }
    let mut family = text.counter(
        "gpu_device_plugin_device_health_transitions_total",
        "How often a GPU became Healthy or Unhealthy, in whole or in part.",
    );
    for gpu in gpus {
        family.add(&[("uuid", &gpu.uuid), ("to", "healthy")], gpu.became_healthy);
        family.add(&[("uuid", &gpu.uuid), ("to", "unhealthy")], gpu.became_unhealthy);
    }
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
    let mut family = text.gauge(
        "gpu_device_plugin_degraded",
        "What is wrong with a GPU that stays Healthy. Always 1.",
    );
    for (gpu, degradation) in
        gpus.iter().flat_map(|gpu| gpu.degradations.iter().map(move |of| (gpu, of)))
    {
        family.add(&[("uuid", &gpu.uuid), ("reason", &degradation.kind)], 1);
    }
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
    let mut family = text.gauge(
        "gpu_device_plugin_last_event_timestamp_seconds",
        "When the last thing happened to a GPU: an Xid, or a change of its health.",
    );
    for gpu in gpus {
        if let Some(at) = gpu.last_event {
            family.add(&[("uuid", &gpu.uuid)], at.unix_seconds());
        }
    }
}

fn nvml(text: &mut Text, figures: &MetricsSnapshot) {
    let nvml = &figures.status.nvml;
    let of = |version: &Option<String>| version.clone().unwrap_or_default();
    if nvml.driver_version.is_some() || nvml.nvml_version.is_some() {
        text.gauge("gpu_device_plugin_driver_info", "Versions, as NVML told them last. Always 1.")
            .add(
                &[
                    ("driver_version", &of(&nvml.driver_version)),
                    ("cuda_version", &of(&nvml.cuda_version)),
                    ("nvml_version", &of(&nvml.nvml_version)),
                ],
                1,
            );
    }
    text.gauge("gpu_device_plugin_nvml_up", "Whether NVML is initialised and works.")
        .add(&[], u8::from(nvml.state == NvmlState::Up));
    text.gauge("gpu_device_plugin_nvml_unanswered_calls", "Calls of NVML that do not return now.")
        .add(&[], nvml.unanswered_calls);
    let mut family = text.counter(
        "gpu_device_plugin_nvml_errors_total",
        "Failed calls of NVML, without those not supported.",
    );
    for (call, code, count) in &figures.nvml_errors {
        family.add(&[("call", call), ("code", code)], count);
    }
    text.histogram(
        "gpu_device_plugin_health_check_duration_seconds",
        "How long a round of polls of all GPUs took.",
    )
    .distribution(&[], &figures.rounds);
}

fn kubelet(text: &mut Text, resources: &[Resource], figures: &BTreeMap<String, ResourceFigures>) {
    let mut family = text.gauge(
        "gpu_device_plugin_kubelet_registered",
        "Whether the kubelet accepted the registration and has a ListAndWatch stream open.",
    );
    for resource in resources {
        family.add(&[("resource", &resource.name)], u8::from(resource.kubelet.registered));
    }
    let mut family =
        text.gauge("gpu_device_plugin_listandwatch_streams", "ListAndWatch streams that are open.");
    for resource in resources {
        family.add(&[("resource", &resource.name)], resource.kubelet.streams);
    }
    let mut family = text
        .counter("gpu_device_plugin_kubelet_registrations_total", "Registrations that were tried.");
    for (resource, figures) in figures {
        for (result, count) in &figures.registrations {
            family.add(&[("resource", resource), ("result", result)], count);
        }
    }
    let mut family = text.counter(
        "gpu_device_plugin_listandwatch_updates_sent_total",
        "Lists of devices that were sent on ListAndWatch streams.",
    );
    for (resource, figures) in figures {
        family.add(&[("resource", resource)], figures.updates);
    }
    let mut family =
        text.counter("gpu_device_plugin_allocations_total", "Containers that asked for devices.");
    for (resource, figures) in figures {
        family.add(&[("resource", resource), ("result", "ok")], figures.allocated);
        family.add(&[("resource", resource), ("result", "refused")], figures.refused);
    }
    let mut family = text.counter(
        "gpu_device_plugin_preferred_allocation_notes_total",
        "Preferred allocations that could not be answered as asked.",
    );
    for (resource, figures) in figures {
        for (reason, count) in &figures.notes {
            family.add(&[("resource", resource), ("reason", reason)], count);
        }
    }
}

fn calls(text: &mut Text, figures: &MetricsSnapshot) {
    let mut family = text.histogram(
        "gpu_device_plugin_rpc_duration_seconds",
        "How long calls took: Register to the kubelet with the transport, the kubelet's own \
            without.",
    );
    for (method, code, distribution) in &figures.calls {
        family.distribution(&[("method", method), ("code", code)], distribution);
    }
}

/// Held devices, replicas of one counted together.
fn holders(text: &mut Text, status: &Status) {
    let mut held = BTreeMap::<[&str; 5], usize>::new();
    for resource in &status.resources {
        for device in &resource.devices {
            for holder in &device.holders {
                let key = [
                    &device.uuid,
                    &resource.name,
                    &holder.pod,
                    &holder.namespace,
                    &holder.container,
                ];
                *held.entry(key.map(String::as_str)).or_default() += 1;
            }
        }
    }
    let mut family = text.gauge(
        "gpu_device_plugin_allocated_devices",
        "Devices that a container holds by the kubelet's word, replicas of one GPU counted \
            together.",
    );
    for ([uuid, resource, pod, namespace, container], count) in held {
        let labels = [
            ("uuid", uuid),
            ("resource", resource),
            ("pod", pod),
            ("namespace", namespace),
            ("container", container),
        ];
        family.add(&labels, count);
    }
}

fn configuration(text: &mut Text, status: &Status) {
    let configuration = &status.configuration;
    let mut family = text.counter(
        "gpu_device_plugin_config_reloads_total",
        "Changed configurations, by what became of them.",
    );
    family.add(&[("result", "applied")], configuration.reloads_applied);
    family.add(&[("result", "refused")], configuration.reloads_refused);
    let refused = configuration.last_reload.as_ref().is_some_and(|last| last.refused.is_some());
    text.gauge(
        "gpu_device_plugin_config_last_reload_successful",
        "Whether the last changed configuration is in force; 1 also if there was none.",
    )
    .add(&[], u8::from(!refused));
}

fn process(text: &mut Text, figures: &MetricsSnapshot) {
    let started = figures.status.plugin.started_at.unix_seconds();
    text.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since the Unix epoch.",
    )
    .add(&[], started);
    let Some(process) = &figures.process else { return };
    text.counter("process_cpu_seconds_total", "Processor time, user and system.")
        .add(&[], process.cpu_seconds);
    text.gauge("process_resident_memory_bytes", "Resident memory.")
        .add(&[], process.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Virtual memory.").add(&[], process.virtual_bytes);
    text.gauge("process_threads", "Threads.").add(&[], process.threads);
    text.gauge("process_open_fds", "Open file descriptors.").add(&[], process.open_fds);
    if let Some(most) = process.max_fds {
        text.gauge("process_max_fds", "The limit of open file descriptors.").add(&[], most);
    }
}
