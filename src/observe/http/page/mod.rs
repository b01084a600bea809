//! The page for people: one HTML document with its style and its script, and nothing from
//! elsewhere.
//!
//! It is rendered whole here; the script only fetches it again and puts the new one in place. Every
//! text from outside goes through [`html::Escaped`], and the policy that is sent along lets nothing
//! run but what carries this answer's nonce.

mod alerts;
mod card;
mod devices;
mod events;
mod gpus;
mod html;
mod kubelet;
mod nonce;
mod summary;

use std::fmt::Write;

use status::{NvmlState, Status};

use html::{Escaped, duration};
pub(super) use nonce::Nonce;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub(super) fn page(status: &Status, nonce: &Nonce) -> String {
    let mut html = String::with_capacity(32 * 1024);
    // Writing to a string cannot fail.
    let _ = document(&mut html, status, nonce);
    html
}

fn document(html: &mut String, status: &Status, nonce: &Nonce) -> std::fmt::Result {
    let host = status.plugin.hostname.as_deref().unwrap_or("GPU node");
    head(html, status, host, nonce)?;
    html.write_str(
        "<body><p class=\"stale\" role=\"alert\">The plugin does not answer. What is shown is \
         its last answer.</p><main>",
    )?;
    summary::summary(html, status, host)?;
    alerts::alerts(html, status)?;
    gpus::gpus(html, status)?;
    kubelet::kubelet(html, status)?;
    alerts::findings(html, status)?;
    events::events(html, status)?;
    footer(html, status)?;
    let nonce = nonce.as_str();
    writeln!(html, "</main><script nonce=\"{nonce}\">{SCRIPT}</script></body></html>")
}

fn head(html: &mut String, status: &Status, host: &str, nonce: &Nonce) -> std::fmt::Result {
    let (healthy, gpus) = (status.gpus.iter().filter(|gpu| gpu.healthy).count(), status.gpus.len());
    let well = healthy == gpus && status.plugin.ready && status.nvml.state == NvmlState::Up;
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{healthy}/{gpus} GPUs · {host}</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,&lt;svg xmlns='http://www.w3.org/2000/svg' \
         viewBox='0 0 16 16'&gt;&lt;circle cx='8' cy='8' r='7' fill='{colour}'/&gt;&lt;/svg&gt;\">\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\
         <style nonce=\"{nonce}\">{STYLE}</style></head>",
        host = Escaped(host),
        colour = if well { "%23178a4c" } else { "%23c8322b" },
        nonce = nonce.as_str(),
    )
}

fn footer(html: &mut String, status: &Status) -> std::fmt::Result {
    let plugin = &status.plugin;
    write!(
        html,
        "<footer><p>gpu-device-plugin {} ({}), up for {}. As of <time \
         datetime=\"{at}\">{at}</time>. For programs: <a href=\"metrics\">metrics</a>, <a \
         href=\"status\">status</a>.</p></footer>",
        Escaped(&plugin.version),
        Escaped(&plugin.commit),
        duration(plugin.uptime_seconds),
        at = status.generated_at,
    )
}

#[cfg(test)]
mod tests;
