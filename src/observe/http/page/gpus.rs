//! The cards of the GPUs: what is wrong with each, what it is offered as, and who holds it.

use std::collections::BTreeMap;

use status::{Device, Gpu, MigDevice, Reason, Status, XidCount};

use super::html::{escaped, optional, pill, plural, since};

/// GPUs whose NUMA node is not known come last.
const NO_NUMA_NODE: u32 = u32::MAX;
/// The most holders that are listed; the others unfold.
const MAX_HOLDERS: usize = 3;

/// The cards: first those that are broken or degraded, then the others by NUMA node and NVLink
/// island.
pub(super) fn gpus(status: &Status) -> String {
    let mut devices = BTreeMap::<&str, Vec<(&str, &Device)>>::new();
    for resource in &status.resources {
        for device in &resource.devices {
            devices.entry(&device.gpu).or_default().push((&resource.name, device));
        }
    }
    let mut groups = BTreeMap::<(u32, Option<u32>), String>::new();
    let (mut broken, mut degraded) = (String::new(), String::new());
    for gpu in &status.gpus {
        let key = (gpu.numa_node.unwrap_or(NO_NUMA_NODE), gpu.nvlink_island);
        let offered = devices.get(gpu.uuid.as_str()).map_or(&[][..], Vec::as_slice);
        let group = match gpu {
            Gpu { healthy: false, .. } => &mut broken,
            Gpu { degradations, .. } if !degradations.is_empty() => &mut degraded,
            _ => groups.entry(key).or_default(),
        };
        group.push_str(&card(gpu, offered, status));
    }
    let group = |((numa, island), cards): ((u32, Option<u32>), String)| {
        let numa = match numa {
            NO_NUMA_NODE => "No NUMA node".to_owned(),
            node => format!("NUMA node {node}"),
        };
        let id = format!("group-{numa}-{}", island.unwrap_or(u32::MAX)).replace(' ', "-");
        let island = island.map(|n| format!(" <span class=\"sub\">NVLink island {n}</span>"));
        let island = island.unwrap_or_default();
        format!("<h3>{numa}{island}</h3><div class=\"cards\" id=\"{id}\">{cards}</div>")
    };
    let attention = match broken + &degraded {
        cards if cards.is_empty() => cards,
        cards => format!(
            "<h3>Unhealthy or degraded</h3><div class=\"cards\" id=\"attention\">{cards}</div>"
        ),
    };
    let groups: String = match status.gpus.is_empty() {
        true => "<p class=\"empty\">No GPU is known. The plugin keeps looking; \
             <code>gpu-device-plugin doctor</code> on the node says why.</p>"
            .to_owned(),
        false => groups.into_iter().map(group).collect(),
    };
    format!("<section id=\"gpus\"><h2>GPUs</h2>{attention}{groups}</section>")
}

/// The card of a GPU, which is offered as `offered`: devices with their resources.
fn card(gpu: &Gpu, offered: &[(&str, &Device)], status: &Status) -> String {
    let (tone, word) = match gpu {
        Gpu { healthy: false, .. } => ("bad", "Unhealthy"),
        Gpu { reserved: Some(_), .. } => ("plain", "Reserved"),
        Gpu { degradations, .. } if !degradations.is_empty() => ("warn", "Degraded"),
        _ => ("good", "Healthy"),
    };
    let memory = gpu.memory_bytes.map(|bytes| {
        let gib = (bytes as f64 / f64::from(1 << 30)).round();
        format!(" <span class=\"sub\">{gib} GiB</span>")
    });
    format!(
        "<article class=\"card {tone}\" id=\"gpu-{}\"><header><h4>{}</h4>{}</header>\
         <p class=\"model\">{}{}</p>{}{}{}{}{}</article>",
        escaped(&gpu.label()),
        escaped(&gpu.name()),
        pill(tone, word),
        escaped(gpu.model.as_deref().unwrap_or("Unknown model")),
        memory.unwrap_or_default(),
        reasons("bad", &gpu.reasons, status),
        reasons("warn", &gpu.degradations, status),
        optional(gpu.reserved.as_ref(), |why| format!("<p class=\"reserved\">{why}</p>")),
        devices(gpu, offered, status),
        facts(gpu),
    )
}

/// What is wrong, since when, and what to do.
fn reasons(tone: &str, reasons: &[Reason], status: &Status) -> String {
    let item = |reason: &Reason| {
        let message = escaped(&reason.message);
        let remedy = optional(reason.remedy.as_ref(), |remedy| {
            format!("<span class=\"remedy\">{remedy}</span>")
        });
        let remembered =
            if reason.remembered { ", from before a restart of the plugin" } else { "" };
        let since = since(status.generated_at, reason.since, remembered);
        format!("<li><strong>{message}</strong>{remedy}{since}</li>")
    };
    let items: String = reasons.iter().map(item).collect();
    match items.is_empty() {
        true => items,
        false => format!("<ul class=\"reasons {tone}\">{items}</ul>"),
    }
}

fn facts(gpu: &Gpu) -> String {
    let action = gpu.recovery_action.as_ref().filter(|action| action.value != 0);
    let xid = |xid: &XidCount| match xid.count {
        1 => xid.xid.to_string(),
        count => format!("{} × {count}", xid.xid),
    };
    let xids = gpu.xids.iter().map(xid).collect::<Vec<_>>().join(", ");
    let numa = gpu.numa_node.map(|node| node.to_string());
    let island = gpu.nvlink_island.map(|island| island.to_string());
    let facts = [
        ("UUID", Some(&gpu.uuid)),
        ("PCI", gpu.pci_bus_id.as_ref()),
        ("NUMA node", numa.as_ref()),
        ("NVLink island", island.as_ref()),
        ("Driver asks for", action.map(|action| &action.meaning)),
        ("Xids", Some(&xids).filter(|xids| !xids.is_empty())),
    ];
    let fact = |(name, value)| {
        optional(value, |value| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
    };
    format!("<dl class=\"facts\">{}</dl>", facts.map(fact).concat())
}

/// A row for the GPU or for each of its MIG devices; replicas share one. What is no longer offered
/// has one for as long as a pod holds it.
fn devices(gpu: &Gpu, offered: &[(&str, &Device)], status: &Status) -> String {
    let mig_device = |uuid: &str| gpu.mig_devices.iter().find(|mig| mig.uuid == uuid);
    let mut rows = BTreeMap::<(u32, &str, &str, bool), Vec<&Device>>::new();
    let shown = |device: &Device| !device.withdrawn || !device.holders.is_empty();
    for (resource, device) in offered.iter().filter(|(_, device)| shown(device)) {
        let index = mig_device(&device.uuid).map_or(0, |mig| mig.index);
        rows.entry((index, &device.uuid, resource, device.withdrawn)).or_default().push(device);
    }
    let row = |(key, replicas): ((u32, &str, &str, bool), Vec<&Device>)| {
        let (index, uuid, resource, withdrawn) = key;
        // The card says whether the whole GPU is Healthy.
        let mig = mig_device(uuid);
        let healthy = mig.is_none() || replicas.iter().all(|device| device.healthy);
        let tone = match (withdrawn, healthy) {
            (true, _) => "withdrawn",
            (false, true) => "good",
            (false, false) => "bad",
        };
        let id = format!("held-{}-{index}-{withdrawn}-{}", gpu.label(), escaped(resource));
        format!(
            "<li class=\"{tone}\">{}{}</li>",
            what(gpu, mig, resource, &replicas),
            holders(&id, &replicas, status),
        )
    };
    match rows.is_empty() {
        true => String::new(),
        false => {
            let rows: String = rows.into_iter().map(row).collect();
            format!("<ul class=\"devices\">{rows}</ul>")
        }
    }
}

/// The resource, or the profile of a MIG device, and how many replicas there are.
fn what(gpu: &Gpu, mig: Option<&MigDevice>, resource: &str, replicas: &[&Device]) -> String {
    let mig_index = mig.map(|mig| format!("<b>{}:{}</b> ", escaped(&gpu.label()), mig.index));
    let mig_uuid = mig.map(|mig| format!("<code>{}</code>", escaped(&mig.uuid)));
    let withdrawn = replicas.iter().any(|device| device.withdrawn);
    let name = mig.and_then(|mig| mig.profile.as_deref()).unwrap_or(resource);
    format!(
        "<span class=\"what\">{}<span title=\"{}\">{}</span>{}{}{}</span>",
        mig_index.unwrap_or_default(),
        escaped(resource),
        escaped(name),
        if is_shared(replicas) { times(replicas.len()) } else { String::new() },
        if withdrawn { " <span class=\"sub\">no longer offered</span>" } else { "" },
        mig_uuid.unwrap_or_default(),
    )
}

fn is_shared(replicas: &[&Device]) -> bool {
    replicas.iter().any(|device| device.replica.is_some())
}

fn times(count: usize) -> String {
    format!(" <span class=\"sub\">× {count}</span>")
}

fn holders(id: &str, replicas: &[&Device], status: &Status) -> String {
    if !status.holders_known {
        return "<span class=\"held sub\">holder not known</span>".to_owned();
    }
    let mut counts = BTreeMap::<String, usize>::new();
    for holder in replicas.iter().flat_map(|device| &device.holders) {
        let name = format!("{}/{} ({})", holder.namespace, holder.pod, holder.container);
        *counts.entry(name).or_default() += 1;
    }
    if counts.is_empty() {
        return match replicas.iter().all(|device| device.healthy) {
            true => "<span class=\"held free\">free</span>",
            false => "<span class=\"held sub\">not held</span>",
        }
        .to_owned();
    }
    let holder = |(name, count): (&String, &usize)| {
        let times = if *count > 1 { times(*count) } else { String::new() };
        format!("<span class=\"holder\">{}{times}</span>", escaped(name))
    };
    let mut html = String::new();
    if is_shared(replicas) {
        let held = replicas.iter().filter(|device| !device.holders.is_empty()).count();
        html = format!("<span class=\"held sub\">{held} of {} held</span>", replicas.len());
    }
    html.extend(counts.iter().take(MAX_HOLDERS).map(holder));
    if counts.len() > MAX_HOLDERS {
        let more = plural((counts.len() - MAX_HOLDERS) as u64, "more holder");
        let others: String = counts.iter().skip(MAX_HOLDERS).map(holder).collect();
        html += &format!("<details id=\"{id}\"><summary>{more}</summary>{others}</details>");
    }
    html
}
