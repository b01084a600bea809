//! Why a node's pods do not get GPUs: facts about the node go in, and out come findings, each with
//! what was seen, why it matters and what mends it. Nothing is changed on the node.
//!
//! [`examine`] is pure. [`gather`] finds the facts, and has NVML and the device nodes asked by a
//! process of its own: a driver that hangs can hold a process for good, and shall not hold the one
//! that reports it.

pub mod check;
mod driver;
pub mod facts;
mod finding;
pub mod gather;
mod gpus;
mod kubelet;
mod node;
mod render;
mod runtime;
#[cfg(test)]
mod tests;

use facts::{Facts, Settings};
pub use finding::{Finding, Group, Level, Report, Verdict};
pub use render::{json, text};

/// Judges the facts.
#[must_use]
pub fn examine(facts: &Facts) -> Report {
    let mut findings = configuration(&facts.settings);
    findings.extend(driver::check(facts));
    findings.extend(gpus::check(facts));
    findings.extend(kubelet::check(facts));
    findings.extend(runtime::check(facts));
    findings.extend(node::check(facts));
    Report::new(findings)
}

fn configuration(settings: &Settings) -> Vec<Finding> {
    const CHECKED: &str = "flags, environment and config file";
    const GROUP: Group = Group::Configuration;
    let from = match &settings.file {
        Some(file) => format!("from flags, environment and {file}"),
        None => "from flags and environment, no config file".to_owned(),
    };
    let mut findings: Vec<_> =
        settings
            .mistakes
            .iter()
            .map(|mistake| {
                Finding::problem(GROUP, "configuration.mistake", CHECKED, mistake)
                .why("the plugin refuses to start with a mistake in its configuration")
                .fix("correct it; `gpu-device-plugin config check FILE` checks a file and starts \
                    nothing")
            })
            .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(
            GROUP,
            "configuration.mistake",
            CHECKED,
            format!("no mistakes ({from})"),
        ));
    }
    findings.extend(settings.warnings.iter().map(|warning| {
        Finding::warning(GROUP, "configuration.warning", CHECKED, warning)
            .why("it does not do what it seems to say")
            .fix("correct it, or take it out")
    }));
    findings
}
