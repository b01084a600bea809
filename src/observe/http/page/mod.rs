//! The page for people: one HTML document with its style and its script, and nothing from
//! elsewhere.
//!
//! It is rendered whole here; the script only fetches it again and puts the new one in place. Every
//! text from outside goes through [`html::escaped`], and the policy that is sent along lets nothing
//! run but what carries this answer's nonce.

mod gpus;
mod html;
mod sections;

use status::{NvmlState, Status};

use self::html::{duration, escaped};
use crate::util::random;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the style and the script of one answer carry, so that the browser accepts no others.
/// Without random numbers the page has neither style nor script, and says the same.
pub(super) fn nonce() -> String {
    random::secret()
        .map_or_else(|| "none".to_owned(), |bytes| format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The Content-Security-Policy: the page's own style and script, and requests to its own server.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The page.
pub(super) fn page(status: &Status, nonce: &str) -> String {
    let host = status.plugin.hostname.as_deref().unwrap_or("GPU node");
    format!(
        "{}<body><p class=\"stale\" role=\"alert\">The plugin does not answer. What is shown is \
         its last answer.</p><main>{}{}{}{}{}{}{}</main>\
         <script nonce=\"{nonce}\">{SCRIPT}</script></body></html>\n",
        head(status, host, nonce),
        sections::summary(status, host),
        sections::alerts(status),
        gpus::gpus(status),
        sections::kubelet(status),
        sections::findings(status),
        sections::events(status),
        footer(status),
    )
}

fn head(status: &Status, host: &str, nonce: &str) -> String {
    let (healthy, gpus) = (status.gpus.iter().filter(|gpu| gpu.healthy).count(), status.gpus.len());
    let well = healthy == gpus && status.plugin.ready && status.nvml.state == NvmlState::Up;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{healthy}/{gpus} GPUs · {host}</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,&lt;svg xmlns='http://www.w3.org/2000/svg' \
         viewBox='0 0 16 16'&gt;&lt;circle cx='8' cy='8' r='7' fill='{colour}'/&gt;&lt;/svg&gt;\">\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\
         <style nonce=\"{nonce}\">{STYLE}</style></head>",
        host = escaped(host),
        colour = if well { "%23178a4c" } else { "%23c8322b" },
    )
}

fn footer(status: &Status) -> String {
    let plugin = &status.plugin;
    format!(
        "<footer><p>gpu-device-plugin {} ({}), up for {}. As of <time \
         datetime=\"{at}\">{at}</time>. For programs: <a href=\"metrics\">metrics</a>, <a \
         href=\"status\">status</a>.</p></footer>",
        escaped(&plugin.version),
        escaped(&plugin.commit),
        duration(plugin.uptime_seconds),
        at = status.generated_at,
    )
}

#[cfg(test)]
mod tests;
