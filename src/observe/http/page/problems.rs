//! What is wrong, at the top of the page: a banner for each problem.

use std::collections::BTreeSet;

use status::{Gpu, Problem, Severity, Status, duration};

use super::html::{escaped, optional, since};

/// The most GPUs of one problem that are linked to.
const MAX_LINKS: usize = 16;

/// The banners of the problems, the worst first, and one for a release of NVML.
pub(super) fn problems(status: &Status, problems: &[Problem]) -> String {
    let release = release(status);
    let mut ids = BTreeSet::new();
    let banners: String = problems
        .iter()
        .map(|problem| {
            let about = problem.gpus.first().unwrap_or(&problem.subject);
            let id = format!("problem-{}-{about}", problem.kind).replace(' ', "-");
            // Two of one kind about one thing are told apart by their places.
            banner(problem, ids.insert(id.clone()).then_some(id), status)
        })
        .collect();
    match release.is_empty() && banners.is_empty() {
        true => String::new(),
        false => format!(
            "<section id=\"problems\" class=\"problems\" aria-label=\"Problems\">\
             <h2>Problems</h2>{release}{banners}</section>"
        ),
    }
}

/// What is wrong with what, since when, what to do, and who holds it.
fn banner(problem: &Problem, id: Option<String>, status: &Status) -> String {
    let tone = match problem.severity {
        Severity::Error => "bad",
        Severity::Warning | Severity::Other => "warn",
    };
    let remembered = if problem.remembered { ", from before a restart of the plugin" } else { "" };
    let since = problem.since.map(|at| since(status.generated_at, at, remembered));
    let pods = problem.pods();
    let held = match (problem.gpus.is_empty(), status.holders_known) {
        (true, _) => String::new(),
        (false, false) => part("Held by", "not known"),
        (false, true) if pods.is_empty() => part("Held by", "no pod"),
        (false, true) => part("Held by", &escaped(&pods)),
    };
    format!(
        "<article class=\"alert {tone}\"{}><h3>{}{}</h3><p>{}</p>{}{held}{}</article>",
        optional(id.as_ref(), |id| format!(" id=\"{id}\"")),
        escaped(&problem.title()),
        since.map(|since| format!(" {since}")).unwrap_or_default(),
        escaped(&problem.message),
        optional(problem.remedy.as_ref(), |remedy| part("What to do", &remedy)),
        links(problem, status),
    )
}

/// A part of a banner, with its name; the text is HTML.
fn part(name: &str, html: &str) -> String {
    format!("<p><b>{name}:</b> {html}</p>")
}

/// Links to the cards of the GPUs.
fn links(problem: &Problem, status: &Status) -> String {
    let affected = status.gpus.iter().filter(|gpu| problem.gpus.contains(&gpu.uuid));
    let link = |gpu: &Gpu| {
        format!("<a href=\"#gpu-{}\">{}</a>", escaped(&gpu.label()), escaped(&gpu.name()))
    };
    let links: Vec<String> = affected.take(MAX_LINKS).map(link).collect();
    match links.is_empty() {
        true => String::new(),
        false => part("Details", &links.join(", ")),
    }
}

/// That NVML is released, until when, and how it is ended.
fn release(status: &Status) -> String {
    let Some(words) = status.release() else { return String::new() };
    let left = status.nvml.released_until.map(|until| {
        format!(" <span class=\"since\">{} more</span>", duration(until.since(status.generated_at)))
    });
    format!(
        "<article class=\"alert warn\"><h3>{}{}</h3><p>The plugin has no GPU open, so that one can \
         be reset; no GPU is watched meanwhile.</p>{}</article>",
        escaped(&words),
        left.unwrap_or_default(),
        part(
            "What to do",
            "<code>gpu-device-plugin take-up</code> in the plugin's pod ends it before that."
        ),
    )
}
