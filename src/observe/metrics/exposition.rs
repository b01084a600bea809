//! All metrics in Prometheus's text format. Pure.

use std::collections::{BTreeMap, BTreeSet};

use device::layout::LayoutFinding;
use status::{Configuration, NvmlState, OTHER_PLUGIN, Resource, Status};

use super::gpus::{gpu_counts, gpu_events, gpus};
use super::mps::mps;
use super::problems::problems;
use super::process::ProcessMetrics;
use super::text::Text;
use crate::util::counters::Distribution;

/// All that Prometheus scrapes, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct MetricsSnapshot {
    /// What the daemon knows.
    pub(crate) status: Status,
    /// The compiler that the plugin was built with.
    pub(crate) rustc: &'static str,
    /// Durations of calls between the kubelet and us, by method and gRPC code.
    pub(crate) calls: Vec<(&'static str, &'static str, Distribution)>,
    /// Durations of rounds of polls of all GPUs.
    pub(crate) rounds: Distribution,
    /// Failed calls of NVML by call and return code.
    pub(crate) nvml_errors: Vec<(&'static str, String, u64)>,
    /// The counters of each resource.
    pub(crate) resources: BTreeMap<String, ResourceCounters>,
    /// Log lines that were dropped, because nobody read them.
    pub(crate) dropped_log_lines: u64,
    /// The process; `None`: procfs could not be read.
    pub(crate) process: Option<ProcessMetrics>,
}

/// The counters of one resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResourceCounters {
    /// Registrations by result, 0 for a result that did not occur.
    pub(crate) registrations: BTreeMap<&'static str, u64>,
    /// Containers that devices were allocated for.
    pub(crate) allocated: u64,
    /// Containers that were refused devices.
    pub(crate) refused: u64,
    /// Device lists that were sent.
    pub(crate) updates: u64,
    /// Preferred allocations that could not be answered as requested, by reason.
    pub(crate) notes: BTreeMap<&'static str, u64>,
}

/// The text that Prometheus scrapes.
#[must_use]
pub(crate) fn exposition(snapshot: &MetricsSnapshot) -> String {
    let (mut text, status) = (Text::default(), &snapshot.status);
    build(&mut text, snapshot);
    devices(&mut text, status);
    findings(&mut text, status);
    problems(&mut text, status);
    gpu_counts(&mut text, &status.gpu_counts);
    gpus(&mut text, &status.gpus);
    gpu_events(&mut text, &status.gpus);
    nvml(&mut text, snapshot);
    registration(&mut text, &status.resources);
    requests(&mut text, snapshot);
    holders(&mut text, &status.resources);
    mps(&mut text, &status.resources);
    configuration(&mut text, &status.configuration);
    let help = "Log lines that were dropped because nobody read standard error.";
    text.counter("gpu_device_plugin_log_lines_dropped_total", help)
        .add(&[], snapshot.dropped_log_lines);
    process(&mut text, snapshot);
    text.0
}

fn build(text: &mut Text, snapshot: &MetricsSnapshot) {
    let MetricsSnapshot { status: Status { plugin, .. }, rustc, .. } = snapshot;
    let labels = [("version", &*plugin.version), ("revision", &*plugin.commit), ("rustc", rustc)];
    text.gauge("gpu_device_plugin_build_info", "The plugin's build. Always 1.").add(&labels, 1);
    let help = "Whether every resource is registered and watched by the kubelet.";
    text.gauge("gpu_device_plugin_ready", help).add(&[], u8::from(plugin.ready));
}

fn devices(text: &mut Text, status: &Status) {
    let help = "Devices by resource and health, replicas included. One that is no longer offered \
        is withdrawn, whatever its health.";
    let mut counts = text.gauge("gpu_device_plugin_devices", help);
    for resource in &status.resources {
        let (withdrawn, offered): (Vec<_>, Vec<_>) =
            resource.devices.iter().partition(|device| device.withdrawn);
        let healthy = offered.iter().filter(|device| device.healthy).count();
        let unhealthy = offered.len() - healthy;
        let counted =
            [("healthy", healthy), ("unhealthy", unhealthy), ("withdrawn", withdrawn.len())];
        for (health, count) in counted {
            counts.add(&[("resource", &resource.name), ("health", health)], count);
        }
    }
    let help = "Whether a GPU or MIG device is Healthy, so that it can be allocated.";
    let mut health = text.gauge("gpu_device_plugin_device_healthy", help);
    for resource in &status.resources {
        // Replicas share a UUID and a health. A withdrawn device is no failure of its GPU.
        let mut healthy = BTreeMap::<&str, bool>::new();
        for device in resource.devices.iter().filter(|device| !device.withdrawn) {
            *healthy.entry(&device.uuid).or_default() |= device.healthy;
        }
        for (uuid, healthy) in healthy {
            health.add(&[("uuid", uuid), ("resource", &resource.name)], u8::from(healthy));
        }
    }
}

/// Why devices are Unhealthy, or not offered.
fn findings(text: &mut Text, status: &Status) {
    let mut reasons = BTreeSet::<(&str, &str)>::new();
    for gpu in &status.gpus {
        reasons.extend(gpu.reasons.iter().map(|reason| (&*gpu.uuid, &*reason.kind)));
    }
    let devices = status.resources.iter().flat_map(|resource| &resource.devices);
    for device in devices.filter(|device| !device.withdrawn) {
        reasons.extend(device.reasons.iter().map(|kind| (&*device.uuid, &**kind)));
    }
    let help = "Why a GPU or MIG device is Unhealthy. Always 1.";
    let mut family = text.gauge("gpu_device_plugin_device_unhealthy_reason", help);
    for (uuid, reason) in reasons {
        family.add(&[("uuid", uuid), ("reason", reason)], 1);
    }
    let reserved = status.gpus.iter().filter(|gpu| gpu.reserved.is_some()).count();
    text.gauge("gpu_device_plugin_devices_reserved", "GPUs that are reserved for the system.")
        .add(&[], reserved);
    let count = |kind| status.findings.iter().filter(|finding| finding.kind == kind).count();
    let help = "What keeps devices from being offered as one would expect, by kind.";
    let kinds = LayoutFinding::KINDS.into_iter().chain([OTHER_PLUGIN]);
    text.gauge("gpu_device_plugin_findings", help)
        .add_by("kind", kinds.map(|kind| (kind, count(kind))));
}

fn nvml(text: &mut Text, snapshot: &MetricsSnapshot) {
    let nvml = &snapshot.status.nvml;
    if nvml.driver_version.is_some() || nvml.nvml_version.is_some() {
        let labels = [
            ("driver_version", nvml.driver_version.as_deref().unwrap_or_default()),
            ("cuda_version", nvml.cuda_version.as_deref().unwrap_or_default()),
            ("nvml_version", nvml.nvml_version.as_deref().unwrap_or_default()),
        ];
        let help = "The versions that NVML reported last. Always 1.";
        text.gauge("gpu_device_plugin_driver_info", help).add(&labels, 1);
    }
    text.gauge("gpu_device_plugin_nvml_up", "Whether NVML is initialised and answers.")
        .add(&[], u8::from(nvml.state == NvmlState::Up));
    let help = "NVML calls that currently do not return.";
    text.gauge("gpu_device_plugin_nvml_unanswered_calls", help).add(&[], nvml.unanswered_calls);
    let help = "Failed NVML calls, except those that are not supported.";
    let mut errors = text.counter("gpu_device_plugin_nvml_errors_total", help);
    for (call, code, count) in &snapshot.nvml_errors {
        errors.add(&[("call", call), ("code", code)], count);
    }
    let help = "Duration of a round of polls of all GPUs.";
    text.histogram("gpu_device_plugin_health_check_duration_seconds", help)
        .distribution(&[], &snapshot.rounds);
}

fn registration(text: &mut Text, resources: &[Resource]) {
    let all = || resources.iter().map(|resource| (&*resource.name, &resource.kubelet));
    let help = "Whether the kubelet accepted the registration and has a ListAndWatch stream open.";
    text.gauge("gpu_device_plugin_kubelet_registered", help)
        .add_by("resource", all().map(|(name, kubelet)| (name, u8::from(kubelet.registered))));
    let help = "ListAndWatch streams that are open.";
    text.gauge("gpu_device_plugin_listandwatch_streams", help)
        .add_by("resource", all().map(|(name, kubelet)| (name, kubelet.streams)));
}

fn requests(text: &mut Text, snapshot: &MetricsSnapshot) {
    let help = "Attempts to register with the kubelet, by result.";
    let mut family = text.counter("gpu_device_plugin_kubelet_registrations_total", help);
    for (resource, counters) in &snapshot.resources {
        for (result, count) in &counters.registrations {
            family.add(&[("resource", resource), ("result", result)], count);
        }
    }
    let help = "Device lists that were sent on ListAndWatch streams.";
    let updates =
        snapshot.resources.iter().map(|(resource, counters)| (&**resource, counters.updates));
    text.counter("gpu_device_plugin_listandwatch_updates_sent_total", help)
        .add_by("resource", updates);
    let help = "Containers that devices were allocated for, by result.";
    let mut family = text.counter("gpu_device_plugin_allocations_total", help);
    for (resource, counters) in &snapshot.resources {
        family.add(&[("resource", resource), ("result", "ok")], counters.allocated);
        family.add(&[("resource", resource), ("result", "refused")], counters.refused);
    }
    let help = "Preferred allocations that could not be answered as requested, by reason.";
    let mut family = text.counter("gpu_device_plugin_preferred_allocation_notes_total", help);
    for (resource, counters) in &snapshot.resources {
        for (reason, count) in &counters.notes {
            family.add(&[("resource", resource), ("reason", reason)], count);
        }
    }
    let help = "Duration of gRPC calls: Register to the kubelet with the transport, the kubelet's \
        own without.";
    let mut family = text.histogram("gpu_device_plugin_rpc_duration_seconds", help);
    for (method, code, distribution) in &snapshot.calls {
        family.distribution(&[("method", method), ("code", code)], distribution);
    }
}

/// Held devices, replicas of one counted together.
fn holders(text: &mut Text, resources: &[Resource]) {
    let mut held = BTreeMap::<[&str; 5], usize>::new();
    for resource in resources {
        for device in &resource.devices {
            for holder in &device.holders {
                let (pod, namespace) = (&holder.pod, &holder.namespace);
                let key = [&device.uuid, &resource.name, pod, namespace, &holder.container];
                *held.entry(key.map(String::as_str)).or_default() += 1;
            }
        }
    }
    let help = "Devices that a container holds according to the kubelet, replicas of one GPU \
        counted together.";
    let mut family = text.gauge("gpu_device_plugin_allocated_devices", help);
    for (values, count) in held {
        let labels = ["uuid", "resource", "pod", "namespace", "container"];
        family.add(&std::array::from_fn::<_, 5, _>(|n| (labels[n], values[n])), count);
    }
}

fn configuration(text: &mut Text, configuration: &Configuration) {
    let results =
        [("applied", configuration.reloads_applied), ("refused", configuration.reloads_refused)];
    text.counter("gpu_device_plugin_config_reloads_total", "Changed configurations, by result.")
        .add_by("result", results);
    let refused = configuration.last_reload.as_ref().is_some_and(|last| last.refused.is_some());
    let help = "Whether the last changed configuration is in force; 1 also if there was none.";
    text.gauge("gpu_device_plugin_config_last_reload_successful", help)
        .add(&[], u8::from(!refused));
}

fn process(text: &mut Text, snapshot: &MetricsSnapshot) {
    let help = "When the process began, in seconds since the Unix epoch.";
    let began = snapshot.process.as_ref().map(|process| process.start_seconds);
    let began = began.unwrap_or_else(|| snapshot.status.plugin.started_at.unix_seconds());
    text.gauge("process_start_time_seconds", help).add(&[], began);
    let Some(process) = &snapshot.process else { return };
    text.counter("process_cpu_seconds_total", "Processor time, user and system.")
        .add(&[], process.cpu_seconds);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", Some(process.resident_bytes)),
        ("process_virtual_memory_bytes", "Virtual memory.", Some(process.virtual_bytes)),
        ("process_threads", "Threads.", Some(process.threads)),
        ("process_open_fds", "Open file descriptors.", Some(process.open_fds)),
        ("process_max_fds", "The limit of open file descriptors.", process.max_fds),
    ] {
        value.into_iter().for_each(|value| text.gauge(name, help).add(&[], value));
    }
}
