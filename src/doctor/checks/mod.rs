//! The checks, by what they look at. All are pure.

mod configuration;
mod driver;
mod gpus;
mod kubelet;
mod node;
mod runtime;

pub(super) use kubelet::is_rival;
#[cfg(test)]
pub(super) use runtime::of_runtimes;

use super::facts::Facts;
use super::finding::{Finding, Level, Report};

/// All checks, in an order in which one thing depends on those before it.
const CHECKS: [fn(&Facts) -> Vec<Finding>; 6] =
    [configuration::check, driver::check, gpus::check, kubelet::check, runtime::check, node::check];

/// Problems that only follow where there is one of those after them: the id, and how the ids of the
/// others begin. One cause is one problem.
const CONSEQUENCES: &[(&str, &[&str])] = &[
    ("driver.module", &["driver.bus"]),
    ("driver.library", &["driver.module"]),
    ("driver.nvml", &["driver.bus", "driver.module"]),
    ("driver.versions", &["driver.nvml"]),
    ("driver.nodes", &["driver.bus", "driver.module"]),
    ("gpus.layout", &["gpus.gpu", "gpus.enumeration"]),
    ("gpus.offered", &["driver", "gpus.gpu", "gpus.plugin", "gpus.enumeration", "gpus.layout"]),
    ("gpus.counts", &["driver", "gpus.gpu", "gpus.plugin", "gpus.enumeration", "gpus.layout"]),
    ("kubelet.plugin", &["configuration.mistake", "kubelet.directory"]),
    ("kubelet.known", &["kubelet.directory", "kubelet.socket", "kubelet.rival"]),
    ("kubelet.ready", &["driver", "gpus", "kubelet.directory", "kubelet.socket", "runtime.mps"]),
    ("runtime.mps", &["runtime.mps.directory", "runtime.mps.program"]),
];

/// What cannot be told where there is the problem after it: of a plugin that does not run nothing
/// can be heard.
const UNKNOWN_BY: &[(&str, &str)] =
    &[("kubelet.known", "kubelet.plugin"), ("kubelet.ready", "kubelet.plugin")];

/// Runs all checks.
#[must_use]
pub fn examine(facts: &Facts) -> Report {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(facts)).collect();
    let problems: Vec<&'static str> =
        findings.iter().filter(|of| of.level == Level::Problem).map(|of| of.id).collect();
    for finding in findings.iter_mut().filter(|of| of.level == Level::Problem) {
        let Some((_, causes)) = CONSEQUENCES.iter().find(|(id, _)| *id == finding.id) else {
            continue;
        };
        let is_cause = |id: &&&str| causes.iter().any(|begins| id.starts_with(begins));
        finding.follows = finding.follows.or(problems.iter().find(is_cause).copied());
    }
    for finding in findings.iter_mut().filter(|of| of.level == Level::Unknown) {
        let is_asked = finding.id != "kubelet.known" || facts.kubelet.allocatable.is_ok();
        let mut by = UNKNOWN_BY.iter().filter(|_| is_asked);
        let by = by.find(|(id, by)| *id == finding.id && problems.contains(by));
        finding.follows = finding.follows.or(by.map(|(_, by)| *by));
    }
    Report { findings }
}
