//! Metrics of the devices that the kubelet sees, and of who holds them.

use std::collections::{BTreeMap, BTreeSet};

use status::Status;

use crate::observe::metrics::text::Text;

pub(super) fn devices(text: &mut Text, status: &Status) {
    counts(text, status);
    healthy(text, status);
    reasons(text, status);
    reserved(text, status);
    findings(text, status);
}

fn counts(text: &mut Text, status: &Status) {
    let mut family = text
        .gauge("gpu_device_plugin_devices", "Devices by resource and health, replicas included.");
    for resource in &status.resources {
        let unhealthy = resource.devices.len() - resource.healthy;
        family.add(&[("resource", &resource.name), ("health", "healthy")], resource.healthy);
        family.add(&[("resource", &resource.name), ("health", "unhealthy")], unhealthy);
    }
}

fn healthy(text: &mut Text, status: &Status) {
    let mut family = text.gauge(
        "gpu_device_plugin_device_healthy",
        "Whether a GPU or MIG device is Healthy, so that it can be allocated.",
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
}

fn reasons(text: &mut Text, status: &Status) {
    let mut reasons = BTreeSet::<(&str, &str)>::new();
    for gpu in &status.gpus {
        reasons.extend(gpu.reasons.iter().map(|reason| (&*gpu.uuid, &*reason.kind)));
    }
    for device in status.resources.iter().flat_map(|resource| &resource.devices) {
        reasons.extend(device.reasons.iter().map(|kind| (&*device.uuid, &**kind)));
    }
    let mut family = text.gauge(
        "gpu_device_plugin_device_unhealthy_reason",
        "Why a GPU or MIG device is Unhealthy. Always 1.",
    );
    for (uuid, reason) in reasons {
        family.add(&[("uuid", uuid), ("reason", reason)], 1);
    }
}

fn reserved(text: &mut Text, status: &Status) {
    let reserved = status.gpus.iter().filter(|gpu| gpu.reserved.is_some()).count();
    text.gauge("gpu_device_plugin_devices_reserved", "GPUs that are reserved for the system.")
        .add(&[], reserved);
}

fn findings(text: &mut Text, status: &Status) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for finding in &status.findings {
        *kinds.entry(&finding.kind).or_default() += 1;
    }
    let mut family = text.gauge(
        "gpu_device_plugin_findings",
        "What keeps devices from being offered as one would expect, by kind.",
    );
    for kind in device::layout::LayoutFinding::KINDS {
        family.add(&[("kind", kind)], kinds.get(kind).copied().unwrap_or(0));
    }
}

/// Held devices, replicas of one counted together.
pub(super) fn holders(text: &mut Text, status: &Status) {
    let mut held = BTreeMap::<[&str; 5], usize>::new();
    for resource in &status.resources {
        for device in &resource.devices {
            for holder in &device.holders {
                let (pod, namespace) = (&holder.pod, &holder.namespace);
                let key = [&device.uuid, &resource.name, pod, namespace, &holder.container];
                *held.entry(key.map(String::as_str)).or_default() += 1;
            }
        }
    }
    let mut family = text.gauge(
        "gpu_device_plugin_allocated_devices",
        "Devices that a container holds according to the kubelet, replicas of one GPU counted \
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
