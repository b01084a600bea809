//! Metrics of NVML and of the polls.

use status::{Nvml, NvmlState};

use crate::observe::metrics::snapshot::MetricsSnapshot;
use crate::observe::metrics::text::Text;

pub(super) fn nvml(text: &mut Text, snapshot: &MetricsSnapshot) {
    let nvml = &snapshot.status.nvml;
    versions(text, nvml);
    text.gauge("gpu_device_plugin_nvml_up", "Whether NVML is initialised and answers.")
        .add(&[], u8::from(nvml.state == NvmlState::Up));
    text.gauge(
        "gpu_device_plugin_nvml_unanswered_calls",
        "NVML calls that currently do not return.",
    )
    .add(&[], nvml.unanswered_calls);
    let mut family = text.counter(
        "gpu_device_plugin_nvml_errors_total",
        "Failed NVML calls, except those that are not supported.",
    );
    for (call, code, count) in &snapshot.nvml_errors {
        family.add(&[("call", call), ("code", code)], count);
    }
    text.histogram(
        "gpu_device_plugin_health_check_duration_seconds",
        "Duration of a round of polls of all GPUs.",
    )
    .distribution(&[], &snapshot.rounds);
}

fn versions(text: &mut Text, nvml: &Nvml) {
    if nvml.driver_version.is_none() && nvml.nvml_version.is_none() {
        return;
    }
    let labels = [
        ("driver_version", nvml.driver_version.as_deref().unwrap_or_default()),
        ("cuda_version", nvml.cuda_version.as_deref().unwrap_or_default()),
        ("nvml_version", nvml.nvml_version.as_deref().unwrap_or_default()),
    ];
    text.gauge("gpu_device_plugin_driver_info", "The versions that NVML reported last. Always 1.")
        .add(&labels, 1);
}
