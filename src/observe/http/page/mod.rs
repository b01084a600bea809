//! The page for people: one HTML document with its style and its script, and nothing from
//! elsewhere.
//!
//! It is rendered whole here, with what is wrong first; the script only fetches it again and
//! changes what differs. Every text from outside goes through [`html::escaped`], and the policy
//! that is sent along lets nothing run but what carries this answer's nonce.

mod gpus;
mod html;
mod problems;
mod sections;

use std::time::Duration;

use status::{NvmlState, Problem, Severity, Status, duration};

use self::html::escaped;
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
    let place = status.place().unwrap_or("GPU node");
    let problems = status.find_problems();
    format!(
        "{}<body>{}<main>{}{}{}{}{}{}{}</main>\
         <script nonce=\"{nonce}\">{SCRIPT}</script></body></html>\n",
        head(status, &problems, place, nonce),
        bar(status),
        sections::summary(status, &problems, place),
        problems::problems(status, &problems),
        sections::tiles(status),
        gpus::gpus(status),
        sections::kubelet(status),
        sections::events(status),
        footer(status),
    )
}

/// How old what is shown is, and whether it changes by itself. The button and the warning are the
/// script's; without it there is a link.
fn bar(status: &Status) -> String {
    format!(
        "<div class=\"bar\" role=\"region\" aria-label=\"Updates\"><p id=\"stale\" role=\"alert\" \
         hidden></p><p><span id=\"as-of\">As of <time datetime=\"{at}\">{}</time></span> \
         <button type=\"button\" id=\"pause\" hidden>Pause updates</button>\
         <noscript><a href=\"\">Show what it is now</a></noscript></p></div>",
        clock(status),
        at = status.generated_at,
    )
}

/// The time of day of the status, with its seconds.
fn clock(status: &Status) -> String {
    let text = status.generated_at.to_string();
    format!("{} UTC", text.get(11..19).unwrap_or(&text))
}

fn head(status: &Status, problems: &[Problem], place: &str, nonce: &str) -> String {
    let tally = status.gpu_tally();
    let all = tally.all.map_or_else(|| "?".to_owned(), |all| all.to_string());
    let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
    // A node without GPUs is well without NVML.
    let is_up = status.nvml.state == NvmlState::Up || status.gpus.is_empty();
    let well = !has_error && status.plugin.ready && is_up;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}/{all} GPUs · {place}</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,&lt;svg xmlns='http://www.w3.org/2000/svg' \
         viewBox='0 0 16 16'&gt;&lt;circle cx='8' cy='8' r='7' fill='{colour}'/&gt;&lt;/svg&gt;\">\
         <style nonce=\"{nonce}\">{STYLE}</style></head>",
        tally.healthy,
        place = escaped(place),
        colour = if well { "%23178a4c" } else { "%23c8322b" },
    )
}

fn footer(status: &Status) -> String {
    let plugin = &status.plugin;
    let up = Duration::from_secs_f64(plugin.uptime_seconds.clamp(0.0, 1e12));
    format!(
        "<footer id=\"about\"><p>gpu-device-plugin {} ({}), up for {}. As of <time \
         datetime=\"{at}\">{at}</time>. For programs: <a href=\"metrics\">metrics</a>, <a \
         href=\"status\">status</a>.</p></footer>",
        escaped(&plugin.version),
        escaped(&plugin.commit),
        duration(up),
        at = status.generated_at,
    )
}

#[cfg(test)]
mod tests;
