//! The status as a table: a line for each device of each resource, below a summary and above notes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::gpu::{Gpu, Reason};
use super::schema::{Device, Nvml, NvmlState, Resource, Status};

/// The most holders of a device that are listed; the others are counted.
const MAX_HOLDERS: usize = 2;
/// The most events that are listed.
const MAX_EVENTS: usize = 10;

/// The status as a table. A `wide` one has more columns, every holder, and the last events.
#[must_use]
pub fn table(status: &Status, wide: bool) -> String {
    let mut text = head(status);
    let rows = rows(status, wide);
    match rows.is_empty() {
        true => text.push_str("no GPUs\n"),
        false => text.push_str(&aligned(&columns(wide), &rows)),
    }
    let notes = notes(status);
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    if wide && !status.events.is_empty() {
        text.push_str("\nLast events\n");
        for event in status.events.iter().take(MAX_EVENTS) {
            let gpu = event.gpu_index.map_or_else(String::new, |index| format!("GPU {index}: "));
            let times =
                if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
            text.push_str(&format!("  {}  {gpu}{}{times}\n", event.at, event.message));
        }
    }
    text
}

fn head(status: &Status) -> String {
    let plugin = &status.plugin;
    let ready = if plugin.ready {
        "ready".to_owned()
    } else {
        format!("not ready: {}", plugin.not_ready.join("; "))
    };
    let up = duration(Duration::from_secs_f64(plugin.uptime_seconds.clamp(0.0, 1e12)));
    let nvml = &status.nvml;
    let version =
        |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "gpu-device-plugin {}, up {up}, {ready}\ndriver {}, CUDA {}, {}\n\n",
        plugin.version,
        version(&nvml.driver_version),
        version(&nvml.cuda_version),
        nvml_state(nvml)
    )
}

fn nvml_state(nvml: &Nvml) -> String {
    match nvml.state {
        NvmlState::Up if nvml.unanswered_calls > 0 => {
            format!("{} calls of NVML do not return", nvml.unanswered_calls)
        }
        NvmlState::Up => "NVML is up".to_owned(),
        NvmlState::Released => "NVML is released for a reset".to_owned(),
        NvmlState::Down => {
            let why =
                nvml.fault.as_ref().map_or("no reason is known", |fault| fault.message.as_str());
            format!("NVML is down: {why}")
        }
    }
}

fn columns(wide: bool) -> Vec<&'static str> {
    let mut columns = vec!["GPU", "MODEL", "NUMA", "HEALTH", "RESOURCE", "HOLDER"];
    if wide {
        columns.extend(["SINCE", "NVLINK", "PCI", "UUID"]);
    }
    columns
}

fn rows(status: &Status, wide: bool) -> Vec<Vec<String>> {
    let gpus: BTreeMap<&str, &Gpu> =
        status.gpus.iter().map(|gpu| (gpu.uuid.as_str(), gpu)).collect();
    let mut rows = Vec::new();
    for resource in &status.resources {
        // Replicas of one device are adjacent: they are one line.
        for replicas in resource.devices.chunk_by(|a, b| a.uuid == b.uuid) {
            let Some(device) = replicas.first() else { continue };
            let gpu = gpus.get(device.gpu.as_str()).copied();
            let order = (gpu.map_or(u32::MAX, |gpu| gpu.index), mig_index(device));
            rows.push((order, row(status, resource, replicas, gpu, wide)));
        }
    }
    for gpu in status.gpus.iter().filter(|gpu| gpu.resources.is_empty()) {
        rows.push(((gpu.index, None), not_offered(gpu, status, wide)));
    }
    rows.sort_by_key(|(order, _)| *order);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn mig_index(device: &Device) -> Option<u32> {
    device.index.split_once(':').and_then(|(_, mig)| mig.parse().ok())
}

fn row(
    status: &Status,
    resource: &Resource,
    replicas: &[Device],
    gpu: Option<&Gpu>,
    wide: bool,
) -> Vec<String> {
    let device = &replicas[0];
    let profile = gpu.and_then(|gpu| {
        gpu.mig_devices.iter().find(|mig| mig.uuid == device.uuid)?.profile.clone()
    });
    let model = gpu.and_then(|gpu| gpu.model.as_deref()).map_or("unknown", short);
    let model = profile.map_or_else(|| model.to_owned(), |profile| format!("{model} {profile}"));
    let offered = match replicas.len() {
        1 if device.replica.is_none() => resource.name.clone(),
        count => format!("{} x{count}", resource.name),
    };
    let mut row = vec![
        device.index.clone(),
        model,
        gpu.and_then(|gpu| gpu.numa_node).map_or_else(|| "-".to_owned(), |node| node.to_string()),
        health(device, gpu),
        offered,
        holders(status, replicas, wide),
    ];
    if wide {
        row.extend(wide_columns(gpu, status, &device.uuid));
    }
    row
}

fn not_offered(gpu: &Gpu, status: &Status, wide: bool) -> Vec<String> {
    let why =
        gpu.reserved.as_ref().map_or_else(|| "-".to_owned(), |why| format!("reserved: {why}"));
    let health = if gpu.healthy { "Healthy".to_owned() } else { unhealthy(gpu.reasons.first()) };
    let mut row = vec![
        gpu.index.to_string(),
        gpu.model.as_deref().map_or("unknown", short).to_owned(),
        gpu.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
        health,
        why,
        "-".to_owned(),
    ];
    if wide {
        row.extend(wide_columns(Some(gpu), status, &gpu.uuid));
    }
    row
}

/// The columns of a wide table: for how long it is Unhealthy, NVLink island, PCI bus id, UUID.
fn wide_columns(gpu: Option<&Gpu>, status: &Status, uuid: &str) -> [String; 4] {
    let none = || "-".to_owned();
    let since = gpu.and_then(|gpu| gpu.reasons.iter().map(|reason| reason.since).min());
    [
        since.map_or_else(none, |since| duration(status.generated_at.since(since))),
        gpu.and_then(|gpu| gpu.nvlink_island).map_or_else(none, |island| island.to_string()),
        gpu.and_then(|gpu| gpu.pci_bus_id.clone()).unwrap_or_else(none),
        uuid.to_owned(),
    ]
}

/// The model without the manufacturer, which is the same for all.
fn short(model: &str) -> &str {
    model.strip_prefix("NVIDIA ").unwrap_or(model)
}

fn health(device: &Device, gpu: Option<&Gpu>) -> String {
    match (device.healthy, device.withdrawn) {
        (_, true) => "Unhealthy: no longer offered".to_owned(),
        (true, false) => match gpu.is_some_and(|gpu| !gpu.degradations.is_empty()) {
            true => "Healthy, degraded".to_owned(),
            false => "Healthy".to_owned(),
        },
        (false, false) => {
            let kind = device.reasons.first();
            let reason =
                gpu.and_then(|gpu| gpu.reasons.iter().find(|reason| Some(&reason.kind) == kind));
            match (reason, kind) {
                (Some(reason), _) => unhealthy(Some(reason)),
                (None, Some(kind)) => format!("Unhealthy: {kind}"),
                (None, None) => unhealthy(None),
            }
        }
    }
}

fn unhealthy(reason: Option<&Reason>) -> String {
    match reason {
        Some(Reason { xid: Some(xid), .. }) => format!("Unhealthy: Xid {xid}"),
        Some(reason) => format!("Unhealthy: {}", reason.kind),
        None => "Unhealthy".to_owned(),
    }
}

fn holders(status: &Status, replicas: &[Device], wide: bool) -> String {
    if !status.holders_known {
        return "?".to_owned();
    }
    let mut names: Vec<String> = replicas
        .iter()
        .flat_map(|device| &device.holders)
        .map(|holder| format!("{}/{}/{}", holder.namespace, holder.pod, holder.container))
        .collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(MAX_HOLDERS);
    if !wide && more > 0 {
        names.truncate(MAX_HOLDERS);
        names.push(format!("{more} more"));
    }
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// The notes below the table: each GPU that is Unhealthy or degraded, with the remedy; resources
/// that are not registered; and findings.
fn notes(status: &Status) -> String {
    let mut notes = String::new();
    for gpu in &status.gpus {
        for reason in &gpu.reasons {
            notes.push_str(&note(gpu, reason, "Unhealthy", status));
        }
        for degradation in &gpu.degradations {
            notes.push_str(&note(gpu, degradation, "degraded", status));
        }
    }
    for resource in status.resources.iter().filter(|resource| !resource.kubelet.registered) {
        let problem = resource.kubelet.problem.as_deref().unwrap_or("no reason is known");
        notes.push_str(&format!(
            "{} is not registered with the kubelet: {problem}\n",
            resource.name
        ));
    }
    for finding in &status.findings {
        notes.push_str(&format!("{}\n", finding.message));
    }
    if !status.holders_known {
        notes.push_str("?: which pod holds which device is not known (--pod-resources-socket)\n");
    }
    notes
}

fn note(gpu: &Gpu, reason: &Reason, state: &str, status: &Status) -> String {
    let since = duration(status.generated_at.since(reason.since));
    let part = reason.part.as_ref().map_or_else(String::new, |part| format!(" ({part})"));
    let remedy = reason.remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
    format!("GPU {}{part} {state} for {since}: {}{remedy}\n", gpu.index, reason.message)
}

/// "5 s", "12 min", "3 h", "40 d": the largest unit of which there are two, or the smallest.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Rows below their headings, each column as wide as its widest cell.
fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            all.iter()
                .map(|row| row.get(column).map_or(0, |cell| cell.chars().count()))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_that_fits() {
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
