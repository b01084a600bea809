//! The cards of all GPUs.

use std::collections::BTreeMap;
use std::fmt::{Result, Write};

use status::{Device, Gpu, Status};

use super::card::card;

/// The cards, by NUMA node and NVLink island.
pub(super) fn gpus(html: &mut String, status: &Status) -> Result {
    html.write_str("<section><h2>GPUs</h2>")?;
    if status.gpus.is_empty() {
        html.write_str(
            "<p class=\"empty\">No GPU is known. The plugin keeps looking; \
             <code>gpu-device-plugin doctor</code> on the node says why.</p>",
        )?;
    }
    let mut groups = BTreeMap::<(u32, Option<u32>), Vec<&Gpu>>::new();
    for gpu in &status.gpus {
        let key = (gpu.numa_node.unwrap_or(NO_NUMA_NODE), gpu.nvlink_island);
        groups.entry(key).or_default().push(gpu);
    }
    let devices = devices(status);
    for ((numa, island), gpus) in groups {
        heading(html, numa, island)?;
        html.write_str("<div class=\"cards\">")?;
        for gpu in gpus {
            card(html, gpu, devices.get(gpu.uuid.as_str()).map_or(&[], Vec::as_slice), status)?;
        }
        html.write_str("</div>")?;
    }
    html.write_str("</section>")
}

/// GPUs whose NUMA node is not known come last.
const NO_NUMA_NODE: u32 = u32::MAX;

fn heading(html: &mut String, numa: u32, island: Option<u32>) -> Result {
    html.write_str("<h3>")?;
    match numa {
        NO_NUMA_NODE => html.write_str("No NUMA node")?,
        node => write!(html, "NUMA node {node}")?,
    }
    if let Some(island) = island {
        write!(html, " <span class=\"sub\">NVLink island {island}</span>")?;
    }
    html.write_str("</h3>")
}

/// The devices of each GPU, with their resources.
fn devices(status: &Status) -> BTreeMap<&str, Vec<(&str, &Device)>> {
    let mut devices = BTreeMap::<&str, Vec<(&str, &Device)>>::new();
    for resource in &status.resources {
        for device in &resource.devices {
            devices.entry(device.gpu.as_str()).or_default().push((resource.name.as_str(), device));
        }
    }
    devices
}
