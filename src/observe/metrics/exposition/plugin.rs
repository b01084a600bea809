//! Metrics of the plugin itself: its build, its configuration and its process.

use status::Status;

use crate::observe::metrics::snapshot::MetricsSnapshot;
use crate::observe::metrics::text::Text;

pub(super) fn about(text: &mut Text, snapshot: &MetricsSnapshot) {
    let plugin = &snapshot.status.plugin;
    text.gauge("gpu_device_plugin_build_info", "The plugin's build. Always 1.").add(
        &[("version", &plugin.version), ("revision", &plugin.commit), ("rustc", snapshot.rustc)],
        1,
    );
    text.gauge(
        "gpu_device_plugin_ready",
        "Whether every resource is registered and watched by the kubelet.",
    )
    .add(&[], u8::from(plugin.ready));
}

pub(super) fn configuration(text: &mut Text, status: &Status) {
    let configuration = &status.configuration;
    let mut family = text
        .counter("gpu_device_plugin_config_reloads_total", "Changed configurations, by result.");
    family.add(&[("result", "applied")], configuration.reloads_applied);
    family.add(&[("result", "refused")], configuration.reloads_refused);
    let refused = configuration.last_reload.as_ref().is_some_and(|last| last.refused.is_some());
    text.gauge(
        "gpu_device_plugin_config_last_reload_successful",
        "Whether the last changed configuration is in force; 1 also if there was none.",
    )
    .add(&[], u8::from(!refused));
}

pub(super) fn process(text: &mut Text, snapshot: &MetricsSnapshot) {
    let started = snapshot.status.plugin.started_at.unix_seconds();
    text.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since the Unix epoch.",
    )
    .add(&[], started);
    let Some(process) = &snapshot.process else { return };
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
