//! The top of the page: the node, its state, and how many GPUs and devices are Healthy.

use std::collections::BTreeMap;
use std::fmt::{Result, Write};

use status::{Nvml, NvmlState, Resource, Status};

use super::html::{Escaped, pill};

/// The node and its state, and the counts.
pub(super) fn summary(html: &mut String, status: &Status, host: &str) -> Result {
    write!(html, "<header class=\"top\"><div><h1>{}</h1><p>", Escaped(host))?;
    models(html, status)?;
    versions(html, &status.nvml)?;
    html.write_str("</p></div><div class=\"pills\">")?;
    match status.nvml.state {
        NvmlState::Up => {}
        NvmlState::Down => pill(html, "bad", "NVML is down")?,
        NvmlState::Released => pill(html, "warn", "NVML is released")?,
    }
    match status.plugin.ready {
        true => pill(html, "good", "Ready")?,
        false => pill(html, "bad", "Not ready")?,
    }
    html.write_str("</div></header>")?;
    tiles(html, status)
}

fn models(html: &mut String, status: &Status) -> Result {
    let mut models = BTreeMap::<&str, usize>::new();
    for gpu in &status.gpus {
        *models.entry(gpu.model.as_deref().unwrap_or("GPU of unknown model")).or_default() += 1;
    }
    for (n, (model, count)) in models.iter().enumerate() {
        write!(html, "{}{count} × {}", if n == 0 { "" } else { ", " }, Escaped(model))?;
    }
    Ok(())
}

fn versions(html: &mut String, nvml: &Nvml) -> Result {
    if let Some(driver) = &nvml.driver_version {
        write!(html, " · driver {}", Escaped(driver))?;
    }
    if let Some(cuda) = &nvml.cuda_version {
        write!(html, " · CUDA {}", Escaped(cuda))?;
    }
    Ok(())
}

fn tiles(html: &mut String, status: &Status) -> Result {
    let sum = |of: fn(&Resource) -> usize| status.resources.iter().map(of).sum::<usize>();
    let gpus = status.gpus.len();
    let healthy_gpus = status.gpus.iter().filter(|gpu| gpu.healthy).count();
    let devices = sum(|resource| resource.devices.len());
    let healthy_devices = sum(|resource| resource.healthy);
    html.write_str("<dl class=\"tiles\">")?;
    tile(html, "Healthy GPUs", healthy_gpus, gpus)?;
    tile(html, "Healthy devices", healthy_devices, devices)?;
    html.write_str("<div><dt>Held by pods</dt><dd>")?;
    match status.holders_known {
        true => {
            let held = sum(|resource| resource.allocated.unwrap_or(0));
            write!(html, "{held}<small> of {devices}</small>")?;
        }
        false => html.write_str("<small>not known</small>")?,
    }
    html.write_str("</dd></div></dl>")
}

fn tile(html: &mut String, title: &str, healthy: usize, all: usize) -> Result {
    let class = if healthy < all { " class=\"bad\"" } else { "" };
    write!(html, "<div{class}><dt>{title}</dt><dd>{healthy}<small> of {all}</small></dd></div>")
}
