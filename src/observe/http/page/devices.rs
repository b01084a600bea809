//! What a GPU is offered as, and who holds it.

use std::collections::BTreeMap;
use std::fmt::{Result, Write};

use status::{Device, Gpu, MigDevice, Status};

use super::html::{Escaped, plural};

/// The most holders that are listed; the others unfold.
const MAX_HOLDERS: usize = 3;

/// A row for the GPU or for each of its MIG devices; replicas share one.
pub(super) fn devices(
    html: &mut String,
    gpu: &Gpu,
    offered: &[(&str, &Device)],
    status: &Status,
) -> Result {
    let mut rows = BTreeMap::<(u32, &str, &str), Vec<&Device>>::new();
    for (resource, device) in offered.iter().filter(|(_, device)| !device.withdrawn) {
        let index = mig_device(gpu, &device.uuid).map_or(0, |mig| mig.index);
        rows.entry((index, device.uuid.as_str(), resource)).or_default().push(device);
    }
    if rows.is_empty() {
        return Ok(());
    }
    html.write_str("<ul class=\"devices\">")?;
    for ((index, uuid, resource), replicas) in rows {
        // The card says whether the whole GPU is Healthy.
        let mig = mig_device(gpu, uuid);
        let healthy = mig.is_none() || replicas.iter().all(|device| device.healthy);
        write!(html, "<li class=\"{}\">", if healthy { "good" } else { "bad" })?;
        what(html, gpu, mig, resource, &replicas)?;
        holders(html, &format!("held-{}-{index}", gpu.index), &replicas, status)?;
        html.write_str("</li>")?;
    }
    html.write_str("</ul>")
}

fn mig_device<'a>(gpu: &'a Gpu, uuid: &str) -> Option<&'a MigDevice> {
    gpu.mig_devices.iter().find(|mig| mig.uuid == uuid)
}

/// The resource, or the profile of a MIG device, and how many replicas there are.
fn what(
    html: &mut String,
    gpu: &Gpu,
    mig: Option<&MigDevice>,
    resource: &str,
    replicas: &[&Device],
) -> Result {
    html.write_str("<span class=\"what\">")?;
    if let Some(mig) = mig {
        write!(html, "<b title=\"{}\">{}:{}</b> ", Escaped(&mig.uuid), gpu.index, mig.index)?;
    }
    let name = mig.and_then(|mig| mig.profile.as_deref()).unwrap_or(resource);
    write!(html, "<span title=\"{}\">{}</span>", Escaped(resource), Escaped(name))?;
    if is_shared(replicas) {
        write!(html, " <span class=\"sub\">× {}</span>", replicas.len())?;
    }
    html.write_str("</span>")
}

fn is_shared(replicas: &[&Device]) -> bool {
    replicas.iter().any(|device| device.replica.is_some())
}

fn holders(html: &mut String, id: &str, replicas: &[&Device], status: &Status) -> Result {
    if !status.holders_known {
        return html.write_str("<span class=\"held sub\">holder not known</span>");
    }
    let mut names = BTreeMap::<String, usize>::new();
    for holder in replicas.iter().flat_map(|device| &device.holders) {
        let name = format!("{}/{} ({})", holder.namespace, holder.pod, holder.container);
        *names.entry(name).or_default() += 1;
    }
    if names.is_empty() {
        return html.write_str(match replicas.iter().all(|device| device.healthy) {
            true => "<span class=\"held free\">free</span>",
            false => "<span class=\"held sub\">not held</span>",
        });
    }
    if is_shared(replicas) {
        let held = replicas.iter().filter(|device| !device.holders.is_empty()).count();
        write!(html, "<span class=\"held sub\">{held} of {} held</span>", replicas.len())?;
    }
    list(html, names.iter().take(MAX_HOLDERS))?;
    if names.len() > MAX_HOLDERS {
        let more = plural((names.len() - MAX_HOLDERS) as u64, "more holder");
        write!(html, "<details id=\"{id}\"><summary>{more}</summary>")?;
        list(html, names.iter().skip(MAX_HOLDERS))?;
        html.write_str("</details>")?;
    }
    Ok(())
}

fn list<'a>(html: &mut String, names: impl Iterator<Item = (&'a String, &'a usize)>) -> Result {
    for (name, count) in names {
        write!(html, "<span class=\"holder\">{}", Escaped(name))?;
        if *count > 1 {
            write!(html, " <span class=\"sub\">× {count}</span>")?;
        }
        html.write_str("</span>")?;
    }
    Ok(())
}
