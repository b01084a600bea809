//! The card of one GPU.

use std::collections::BTreeMap;
use std::fmt::Write;

use status::{Device, Gpu, Reason, Status};

use super::html::{Escaped, Since, pill, plural};

/// Names of holders that are shown at once; the rest unfolds.
const NAMES: usize = 3;

/// The devices of each GPU, with their resources.
pub(super) fn devices(status: &Status) -> BTreeMap<&str, Vec<(&str, &Device)>> {
    let mut devices = BTreeMap::<&str, Vec<(&str, &Device)>>::new();
    for resource in &status.resources {
        for device in &resource.devices {
            devices.entry(device.gpu.as_str()).or_default().push((resource.name.as_str(), device));
        }
    }
    devices
}

pub(super) fn card(
    html: &mut String,
    gpu: &Gpu,
    devices: &[(&str, &Device)],
    status: &Status,
) -> std::fmt::Result {
    let (tone, word) = match gpu {
        Gpu { healthy: false, .. } => ("bad", "Unhealthy"),
        Gpu { reserved: Some(_), .. } => ("plain", "Reserved"),
        Gpu { degradations, .. } if !degradations.is_empty() => ("warn", "Degraded"),
        _ => ("good", "Healthy"),
    };
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
    rows(html, gpu, devices, status)?;
    facts(html, gpu)?;
    html.write_str("</article>")
}

/// What is wrong, since when, and what to do.
fn reasons(html: &mut String, tone: &str, reasons: &[Reason], status: &Status) -> std::fmt::Result {
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

/// What it is offered as: a row for the GPU or for each MIG device, with who holds it.
fn rows(
    html: &mut String,
    gpu: &Gpu,
    devices: &[(&str, &Device)],
    status: &Status,
) -> std::fmt::Result {
    let mut rows = BTreeMap::<(u32, &str, &str), Vec<&Device>>::new();
    for (resource, device) in devices.iter().filter(|(_, device)| !device.withdrawn) {
        let mig = gpu.mig_devices.iter().find(|mig| mig.uuid == device.uuid);
        rows.entry((mig.map_or(0, |mig| mig.index), device.uuid.as_str(), resource))
            .or_default()
            .push(device);
    }
    if rows.is_empty() {
        return Ok(());
    }
    html.write_str("<ul class=\"devices\">")?;
    for ((_, uuid, resource), devices) in rows {
        let mig = gpu.mig_devices.iter().find(|mig| mig.uuid == uuid);
        // Of the whole GPU the card has said so already.
        let healthy = mig.is_none() || devices.iter().all(|device| device.healthy);
        write!(
            html,
            "<li class=\"{}\"><span class=\"what\">",
            if healthy { "good" } else { "bad" }
        )?;
        if let Some(mig) = mig {
            write!(html, "<b title=\"{}\">{}:{}</b> ", Escaped(uuid), gpu.index, mig.index)?;
        }
        let profile = mig.and_then(|mig| mig.profile.as_deref());
        write!(
            html,
            "<span title=\"{}\">{}</span>",
            Escaped(resource),
            Escaped(profile.unwrap_or(resource))
        )?;
        if devices.iter().any(|device| device.replica.is_some()) {
            write!(html, " <span class=\"sub\">× {}</span>", devices.len())?;
        }
        html.write_str("</span>")?;
        holders(
            html,
            &format!("held-{}-{}", gpu.index, mig.map_or(0, |mig| mig.index)),
            &devices,
            status,
        )?;
        html.write_str("</li>")?;
    }
    html.write_str("</ul>")
}

fn holders(html: &mut String, id: &str, devices: &[&Device], status: &Status) -> std::fmt::Result {
    if !status.holders_known {
        return html.write_str("<span class=\"held sub\">holder not known</span>");
    }
    let mut names = BTreeMap::<String, usize>::new();
    for holder in devices.iter().flat_map(|device| &device.holders) {
        *names
            .entry(format!("{}/{} ({})", holder.namespace, holder.pod, holder.container))
            .or_default() += 1;
    }
    let held = devices.iter().filter(|device| !device.holders.is_empty()).count();
    let shared = devices.iter().any(|device| device.replica.is_some());
    if names.is_empty() {
        let usable = devices.iter().all(|device| device.healthy);
        return html.write_str(match usable {
            true => "<span class=\"held free\">free</span>",
            false => "<span class=\"held sub\">not held</span>",
        });
    }
    if shared {
        write!(html, "<span class=\"held sub\">{held} of {} held</span>", devices.len())?;
    }
    let list = |html: &mut String,
                names: &mut dyn Iterator<Item = (&String, &usize)>|
     -> std::fmt::Result {
        for (name, count) in names {
            write!(html, "<span class=\"holder\">{}", Escaped(name))?;
            match count {
                1 => {}
                count => write!(html, " <span class=\"sub\">× {count}</span>")?,
            }
            html.write_str("</span>")?;
        }
        Ok(())
    };
    list(html, &mut names.iter().take(NAMES))?;
    if names.len() > NAMES {
        let more = plural((names.len() - NAMES) as u64, "more holder");
        write!(html, "<details id=\"{id}\"><summary>{more}</summary>")?;
        list(html, &mut names.iter().skip(NAMES))?;
        html.write_str("</details>")?;
    }
    Ok(())
}

fn facts(html: &mut String, gpu: &Gpu) -> std::fmt::Result {
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
        let xids: Vec<String> = gpu
            .xids
            .iter()
            .map(|xid| {
                if xid.count == 1 {
                    xid.xid.to_string()
                } else {
                    format!("{} × {}", xid.xid, xid.count)
                }
            })
            .collect();
        fact("Xids", &xids.join(", "))?;
    }
    html.write_str("</dl>")
}
