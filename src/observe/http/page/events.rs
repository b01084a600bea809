//! The last events.

use std::fmt::{Result, Write};

use status::{Event, EventKind, Status};

use super::html::{Escaped, Since};

/// The most events that are shown.
const MAX_EVENTS: usize = 50;

/// The last events, newest first.
pub(super) fn events(html: &mut String, status: &Status) -> Result {
    html.write_str("<section><h2>Last events</h2>")?;
    if status.events.is_empty() {
        return html.write_str("<p class=\"empty\">Nothing has happened yet.</p></section>");
    }
    html.write_str("<ol class=\"events\">")?;
    for event in status.events.iter().take(MAX_EVENTS) {
        item(html, event, status)?;
    }
    html.write_str("</ol></section>")
}

fn item(html: &mut String, event: &Event, status: &Status) -> Result {
    write!(
        html,
        "<li class=\"{}\"><span class=\"since\">{}</span><span>",
        tone(event.kind),
        Since(status.generated_at, event.at)
    )?;
    if let Some(index) = event.gpu_index {
        write!(html, "<a href=\"#gpu-{index}\">GPU {index}</a> ")?;
    }
    if let Some(resource) = &event.resource {
        write!(html, "<b>{}</b> ", Escaped(resource))?;
    }
    write!(html, "{}", Escaped(&sentence(&event.message, event.kind)))?;
    if event.times > 1 {
        write!(html, " <span class=\"times\">{} times</span>", event.times)?;
    }
    html.write_str("</span></li>")
}

fn tone(kind: EventKind) -> &'static str {
    match kind {
        EventKind::GpuUnhealthy | EventKind::ConfigurationRefused => "bad",
        EventKind::Xid
        | EventKind::GpuDegraded
        | EventKind::Finding
        | EventKind::ServerRestarted => "warn",
        EventKind::GpuHealthy | EventKind::GpuRestored | EventKind::Registered => "good",
        _ => "plain",
    }
}

/// The event, in the words of the log.
fn sentence(message: &str, kind: EventKind) -> String {
    match kind {
        EventKind::GpuFound => format!("found: {message}"),
        EventKind::GpuUnhealthy => format!("is Unhealthy: {message}"),
        EventKind::CauseOver => format!("cause is over: {message}"),
        EventKind::GpuHealthy => "is Healthy again".to_owned(),
        EventKind::GpuDegraded => format!("is degraded: {message}"),
        EventKind::GpuRestored => format!("is no longer degraded: {message}"),
        EventKind::FindingOver => format!("finding is over: {message}"),
        _ => message.to_owned(),
    }
}
