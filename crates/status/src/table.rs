//! The status as a table: a line for each device of each resource, below a summary and above notes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::escape::escaped;
use super::gpu::{Gpu, Reason};
use super::schema::{Device, Nvml, NvmlState, Status};

/// The most holders of a device that are listed; the others are counted.
const MAX_HOLDERS: usize = 2;
/// The most events that are listed.
const MAX_EVENTS: usize = 10;
/// The headings of a wide table.
const HEADINGS: [&str; 10] =
    ["GPU", "MODEL", "NUMA", "HEALTH", "RESOURCE", "HOLDER", "SINCE", "NVLINK", "PCI", "UUID"];
/// Why a resource is not registered that has no problem with it.
const NO_KUBELET: &str = "none is configured (--kubelet-socket)";
/// How many of them a table has that is not wide.
const NARROW: usize = 6;

/// The status as a table. A `wide` one has more columns, every holder, and the last events.
#[must_use]
pub fn table(status: &Status, wide: bool) -> String {
    let mut text = head(status);
    if let Some(counts) = status.gpu_counts.difference() {
        text += &format!("{}\n", line(&format!("GPUs: {counts}")));
    }
    let rows = rows(status, wide);
    match rows.is_empty() {
        true => text.push_str("no GPUs\n"),
        false => {
            let shown = if wide { HEADINGS.len() } else { NARROW };
            let headings = HEADINGS.map(str::to_owned);
            let rows: Vec<_> =
                std::iter::once(&headings).chain(&rows).map(|row| &row[..shown]).collect();
            text.push_str(&aligned(&rows));
        }
    }
    let notes = notes(status);
    if !notes.is_empty() {
        text += &format!("\n{notes}");
    }
    if wide && !status.events.is_empty() {
        text.push_str("\nLast events\n");
        for event in status.events.iter().take(MAX_EVENTS) {
            let gpu = event.gpu_index.map_or_else(String::new, |index| format!("GPU {index} "));
            let times =
                if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
            text += &line(&format!("  {}  {gpu}{}{times}", event.at, event.sentence()));
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
    let (driver, cuda) = (version(&nvml.driver_version), version(&nvml.cuda_version));
    let plugin = line(&format!("gpu-device-plugin {}, up {up}, {ready}", plugin.version));
    let driver = line(&format!("driver {driver}, CUDA {cuda}, {}", nvml_state(nvml)));
    format!("{plugin}{driver}\n")
}

/// A line with its end; what comes from outside cannot end it.
fn line(text: &str) -> String {
    format!("{}\n", escaped(text))
}

fn nvml_state(nvml: &Nvml) -> String {
    match (nvml.state, &nvml.fault) {
        (NvmlState::Up, _) if nvml.unanswered_calls > 0 => {
            format!("{} calls of NVML do not return", nvml.unanswered_calls)
        }
        (NvmlState::Up, _) => "NVML is up".to_owned(),
        (NvmlState::Released, _) => "NVML is released for a reset".to_owned(),
        (NvmlState::Down, Some(fault)) => format!("NVML is down: {}", fault.message),
        (NvmlState::Down, None) => "NVML is down: no reason is known".to_owned(),
    }
}

fn rows(status: &Status, wide: bool) -> Vec<[String; HEADINGS.len()]> {
    let gpus: BTreeMap<&str, &Gpu> =
        status.gpus.iter().map(|gpu| (gpu.uuid.as_str(), gpu)).collect();
    let mut rows = Vec::new();
    for resource in &status.resources {
        // Replicas of one device are adjacent: they are one line.
        for replicas in resource.devices.chunk_by(|a, b| a.uuid == b.uuid) {
            let Some(device) = replicas.first() else { continue };
            let gpu = gpus.get(device.gpu.as_str()).copied();
            let offered = match replicas.len() {
                1 if device.replica.is_none() => resource.name.clone(),
                count => format!("{} x{count}", resource.name),
            };
            let holders = holders(status, replicas, wide);
            let own = [device.index.clone(), health(device, gpu), offered, holders];
            let mig = device.index.split_once(':').and_then(|(_, mig)| mig.parse().ok());
            let order: (u32, Option<u32>) = (gpu.map_or(u32::MAX, |gpu| gpu.index), mig);
            rows.push((order, row(status, gpu, &device.uuid, own)));
        }
    }
    for gpu in status.gpus.iter().filter(|gpu| gpu.resources.is_empty()) {
        let why = gpu.reserved.as_ref().map(|why| format!("reserved: {why}"));
        let health =
            if gpu.healthy { "Healthy".to_owned() } else { unhealthy(gpu.reasons.first()) };
        let own = [gpu.label(), health, why.unwrap_or_else(none), none()];
        rows.push(((gpu.index, None), row(status, Some(gpu), &gpu.uuid, own)));
    }
    rows.sort_by_key(|(order, _)| *order);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A row with the facts of its GPU.
fn row(
    status: &Status,
    gpu: Option<&Gpu>,
    uuid: &str,
    [index, health, offered, holders]: [String; 4],
) -> [String; HEADINGS.len()] {
    let model = gpu.and_then(|gpu| gpu.model.as_deref()).unwrap_or("unknown");
    // The manufacturer is the same for all.
    let model = model.strip_prefix("NVIDIA ").unwrap_or(model);
    let mig = gpu.and_then(|gpu| gpu.mig_devices.iter().find(|mig| mig.uuid == uuid));
    let profile = mig.and_then(|mig| mig.profile.as_ref());
    let since = gpu.and_then(|gpu| gpu.reasons.iter().map(|reason| reason.since).min());
    [
        index,
        profile.map_or_else(|| model.to_owned(), |profile| format!("{model} {profile}")),
        gpu.and_then(|gpu| gpu.numa_node).map_or_else(none, |node| node.to_string()),
        health,
        offered,
        holders,
        since.map_or_else(none, |since| duration(status.generated_at.since(since))),
        gpu.and_then(|gpu| gpu.nvlink_island).map_or_else(none, |island| island.to_string()),
        gpu.and_then(|gpu| gpu.pci_bus_id.clone()).unwrap_or_else(none),
        uuid.to_owned(),
    ]
}

fn none() -> String {
    "-".to_owned()
}

fn health(device: &Device, gpu: Option<&Gpu>) -> String {
    if device.withdrawn {
        return "Unhealthy: no longer offered".to_owned();
    }
    if device.healthy {
        let degraded = gpu.is_some_and(|gpu| !gpu.degradations.is_empty());
        return if degraded { "Healthy, degraded" } else { "Healthy" }.to_owned();
    }
    let kind = device.reasons.first();
    let reason = gpu.and_then(|gpu| gpu.reasons.iter().find(|reason| Some(&reason.kind) == kind));
    match (reason, kind) {
        (None, Some(kind)) => format!("Unhealthy: {kind}"),
        _ => unhealthy(reason),
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
    if names.is_empty() { none() } else { names.join(", ") }
}

/// The notes below the table: each GPU that is Unhealthy or degraded, with the remedy; resources
/// that are not registered; and findings.
fn notes(status: &Status) -> String {
    let mut notes = Vec::new();
    for gpu in &status.gpus {
        notes.extend(gpu.reasons.iter().map(|of| note(gpu, of, "Unhealthy", status)));
        notes.extend(gpu.degradations.iter().map(|of| note(gpu, of, "degraded", status)));
    }
    for resource in status.resources.iter().filter(|resource| !resource.kubelet.registered) {
        let problem = resource.kubelet.problem.as_deref().unwrap_or(NO_KUBELET);
        notes.push(format!("{} is not registered with the kubelet: {problem}", resource.name));
    }
    notes.extend(status.findings.iter().map(|finding| finding.message.clone()));
    if !status.holders_known {
        let note = "?: which pod holds which device is not known (--pod-resources-socket)";
        notes.push(note.to_owned());
    }
    notes.iter().map(|note| line(note)).collect()
}

fn note(gpu: &Gpu, reason: &Reason, state: &str, status: &Status) -> String {
    let since = duration(status.generated_at.since(reason.since));
    let part = reason.part.as_ref().map_or_else(String::new, |part| format!(" ({part})"));
    let remedy = reason.remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
    format!("{}{part} {state} for {since}: {}{remedy}", gpu.name(), reason.message)
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

/// Rows as lines of text, each column as wide as its widest cell. What comes from outside can break
/// neither: each cell is escaped.
#[must_use]
pub fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    let cells = |row: &[String]| row.iter().map(|cell| escaped(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row.as_ref())).collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
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
