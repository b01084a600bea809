//! The card of one GPU.

use std::fmt::{Result, Write};

use status::{Device, Gpu, Reason, Status, XidCount};

use super::devices::devices;
use super::html::{Escaped, Since, pill};

/// The card of a GPU, which is offered as `offered`: devices with their resources.
pub(super) fn card(
    html: &mut String,
    gpu: &Gpu,
    offered: &[(&str, &Device)],
    status: &Status,
) -> Result {
    let (tone, word) = state(gpu);
    write!(
        html,
        "<article class=\"card {tone}\" id=\"gpu-{0}\"><header><h4>GPU {0}</h4>",
        gpu.index
    )?;
    pill(html, tone, word)?;
    let model = gpu.model.as_deref().unwrap_or("Unknown model");
    write!(html, "</header><p class=\"model\">{}", Escaped(model))?;
    if let Some(bytes) = gpu.memory_bytes {
        write!(
            html,
            " <span class=\"sub\">{} GiB</span>",
            (bytes as f64 / f64::from(1 << 30)).round()
        )?;
    }
    html.write_str("</p>")?;
    reasons(html, "bad", &gpu.reasons, status)?;
    reasons(html, "warn", &gpu.degradations, status)?;
    if let Some(reserved) = &gpu.reserved {
        write!(html, "<p class=\"reserved\">{}</p>", Escaped(reserved))?;
    }
    devices(html, gpu, offered, status)?;
    facts(html, gpu)?;
    html.write_str("</article>")
}

/// The colour and the word for the state of a GPU.
fn state(gpu: &Gpu) -> (&'static str, &'static str) {
    match gpu {
        Gpu { healthy: false, .. } => ("bad", "Unhealthy"),
        Gpu { reserved: Some(_), .. } => ("plain", "Reserved"),
        Gpu { degradations, .. } if !degradations.is_empty() => ("warn", "Degraded"),
        _ => ("good", "Healthy"),
    }
}

/// What is wrong, since when, and what to do.
fn reasons(html: &mut String, tone: &str, reasons: &[Reason], status: &Status) -> Result {
    if reasons.is_empty() {
        return Ok(());
    }
    write!(html, "<ul class=\"reasons {tone}\">")?;
    for reason in reasons {
        write!(html, "<li><strong>{}</strong>", Escaped(&reason.message))?;
        if let Some(remedy) = &reason.remedy {
            write!(html, "<span class=\"remedy\">{}</span>", Escaped(remedy))?;
        }
        write!(html, "<span class=\"since\">{}", Since(status.generated_at, reason.since))?;
        html.write_str(if reason.remembered {
            ", known from before a restart</span></li>"
        } else {
            "</span></li>"
        })?;
    }
    html.write_str("</ul>")
}

fn facts(html: &mut String, gpu: &Gpu) -> Result {
    html.write_str("<dl class=\"facts\">")?;
    let mut fact = |name: &str, value: &str| {
        write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", Escaped(value))
    };
    fact("UUID", &gpu.uuid)?;
    if let Some(bus) = &gpu.pci_bus_id {
        fact("PCI", bus)?;
    }
    if let Some(action) = gpu.recovery_action.as_ref().filter(|action| action.value != 0) {
        fact("Driver asks for", &action.meaning)?;
    }
    if !gpu.xids.is_empty() {
        let xids: Vec<String> = gpu.xids.iter().map(xid).collect();
        fact("Xids", &xids.join(", "))?;
    }
    html.write_str("</dl>")
}

fn xid(xid: &XidCount) -> String {
    match xid.count {
        1 => xid.xid.to_string(),
        count => format!("{} × {count}", xid.xid),
    }
}
