//! The sections of the page about more than one GPU.

use std::collections::{BTreeMap, BTreeSet};

use status::{
    EventKind, EventLine, GpuTally, MpsSharing, NvmlState, Problem, Resource, Status, condensed,
    duration,
};

use super::html::{escaped, optional, pill, since};

/// The most events that are shown.
const MAX_EVENTS: usize = 50;

/// The top of the page: the node, its state in a sentence, and what it has.
pub(super) fn summary(status: &Status, problems: &[Problem], place: &str) -> String {
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
        NvmlState::Unknown => pill("warn", "NVML is in an unknown state"),
    };
    let ready = match status.plugin.ready {
        true => pill("good", "Ready"),
        false => pill("bad", "Not ready"),
    };
    format!(
        "<header id=\"top\" class=\"top\"><div><h1>{}</h1><p class=\"sentence\">{}</p>\
         <p>{models}{driver}{cuda}</p></div><div class=\"pills\">{nvml}{ready}</div></header>",
        escaped(place),
        escaped(&status.sentence(problems)),
    )
}

/// How many GPUs and devices are Healthy, and how many are held.
pub(super) fn tiles(status: &Status) -> String {
    let tile = |title: &str, healthy: usize, all: usize| {
        let class = if healthy < all { " class=\"bad\"" } else { "" };
        format!("<div{class}><dt>{title}</dt><dd>{healthy}<small> of {all}</small></dd></div>")
    };
    let unknown = "<small>not known</small>".to_owned();
    let GpuTally { healthy, all, .. } = status.gpu_tally();
    let gpus = match all {
        Some(all) => tile("Healthy GPUs", healthy, all),
        None => format!("<div><dt>Healthy GPUs</dt><dd>{unknown}</dd></div>"),
    };
    // What is no longer offered is no device of the node, and may still be held.
    let counts = status.resources.iter().map(Resource::offered_and_healthy);
    let (offered, well) = counts.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    let held = status.resources.iter().filter_map(|resource| resource.allocated).sum::<usize>();
    let held = match status.holders_known {
        true => format!("{held}<small> of {offered}</small>"),
        false => unknown,
    };
    format!(
        "<dl id=\"tiles\" class=\"tiles\">{gpus}{}\
         <div><dt>Held by pods</dt><dd>{held}</dd></div></dl>",
        tile("Healthy devices", well, offered),
    )
}

/// The resources and their registration with the kubelet.
pub(super) fn kubelet(status: &Status) -> String {
    let rows: String = status.resources.iter().map(|resource| row(resource, status)).collect();
    let table = match rows.is_empty() {
        true => "<p class=\"empty\">No resource is offered yet.</p>".to_owned(),
        false => format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Resources\"><table>\
             <thead><tr><th scope=\"col\">Resource</th><th scope=\"col\">Registration</th>\
             <th scope=\"col\" class=\"number\">Healthy</th>\
             <th scope=\"col\" class=\"number\">Held</th>\
             <th scope=\"col\" class=\"number\">Streams</th>\
             <th scope=\"col\" class=\"number\">Registrations</th>\
             <th scope=\"col\">Socket</th></tr></thead><tbody>{rows}</tbody></table></div>"
        ),
    };
    format!("<section id=\"kubelet\"><h2>Kubelet</h2>{table}</section>")
}

fn row(resource: &Resource, status: &Status) -> String {
    let kubelet = &resource.kubelet;
    let state = match kubelet.registered {
        true => pill("good", "Registered"),
        false => pill("bad", "Not registered"),
    };
    let since = kubelet.since.map(|at| format!(" {}", since(status.generated_at, at, "")));
    let (offered, healthy) = resource.offered_and_healthy();
    let withdrawn = match resource.devices.len() - offered {
        0 => String::new(),
        count => format!("<br><span class=\"sub\">{count} no longer offered</span>"),
    };
    let by_mps = resource.sharing.as_ref().and_then(|sharing| sharing.mps.as_ref());
    let by_mps = by_mps.map(mps).unwrap_or_default();
    format!(
        "<tr><th scope=\"row\">{}{by_mps}</th><td>{state}{}{}</td>\
         <td class=\"number\">{healthy} of {offered}{withdrawn}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td><code>{}</code></td></tr>",
        escaped(&resource.name),
        since.unwrap_or_default(),
        optional(kubelet.problem.as_ref(), |problem| format!("<br>{problem}")),
        resource.allocated.map_or_else(|| "–".to_owned(), |held| held.to_string()),
        kubelet.streams,
        kubelet.registrations,
        escaped(kubelet.endpoint.as_deref().unwrap_or("–")),
    )
}

/// What MPS gives a replica, and whether its control daemon is there.
fn mps(mps: &MpsSharing) -> String {
    let daemon = match mps.up {
        true => String::new(),
        false => format!("<br>{}", pill("bad", "MPS daemon down")),
    };
    format!("<br><span class=\"sub\">MPS: {} a replica</span>{daemon}", escaped(&mps.in_words()))
}

/// The last events, newest first; what happened to many GPUs in a row is one line.
pub(super) fn events(status: &Status) -> String {
    let last = condensed(&status.events).take(MAX_EVENTS);
    let mut ids = BTreeSet::new();
    let items: String = last
        .map(|event| {
            let time: String =
                event.at.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
            let same = (0..).map(|n| format!("event-{time}-{n}")).find(|id| !ids.contains(id));
            let id = same.unwrap_or_default();
            ids.insert(id.clone());
            item(&event, &id, status)
        })
        .collect();
    let list = match items.is_empty() {
        true => "<p class=\"empty\">Nothing has happened yet.</p>".to_owned(),
        false => format!("<ol class=\"events\">{items}</ol>"),
    };
    format!("<section id=\"events\"><h2>Last events</h2>{list}</section>")
}

fn item(event: &EventLine, id: &str, status: &Status) -> String {
    let gpus = event.gpus.as_ref().map(|gpus| match event.gpu_index {
        Some(index) => format!("<a href=\"#gpu-{index}\">{}</a> ", escaped(gpus)),
        None => format!("<b>{}</b> ", escaped(gpus)),
    });
    let times = (event.times > 1).then(|| format!("{} times", event.times));
    let first = event.first_at.map(|first| {
        let ago = duration(status.generated_at.since(first));
        format!("the first <time datetime=\"{first}\" title=\"{first}\">{ago} ago</time>")
    });
    let parts: Vec<String> = times.into_iter().chain(first).collect();
    let times = match parts.is_empty() {
        true => String::new(),
        false => format!(" <span class=\"times\">{}</span>", parts.join(", ")),
    };
    format!(
        "<li id=\"{id}\" class=\"{}\">{}<span>{}{}{}{times}</span></li>",
        tone(event.kind),
        since(status.generated_at, event.at, ""),
        gpus.unwrap_or_default(),
        optional(event.resource.as_ref(), |resource| format!("<b>{resource}</b> ")),
        escaped(&event.sentence),
    )
}

/// The colour of an event.
fn tone(kind: EventKind) -> &'static str {
    match kind {
        EventKind::GpuFound
        | EventKind::CauseOver
        | EventKind::FindingOver
        | EventKind::ConfigurationApplied
        | EventKind::Other => "plain",
        EventKind::GpuUnhealthy | EventKind::ConfigurationRefused => "bad",
        EventKind::GpuHealthy | EventKind::GpuRestored | EventKind::Registered => "good",
        EventKind::GpuDegraded
        | EventKind::Xid
        | EventKind::Finding
        | EventKind::ServerRestarted => "warn",
    }
}
