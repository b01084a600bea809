//! The page for people: one HTML document with its style and its script, and nothing from
//! elsewhere.
//!
//! It is made whole here; the script only fetches it again and puts the new one in place. Every
//! text from outside goes through [`Escaped`], and the policy that is sent along lets nothing run
//! but what bears this answer's nonce.

mod gpu;
mod html;

use std::collections::BTreeMap;
use std::fmt::Write;

use status::{EventKind, Gpu, Nvml, NvmlState, Resource, Status};

use crate::util::random;
use gpu::card;
use html::{Escaped, Since, duration, pill, plural};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Events that are shown.
const EVENTS: usize = 50;

/// What the style and the script of one answer bear, so that nothing else is one.
pub(super) struct Nonce(String);

impl Nonce {
    /// 16 random bytes. Without random numbers none: then the page has neither style nor script,
    /// and says all the same.
    pub(super) fn random() -> Self {
        let hex = |bytes: [u8; 16]| format!("{:032x}", u128::from_be_bytes(bytes));
        Self(random::secret().map_or_else(|| "none".to_owned(), hex))
    }
}

/// What the page may do: its own style and script, and asking its own server.
pub(super) fn policy(nonce: &Nonce) -> String {
    let Nonce(nonce) = nonce;
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src \
         'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page.
pub(super) fn page(status: &Status, nonce: &Nonce) -> String {
    let mut html = String::with_capacity(32 * 1024);
    // Writing to a string cannot fail.
    let _ = document(&mut html, status, nonce);
    html
}

fn document(html: &mut String, status: &Status, Nonce(nonce): &Nonce) -> std::fmt::Result {
    let healthy = status.gpus.iter().filter(|gpu| gpu.healthy).count();
    let well =
        healthy == status.gpus.len() && status.plugin.ready && status.nvml.state == NvmlState::Up;
    let host = status.plugin.hostname.as_deref().unwrap_or("GPU node");
    let colour = if well { "%23178a4c" } else { "%23c8322b" };
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{healthy}/{} GPUs · {}</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,&lt;svg xmlns='http://www.w3.org/2000/svg' \
         viewBox='0 0 16 16'&gt;&lt;circle cx='8' cy='8' r='7' fill='{colour}'/&gt;&lt;/svg&gt;\">\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\
         <style nonce=\"{nonce}\">{STYLE}</style></head><body>\
         <p class=\"stale\" role=\"alert\">The plugin does not answer. What is shown is its last \
         answer.</p><main>",
        status.gpus.len(),
        Escaped(host),
    )?;
    head(html, status, host)?;
    alerts(html, status)?;
    gpus(html, status)?;
    kubelet(html, status)?;
    findings(html, status)?;
    events(html, status)?;
    let plugin = &status.plugin;
    writeln!(
        html,
        "<footer><p>gpu-device-plugin {} ({}), up for {}. As of <time \
         datetime=\"{at}\">{at}</time>. For programs: <a href=\"metrics\">metrics</a>, <a \
         href=\"status\">status</a>.</p></footer></main>\
         <script nonce=\"{nonce}\">{SCRIPT}</script></body></html>",
        Escaped(&plugin.version),
        Escaped(&plugin.commit),
        duration(plugin.uptime_seconds),
        at = status.generated_at,
    )
}

/// Who and how: the words that one looks for first.
fn head(html: &mut String, status: &Status, host: &str) -> std::fmt::Result {
    let healthy = status.gpus.iter().filter(|gpu| gpu.healthy).count();
    let devices = |of: fn(&Resource) -> usize| status.resources.iter().map(of).sum::<usize>();
    let (all, good) =
        (devices(|resource| resource.devices.len()), devices(|resource| resource.healthy));
    write!(html, "<header class=\"top\"><div><h1>{}</h1><p>", Escaped(host))?;
    let mut models = BTreeMap::<&str, usize>::new();
    for gpu in &status.gpus {
        *models.entry(gpu.model.as_deref().unwrap_or("GPU of unknown model")).or_default() += 1;
    }
    for (n, (model, count)) in models.iter().enumerate() {
        write!(html, "{}{count} × {}", if n == 0 { "" } else { ", " }, Escaped(model))?;
    }
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
    html.write_str("</div></header><dl class=\"tiles\">")?;
    let class = |bad: bool| if bad { " class=\"bad\"" } else { "" };
    let gpus = status.gpus.len();
    write!(
        html,
        "<div{}><dt>Healthy GPUs</dt><dd>{healthy}<small> of {gpus}</small></dd></div>",
        class(healthy < gpus)
    )?;
    write!(
        html,
        "<div{}><dt>Healthy devices</dt><dd>{good}<small> of {all}</small></dd></div>",
        class(good < all)
    )?;
    html.write_str("<div><dt>Held by pods</dt><dd>")?;
    match status.holders_known {
        true => {
            let held = devices(|resource| resource.allocated.unwrap_or(0));
            write!(html, "{held}<small> of {all}</small>")?;
        }
        false => html.write_str("<small>not known</small>")?,
    }
    html.write_str("</dd></div></dl>")
}

fn versions(html: &mut String, nvml: &Nvml) -> std::fmt::Result {
    if let Some(driver) = &nvml.driver_version {
        write!(html, " · driver {}", Escaped(driver))?;
    }
    if let Some(cuda) = &nvml.cuda_version {
        write!(html, " · CUDA {}", Escaped(cuda))?;
    }
    Ok(())
}

/// What is wrong with more than one GPU.
fn alerts(html: &mut String, status: &Status) -> std::fmt::Result {
    let now = status.generated_at;
    if let Some(fault) = &status.nvml.fault {
        write!(html, "<p class=\"alert bad\"><strong>NVML: {}</strong>", Escaped(&fault.message))?;
        if let Some(remedy) = &fault.remedy {
            write!(html, "; {}", Escaped(remedy))?;
        }
        write!(html, " <span class=\"since\">{}</span></p>", Since(now, fault.since))?;
    }
    for reason in &status.plugin.not_ready {
        write!(html, "<p class=\"alert bad\"><strong>Not ready:</strong> {}</p>", Escaped(reason))?;
    }
    if status.nvml.unanswered_calls > 0 {
        let calls = status.nvml.unanswered_calls;
        write!(
            html,
            "<p class=\"alert bad\">{} of NVML do not return.</p>",
            plural(calls, "call")
        )?;
    }
    if let Some(refused) =
        status.configuration.last_reload.as_ref().and_then(|last| last.refused.as_ref())
    {
        write!(
            html,
            "<p class=\"alert warn\"><strong>The changed configuration was refused:</strong> \
                {}</p>",
            Escaped(refused)
        )?;
    }
    Ok(())
}

/// The cards, by NUMA node and NVLink island.
fn gpus(html: &mut String, status: &Status) -> std::fmt::Result {
    html.write_str("<section><h2>GPUs</h2>")?;
    if status.gpus.is_empty() {
        html.write_str(
            "<p class=\"empty\">No GPU is known. The plugin goes on looking; \
             <code>gpu-device-plugin doctor</code> on the node says what is in the way.</p>",
        )?;
    }
    let mut groups = BTreeMap::<(Option<u32>, Option<u32>), Vec<&Gpu>>::new();
    for gpu in &status.gpus {
        // A node that is not known comes last.
        groups
            .entry((gpu.numa_node.map_or(Some(u32::MAX), Some), gpu.nvlink_island))
            .or_default()
            .push(gpu);
    }
    let devices = gpu::devices(status);
    for ((numa, island), gpus) in groups {
        html.write_str("<h3>")?;
        match numa {
            Some(u32::MAX) | None => html.write_str("No NUMA node")?,
            Some(node) => write!(html, "NUMA node {node}")?,
        }
        if let Some(island) = island {
            write!(html, " <span class=\"sub\">NVLink island {island}</span>")?;
        }
        html.write_str("</h3><div class=\"cards\">")?;
        for gpu in gpus {
            card(html, gpu, devices.get(gpu.uuid.as_str()).map_or(&[], Vec::as_slice), status)?;
        }
        html.write_str("</div>")?;
    }
    html.write_str("</section>")
}

/// How each resource stands with the kubelet.
fn kubelet(html: &mut String, status: &Status) -> std::fmt::Result {
    html.write_str("<section><h2>Kubelet</h2>")?;
    if status.resources.is_empty() {
        return html.write_str("<p class=\"empty\">No resource is offered yet.</p></section>");
    }
    html.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>Resource</th><th>Registration</th><th \
            class=\"number\">Healthy</th>\
         <th class=\"number\">Held</th><th class=\"number\">Streams</th><th \
         class=\"number\">Registrations</th>\
         <th>Socket</th></tr></thead><tbody>",
    )?;
    for resource in &status.resources {
        let kubelet = &resource.kubelet;
        write!(html, "<tr><th scope=\"row\">{}</th><td>", Escaped(&resource.name))?;
        match kubelet.registered {
            true => pill(html, "good", "Registered")?,
            false => pill(html, "bad", "Not registered")?,
        }
        if let Some(since) = kubelet.since {
            write!(html, " <span class=\"since\">{}</span>", Since(status.generated_at, since))?;
        }
        if let Some(problem) = &kubelet.problem {
            write!(html, "<br>{}", Escaped(problem))?;
        }
        let held = resource.allocated.map_or_else(|| "–".to_owned(), |held| held.to_string());
        write!(
            html,
            "</td><td class=\"number\">{} of {}</td><td class=\"number\">{held}</td><td \
                class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td><code>{}</code></td></tr>",
            resource.healthy,
            resource.devices.len(),
            kubelet.streams,
            kubelet.registrations,
            Escaped(kubelet.endpoint.as_deref().unwrap_or("–")),
        )?;
    }
    html.write_str("</tbody></table></div></section>")
}

fn findings(html: &mut String, status: &Status) -> std::fmt::Result {
    if status.findings.is_empty() {
        return Ok(());
    }
    html.write_str("<section><h2>Findings</h2><ul class=\"findings\">")?;
    for finding in &status.findings {
        write!(html, "<li>{}</li>", Escaped(&finding.message))?;
    }
    html.write_str("</ul></section>")
}

fn events(html: &mut String, status: &Status) -> std::fmt::Result {
    html.write_str("<section><h2>Last events</h2>")?;
    if status.events.is_empty() {
        return html.write_str("<p class=\"empty\">Nothing has happened yet.</p></section>");
    }
    html.write_str("<ol class=\"events\">")?;
    for event in status.events.iter().take(EVENTS) {
        let tone = match event.kind {
            EventKind::GpuUnhealthy | EventKind::ConfigurationRefused => "bad",
            EventKind::Xid
            | EventKind::GpuDegraded
            | EventKind::Finding
            | EventKind::ServerRestarted => "warn",
            EventKind::GpuHealthy | EventKind::GpuRestored | EventKind::Registered => "good",
            _ => "plain",
        };
        write!(
            html,
            "<li class=\"{tone}\"><span class=\"since\">{}</span><span>",
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
        html.write_str("</span></li>")?;
    }
    html.write_str("</ol></section>")
}

fn sentence(message: &str, kind: EventKind) -> String {
    match kind {
        EventKind::GpuFound => format!("found: {message}"),
        EventKind::GpuUnhealthy => format!("is Unhealthy: {message}"),
        EventKind::CauseOver => format!("no longer so: {message}"),
        EventKind::GpuHealthy => "is Healthy again".to_owned(),
        EventKind::GpuDegraded => format!("is degraded: {message}"),
        EventKind::GpuRestored => format!("is no longer degraded: {message}"),
        EventKind::FindingOver => format!("no longer so: {message}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
