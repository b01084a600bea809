//! The status as text: a sentence, what is wrong, and a line for each device of each resource.

use std::collections::BTreeMap;
use std::time::Duration;

use super::columns::{aligned, cut};
use super::escape::escaped;
use super::event::{EventLine, condensed};
use super::gpu::{Gpu, Reason};
use super::paint::{Paint, painted, paragraph};
use super::problem::{Problem, Severity};
use super::resource::{Device, Resource};
use super::schema::{Nvml, NvmlState, Status};
use super::time::duration;

/// The most holders of a device that are listed; the others are counted.
const MAX_HOLDERS: usize = 2;
/// The most events that are listed.
const MAX_EVENTS: usize = 10;
/// The headings of a wide table.
const HEADINGS: [&str; 10] =
    ["GPU", "MODEL", "NUMA", "HEALTH", "RESOURCE", "HOLDER", "SINCE", "NVLINK", "PCI", "UUID"];
/// How many of them a table has that is not wide.
const NARROW: usize = 6;
/// Which of them is the health.
const HEALTH: usize = 3;
/// The words before a problem.
const ERROR: &str = "PROBLEM";
const WARNING: &str = "warning";

/// How the text is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStyle {
    /// With more columns, every holder, and the last events.
    pub wide: bool,
    /// With colours, as terminals have them.
    pub colour: bool,
    /// The columns of the terminal: longer lines are broken or cut off; `None`: none is.
    pub width: Option<usize>,
}

/// A row, and how its health is painted.
struct Row {
    cells: [String; HEADINGS.len()],
    paint: Paint,
}

/// The status as text, with what is wrong first.
#[must_use]
pub fn table(status: &Status, style: TableStyle) -> String {
    let problems = status.find_problems();
    let mut text = head(status, &problems, style);
    text += &problem_lines(&problems, status, style);
    if !problems.is_empty() {
        text.push('\n');
    }
    let rows = rows(status, style.wide);
    match rows.is_empty() {
        true => text.push_str("no GPUs are known\n"),
        false => text.push_str(&grid(&rows, style)),
    }
    if !status.holders_known {
        let note = "?: which pod holds which device is not known (--pod-resources-socket)";
        text += &format!("\n{note}\n");
    }
    if style.wide && !status.events.is_empty() {
        text.push_str("\nLast events\n");
        for event in condensed(&status.events).take(MAX_EVENTS) {
            let gpus = event.gpus.as_ref().map_or_else(String::new, |gpus| format!("{gpus} "));
            let repeats = repeats(&event);
            text += &line(&format!("  {}  {gpus}{}{repeats}", event.at, event.sentence));
        }
    }
    text
}

/// What is wrong, each with what to do; empty if nothing is.
#[must_use]
pub fn problems_text(status: &Status, style: TableStyle) -> String {
    problem_lines(&status.find_problems(), status, style)
}

fn problem_lines(problems: &[Problem], status: &Status, style: TableStyle) -> String {
    problems.iter().map(|problem| one_problem(problem, status, style)).collect()
}

/// " (17 times, first 2026-11-27T13:01:37.000Z)" of an event that was not one alone.
fn repeats(event: &EventLine) -> String {
    let times = (event.times > 1).then(|| format!("{} times", event.times));
    let first = event.first_at.map(|first| format!("first {first}"));
    let parts: Vec<String> = times.into_iter().chain(first).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// The sentence, and where it is said.
fn head(status: &Status, problems: &[Problem], style: TableStyle) -> String {
    let paint = match problems.first().map(|worst| worst.severity) {
        Some(Severity::Error) => Paint::Bad,
        Some(Severity::Warning | Severity::Other) => Paint::Warn,
        None => Paint::Good,
    };
    let sentence = paragraph("", 0, &status.sentence(problems), style.width);
    let mut text = painted(sentence.trim_end(), paint, style.colour) + "\n";
    let plugin = &status.plugin;
    let ready = if plugin.ready { "ready" } else { "not ready" };
    let up = duration(Duration::from_secs_f64(plugin.uptime_seconds.clamp(0.0, 1e12)));
    let node = status.place().map(|node| format!("{node}: ")).unwrap_or_default();
    let nvml = &status.nvml;
    let version =
        |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    let (driver, cuda) = (version(&nvml.driver_version), version(&nvml.cuda_version));
    let lines = [
        Some(format!("{node}gpu-device-plugin {}, up {up}, {ready}", plugin.version)),
        Some(format!("driver {driver}, CUDA {cuda}, {}", nvml_state(nvml, status))),
        status.newer(),
    ];
    let by_mps = |resource: &Resource| {
        let mps = resource.sharing.as_ref()?.mps.as_ref()?;
        Some(format!("{}: by MPS, a replica gets {}", resource.name, mps.in_words()))
    };
    let by_mps = status.resources.iter().filter_map(by_mps);
    for of_head in lines.into_iter().flatten().chain(by_mps) {
        text += &paragraph("", 0, &of_head, style.width);
    }
    text + "\n"
}

/// A line with its end; what comes from outside cannot end it.
fn line(text: &str) -> String {
    format!("{}\n", escaped(text))
}

fn nvml_state(nvml: &Nvml, status: &Status) -> String {
    match (nvml.state, &nvml.fault) {
        (NvmlState::Up, _) if nvml.unanswered_calls > 0 => {
            format!("{} calls of NVML do not return", nvml.unanswered_calls)
        }
        (NvmlState::Up, _) => "NVML is up".to_owned(),
        (NvmlState::Released, _) => {
            let until = nvml.released_until.map(|until| {
                let left = duration(until.since(status.generated_at));
                format!(" until {} ({left} more)", until.clock(status.generated_at))
            });
            format!(
                "NVML is released{}: the plugin has no GPU open, so that one can be reset; \
                 `gpu-device-plugin take-up` ends it",
                until.unwrap_or_default()
            )
        }
        (NvmlState::Down, Some(fault)) => format!("NVML is down: {}", fault.message),
        (NvmlState::Down, None) => "NVML is down: no reason is known".to_owned(),
        (NvmlState::Unknown, _) => "NVML is in a state that this program does not know".to_owned(),
    }
}

/// A problem, with what to do, in one line where the terminal is wide enough.
fn one_problem(problem: &Problem, status: &Status, style: TableStyle) -> String {
    let (word, paint) = match problem.severity {
        Severity::Error => (ERROR, Paint::Bad),
        Severity::Warning | Severity::Other => (WARNING, Paint::Warn),
    };
    let mut text = problem.title();
    if let Some(since) = problem.since_when(status.generated_at) {
        text += &format!(" {since}");
    }
    text += &format!(": {}", problem.message);
    let pods = problem.pods();
    if !pods.is_empty() {
        text += &format!("; held by {pods}");
    }
    if let Some(remedy) = &problem.remedy {
        text += &format!("; to do: {remedy}");
    }
    let begin = format!("{}  ", painted(word, paint, style.colour));
    paragraph(&begin, word.len() + 2, &text, style.width)
}

fn rows(status: &Status, wide: bool) -> Vec<Row> {
    let gpus: BTreeMap<&str, &Gpu> =
        status.gpus.iter().map(|gpu| (gpu.uuid.as_str(), gpu)).collect();
    let mut rows = Vec::new();
    for resource in &status.resources {
        // Replicas of one device are adjacent: those that are alike are one line.
        let same = |of: &Device| (of.uuid.clone(), of.withdrawn, of.healthy, of.reasons.clone());
        let mut devices: Vec<&Device> = resource.devices.iter().collect();
        devices.sort_by_key(|device| (device.uuid.clone(), device.withdrawn));
        for replicas in devices.chunk_by(|a, b| same(a) == same(b)) {
            let Some(device) = replicas.first() else { continue };
            let gpu = gpus.get(device.gpu.as_str()).copied();
            let (health, paint) = health(device, gpu);
            let holders = holders(status, replicas, wide);
            let own = [device.index.clone(), health, offered(resource, replicas), holders];
            let mig = device.index.split_once(':').and_then(|(_, mig)| mig.parse().ok());
            let order: (u32, Option<u32>) = (gpu.map_or(u32::MAX, |gpu| gpu.index), mig);
            rows.push((order, row(status, gpu, &device.uuid, own, paint)));
        }
    }
    for gpu in status.gpus.iter().filter(|gpu| gpu.resources.is_empty()) {
        let why = gpu.reserved.as_ref().map(|why| format!("reserved: {why}"));
        let (health, paint) = match gpu.healthy {
            true => ("Healthy".to_owned(), Paint::Good),
            false => (unhealthy(gpu.reasons.first()), Paint::Bad),
        };
        let own = [gpu.label(), health, why.unwrap_or_else(none), none()];
        rows.push(((gpu.index, None), row(status, Some(gpu), &gpu.uuid, own, paint)));
    }
    rows.sort_by_key(|(order, _)| *order);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The resource, and how many replicas of the device there are.
fn offered(resource: &Resource, replicas: &[&Device]) -> String {
    match replicas {
        [only] if only.replica.is_none() => resource.name.clone(),
        many => format!("{} x{}", resource.name, many.len()),
    }
}

/// A row with the facts of its GPU.
fn row(
    status: &Status,
    gpu: Option<&Gpu>,
    uuid: &str,
    [index, health, offered, holders]: [String; 4],
    paint: Paint,
) -> Row {
    let model = gpu.and_then(|gpu| gpu.model.as_deref()).unwrap_or("unknown");
    // The manufacturer is the same for all.
    let model = model.strip_prefix("NVIDIA ").unwrap_or(model);
    let mig = gpu.and_then(|gpu| gpu.mig_devices.iter().find(|mig| mig.uuid == uuid));
    let profile = mig.and_then(|mig| mig.profile.as_ref());
    let since = gpu.and_then(|gpu| gpu.reasons.iter().map(|reason| reason.since).min());
    let cells = [
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
    ];
    Row { cells, paint }
}

fn none() -> String {
    "-".to_owned()
}

fn health(device: &Device, gpu: Option<&Gpu>) -> (String, Paint) {
    if device.withdrawn {
        // Of the health of its GPU that says nothing.
        return ("no longer offered".to_owned(), Paint::Plain);
    }
    if device.healthy {
        let degraded = gpu.is_some_and(|gpu| !gpu.degradations.is_empty());
        return match degraded {
            true => ("Healthy, degraded".to_owned(), Paint::Warn),
            false => ("Healthy".to_owned(), Paint::Good),
        };
    }
    let kind = device.reasons.first();
    let reason = gpu.and_then(|gpu| gpu.reasons.iter().find(|reason| Some(&reason.kind) == kind));
    let health = match (reason, kind.map(String::as_str)) {
        (None, Some("awaits_mps")) => "Unhealthy: waits for MPS".to_owned(),
        (None, Some("other_owner")) => "Unhealthy: in use under an older id".to_owned(),
        (None, Some(kind)) => format!("Unhealthy: {}", kind.replace('_', " ")),
        _ => unhealthy(reason),
    };
    (health, Paint::Bad)
}

fn unhealthy(reason: Option<&Reason>) -> String {
    match reason {
        Some(reason) => format!("Unhealthy: {}", reason.words()),
        None => "Unhealthy".to_owned(),
    }
}

fn holders(status: &Status, replicas: &[&Device], wide: bool) -> String {
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

/// The rows below their headings, as wide as the terminal at most.
fn grid(rows: &[Row], style: TableStyle) -> String {
    let shown = if style.wide { HEADINGS.len() } else { NARROW };
    let headings = HEADINGS.map(str::to_owned);
    let cells: Vec<_> =
        std::iter::once(&headings).chain(rows.iter().map(|row| &row.cells)).collect();
    let text = aligned(&cells.iter().map(|cells| &cells[..shown]).collect::<Vec<_>>());
    let health = cells[1..].iter().map(|cells| escaped(&cells[HEALTH]).into_owned());
    let mut lines = text.lines();
    let mut text = cut(lines.next().unwrap_or_default(), style.width) + "\n";
    for ((line, health), row) in lines.zip(health).zip(rows) {
        let line = cut(line, style.width);
        // The first place is its own: a model or an index does not contain "Healthy".
        let painted = painted(&health, row.paint, style.colour);
        text += &(line.replacen(&health, &painted, 1) + "\n");
    }
    text
}
