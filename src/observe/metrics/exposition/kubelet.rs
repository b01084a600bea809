//! Metrics of the registration with the kubelet and of its calls.

use std::collections::BTreeMap;

use status::Resource;

use crate::observe::metrics::snapshot::{MetricsSnapshot, ResourceCounters};
use crate::observe::metrics::text::Text;

pub(super) fn kubelet(
    text: &mut Text,
    resources: &[Resource],
    counters: &BTreeMap<String, ResourceCounters>,
) {
    registration(text, resources);
    registrations(text, counters);
    updates(text, counters);
    allocations(text, counters);
}

fn registration(text: &mut Text, resources: &[Resource]) {
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
}

fn registrations(text: &mut Text, counters: &BTreeMap<String, ResourceCounters>) {
    let mut family = text.counter(
        "gpu_device_plugin_kubelet_registrations_total",
        "Attempts to register with the kubelet, by result.",
    );
    for (resource, counters) in counters {
        for (result, count) in &counters.registrations {
            family.add(&[("resource", resource), ("result", result)], count);
        }
    }
}

fn updates(text: &mut Text, counters: &BTreeMap<String, ResourceCounters>) {
    let mut family = text.counter(
        "gpu_device_plugin_listandwatch_updates_sent_total",
        "Device lists that were sent on ListAndWatch streams.",
    );
    for (resource, counters) in counters {
        family.add(&[("resource", resource)], counters.updates);
    }
}

fn allocations(text: &mut Text, counters: &BTreeMap<String, ResourceCounters>) {
    let mut family = text.counter(
        "gpu_device_plugin_allocations_total",
        "Containers that devices were allocated for, by result.",
    );
    for (resource, counters) in counters {
        family.add(&[("resource", resource), ("result", "ok")], counters.allocated);
        family.add(&[("resource", resource), ("result", "refused")], counters.refused);
    }
    let mut family = text.counter(
        "gpu_device_plugin_preferred_allocation_notes_total",
        "Preferred allocations that could not be answered as requested, by reason.",
    );
    for (resource, counters) in counters {
        for (reason, count) in &counters.notes {
            family.add(&[("resource", resource), ("reason", reason)], count);
        }
    }
}

pub(super) fn calls(text: &mut Text, snapshot: &MetricsSnapshot) {
    let mut family = text.histogram(
        "gpu_device_plugin_rpc_duration_seconds",
        "Duration of gRPC calls: Register to the kubelet with the transport, the kubelet's own \
         without.",
    );
    for (method, code, distribution) in &snapshot.calls {
        family.distribution(&[("method", method), ("code", code)], distribution);
    }
}
