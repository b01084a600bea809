//! The sections of the page about more than one GPU.

use std::collections::BTreeMap;

use status::{Event, EventKind, NvmlState, Resource, Status};

use super::html::{escaped, optional, pill, plural, since};

/// The most events that are shown.
const MAX_EVENTS: usize = 50;

/// The top of the page: the node and its state, and how many GPUs and devices are Healthy.
pub(super) fn summary(status: &Status, host: &str) -> String {
    let mut models = BTreeMap::<&str, usize>::new();
    for gpu in &status.gpus {
        *models.entry(gpu.model.as_deref().unwrap_or("GPU of unknown model")).or_default() += 1;
    }
    let models = models.iter().map(|(model, count)| format!("{count} × {}", escaped(model)));
    let models = models.collect::<Vec<_>>().join(", ");
    let nvml = &status.nvml;
    let driver = optional(nvml.driver_version.as_ref(), |version| format!(" · driver {version}"));
    let cuda = optional(nvml.cuda_version.as_ref(), |version| format!(" · CUDA {version}"));
    let nvml = match nvml.state {
        NvmlState::Up => String::new(),
        NvmlState::Down => pill("bad", "NVML is down"),
        NvmlState::Released => pill("warn", "NVML is released"),
    };
    let ready = match status.plugin.ready {
        true => pill("good", "Ready"),
        false => pill("bad", "Not ready"),
    };
    format!(
        "<header class=\"top\"><div><h1>{}</h1><p>{models}{driver}{cuda}</p></div>\
         <div class=\"pills\">{nvml}{ready}</div></header>{}",
        escaped(host),
        tiles(status),
    )
}

fn tiles(status: &Status) -> String {
    let tile = |title: &str, healthy: usize, all: usize| {
        let class = if healthy < all { " class=\"bad\"" } else { "" };
        format!("<div{class}><dt>{title}</dt><dd>{healthy}<small> of {all}</small></dd></div>")
    };
    let sum = |of: fn(&Resource) -> usize| status.resources.iter().map(of).sum::<usize>();
    let healthy = status.gpus.iter().filter(|gpu| gpu.healthy).count();
    let devices = sum(|resource| resource.devices.len());
    let held = sum(|resource| resource.allocated.unwrap_or(0));
    let held = match status.holders_known {
        true => format!("{held}<small> of {devices}</small>"),
        false => "<small>not known</small>".to_owned(),
    };
    format!(
        "<dl class=\"tiles\">{}{}<div><dt>Held by pods</dt><dd>{held}</dd></div></dl>",
        tile("Healthy GPUs", healthy, status.gpus.len()),
        tile("Healthy devices", sum(|resource| resource.healthy), devices),
    )
}

/// What is wrong with more than one GPU.
pub(super) fn alerts(status: &Status) -> String {
    let mut alerts = Vec::new();
    if let Some(fault) = &status.nvml.fault {
        let message = escaped(&fault.message);
        let remedy = optional(fault.remedy.as_ref(), |remedy| format!("; {remedy}"));
        let since = since(status.generated_at, fault.since, "");
        alerts.push(("bad", format!("<strong>NVML: {message}</strong>{remedy} {since}")));
    }
    for reason in &status.plugin.not_ready {
        alerts.push(("bad", format!("<strong>Not ready:</strong> {}", escaped(reason))));
    }
    if let Some(counts) = status.gpu_counts.difference() {
        alerts.push(("warn", format!("<strong>GPUs:</strong> {}", escaped(&counts))));
    }
    if status.nvml.unanswered_calls > 0 {
        let calls = plural(status.nvml.unanswered_calls, "call");
        alerts.push(("bad", format!("{calls} of NVML do not return.")));
    }
    if let Some(refused) =
        status.configuration.last_reload.as_ref().and_then(|last| last.refused.as_ref())
    {
        let what = "<strong>The changed configuration was refused:</strong>";
        alerts.push(("warn", format!("{what} {}", escaped(refused))));
    }
    let alert = |(tone, text)| format!("<p class=\"alert {tone}\">{text}</p>");
    alerts.into_iter().map(alert).collect()
}

/// What is not offered as one would expect.
pub(super) fn findings(status: &Status) -> String {
    if status.findings.is_empty() {
        return String::new();
    }
    let item = |finding: &status::Finding| format!("<li>{}</li>", escaped(&finding.message));
    let items: String = status.findings.iter().map(item).collect();
    format!("<section><h2>Findings</h2><ul class=\"findings\">{items}</ul></section>")
}

/// The resources and their registration with the kubelet.
pub(super) fn kubelet(status: &Status) -> String {
    let rows: String = status.resources.iter().map(|resource| row(resource, status)).collect();
    let table = match rows.is_empty() {
        true => "<p class=\"empty\">No resource is offered yet.</p>".to_owned(),
        false => format!(
            "<div class=\"scroll\"><table><thead><tr><th>Resource</th><th>Registration</th>\
             <th class=\"number\">Healthy</th><th class=\"number\">Held</th>\
             <th class=\"number\">Streams</th><th class=\"number\">Registrations</th>\
             <th>Socket</th></tr></thead><tbody>{rows}</tbody></table></div>"
        ),
    };
    format!("<section><h2>Kubelet</h2>{table}</section>")
}

fn row(resource: &Resource, status: &Status) -> String {
    let kubelet = &resource.kubelet;
    let state = match kubelet.registered {
        true => pill("good", "Registered"),
        false => pill("bad", "Not registered"),
    };
    let since = kubelet.since.map(|at| format!(" {}", since(status.generated_at, at, "")));
    format!(
        "<tr><th scope=\"row\">{}</th><td>{state}{}{}</td>\
         <td class=\"number\">{} of {}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td><code>{}</code></td></tr>",
        escaped(&resource.name),
        since.unwrap_or_default(),
        optional(kubelet.problem.as_ref(), |problem| format!("<br>{problem}")),
        resource.healthy,
        resource.devices.len(),
        resource.allocated.map_or_else(|| "–".to_owned(), |held| held.to_string()),
        kubelet.streams,
        kubelet.registrations,
        escaped(kubelet.endpoint.as_deref().unwrap_or("–")),
    )
}

/// The last events, newest first.
pub(super) fn events(status: &Status) -> String {
    let last = status.events.iter().take(MAX_EVENTS);
    let items: String = last.map(|event| item(event, status)).collect();
    let list = match items.is_empty() {
        true => "<p class=\"empty\">Nothing has happened yet.</p>".to_owned(),
        false => format!("<ol class=\"events\">{items}</ol>"),
    };
    format!("<section><h2>Last events</h2>{list}</section>")
}

fn item(event: &Event, status: &Status) -> String {
    let gpu = event.gpu_index.map(|index| format!("<a href=\"#gpu-{index}\">GPU {index}</a> "));
    let times = match event.times {
        ..=1 => String::new(),
        times => format!(" <span class=\"times\">{times} times</span>"),
    };
    format!(
        "<li class=\"{}\">{}<span>{}{}{}{times}</span></li>",
        tone(event.kind),
        since(status.generated_at, event.at, ""),
        gpu.unwrap_or_default(),
        optional(event.resource.as_ref(), |resource| format!("<b>{resource}</b> ")),
        escaped(&event.sentence()),
    )
}

/// The colour of an event.
fn tone(kind: EventKind) -> &'static str {
    match kind {
        EventKind::GpuFound
        | EventKind::CauseOver
        | EventKind::FindingOver
        | EventKind::ConfigurationApplied => "plain",
        EventKind::GpuUnhealthy | EventKind::ConfigurationRefused => "bad",
        EventKind::GpuHealthy | EventKind::GpuRestored | EventKind::Registered => "good",
        EventKind::GpuDegraded
        | EventKind::Xid
        | EventKind::Finding
        | EventKind::ServerRestarted => "warn",
    }
}
