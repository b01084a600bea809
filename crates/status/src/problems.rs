//! What is wrong on the node, once for each cause. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::gpu::Gpu;
use super::gpu_problems::QUARANTINED;
use super::problem::{Problem, Severity};
use super::resource::Resource;
use super::schema::{NvmlState, Status};

/// The kinds of findings about numbers of GPUs.
const OF_COUNTS: [&str; 4] = ["bus_differs", "unidentified", "offered_differs", "expected_differs"];
/// The kinds of causes that say of a GPU, or of the node, that calls do not return.
const HANGS: [&str; 2] = ["nvml_unresponsive", "nvml_unresponsive_node"];
/// The most resources that a sentence names; more are counted.
const MAX_NAMES: usize = 3;
/// The kind of a device's reason whose details are in no reason of its GPU.
const AWAITS_MPS: &str = "awaits_mps";
/// Why a resource is not registered that has no problem with it.
const NO_KUBELET: &str = "there is no kubelet to register with";

impl Status {
    /// What is wrong, once for each cause, the worst first.
    #[must_use]
    pub fn find_problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.nvml_problems().collect();
        problems.extend(self.gpu_problems());
        problems.extend(self.resources.iter().filter_map(awaiting_mps));
        problems.extend(self.unregistered());
        problems.extend(self.other_reasons());
        problems.extend(self.findings_and_counts());
        problems.extend(self.refused_configuration());
        // Stable: those of one severity keep their order, but for what somebody did on purpose.
        problems.sort_by_key(|problem| (problem.severity, problem.kind == QUARANTINED));
        problems
    }

    /// The findings, and numbers of GPUs that differ without one. Those that follow from a GPU that
    /// is missing, or from NVML that fails, are left out: these are problems by themselves.
    fn findings_and_counts(&self) -> Vec<Problem> {
        let is_missing = |gpu: &Gpu| gpu.reasons.iter().any(|of| of.kind == "not_enumerated");
        let follows = self.nvml.fault.is_some() || self.gpus.iter().any(is_missing);
        let is_count = |kind: &str| OF_COUNTS.contains(&kind);
        let findings = self.findings.iter().filter(|of| !(follows && is_count(&of.kind)));
        let mut problems: Vec<Problem> = findings
            .map(|finding| {
                let title = finding.kind.replace('_', " ");
                of_node(Severity::Warning, &finding.kind, &title, "", finding.message.clone())
            })
            .collect();
        let has_finding = self.findings.iter().any(|finding| is_count(&finding.kind));
        if let Some(counts) = self.gpu_counts.difference().filter(|_| !follows && !has_finding) {
            let short = "differ in number";
            problems.push(of_node(Severity::Warning, "counts_differ", "GPUs", short, counts));
        }
        problems
    }

    fn nvml_problems(&self) -> impl Iterator<Item = Problem> {
        // A plugin that is ready without NVML has no GPU to serve by it.
        let is_needed = !self.plugin.ready || !self.gpus.is_empty();
        let severity = if is_needed { Severity::Error } else { Severity::Warning };
        let fault = self.nvml.fault.as_ref().map(|fault| Problem {
            remedy: fault.remedy.clone(),
            since: Some(fault.since),
            ..of_node(severity, &fault.kind, "NVML", &fault.words(), fault.message.clone())
        });
        let causes = self.gpus.iter().flat_map(|gpu| &gpu.reasons).chain(&self.nvml.fault);
        let is_told = causes.into_iter().any(|reason| HANGS.contains(&&*reason.kind));
        let calls = self.nvml.unanswered_calls;
        let hang = (calls > 0 && !is_told).then(|| {
            let message = match calls {
                1 => "a call of NVML has not returned within its deadline".to_owned(),
                _ => format!("{calls} calls of NVML have not returned within their deadlines"),
            };
            of_node(
                Severity::Error,
                "nvml_calls_hang",
                "NVML",
                "does not answer all calls",
                message,
            )
        });
        fault.into_iter().chain(hang)
    }

    /// The resources that are not registered, once for each reason.
    fn unregistered(&self) -> Vec<Problem> {
        // A plugin that is configured never to register is ready without it.
        let severity = if self.plugin.ready { Severity::Warning } else { Severity::Error };
        let mut by_reason = BTreeMap::<&str, Vec<&Resource>>::new();
        for resource in self.resources.iter().filter(|resource| !resource.kubelet.registered) {
            let reason = resource.kubelet.problem.as_deref().unwrap_or(NO_KUBELET);
            by_reason.entry(reason).or_default().push(resource);
        }
        let problem = |(reason, resources): (&str, Vec<&Resource>)| {
            let names: Vec<&str> = resources.iter().map(|of| of.name.as_str()).collect();
            let names = match names.len() {
                ..=MAX_NAMES => names.join(", "),
                count => format!("{} and {} more", names[..2].join(", "), count - 2),
            };
            let short = "not registered with the kubelet";
            Problem {
                since: resources.iter().filter_map(|of| of.kubelet.since).min(),
                ..of_node(severity, "not_registered", &names, short, reason.to_owned())
            }
        };
        by_reason.into_iter().map(problem).collect()
    }

    /// Why the plugin is not ready, but for what is a problem by itself.
    fn other_reasons(&self) -> impl Iterator<Item = Problem> {
        let is_registration = |reason: &str| {
            self.resources
                .iter()
                .any(|of| !of.kubelet.registered && reason.starts_with(&format!("{}: ", of.name)))
        };
        let is_fault = |reason: &str| {
            let down = self.nvml.fault.is_some() && self.nvml.state == NvmlState::Down;
            down && reason.starts_with("NVML is down")
        };
        let reasons = self.plugin.not_ready.iter();
        reasons.filter(move |reason| !is_registration(reason) && !is_fault(reason)).map(|reason| {
            of_node(Severity::Error, "not_ready", "plugin", "not ready", reason.clone())
        })
    }

    fn refused_configuration(&self) -> Option<Problem> {
        let last = self.configuration.last_reload.as_ref()?;
        let message = last.refused.clone()?;
        Some(Problem {
            since: Some(last.at),
            remedy: Some(
                "correct the file, which is read again by itself; the configuration before stays \
                 in force until the plugin's next start"
                    .to_owned(),
            ),
            ..of_node(
                Severity::Warning,
                "configuration_refused",
                "configuration",
                "refused",
                message,
            )
        })
    }
}

fn of_node(severity: Severity, kind: &str, subject: &str, short: &str, message: String) -> Problem {
    Problem {
        severity,
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        short: short.to_owned(),
        message,
        remedy: None,
        since: None,
        remembered: false,
        gpus: Vec::new(),
        holders: Vec::new(),
    }
}

/// Devices that their MPS control daemon keeps from pods.
fn awaiting_mps(resource: &Resource) -> Option<Problem> {
    let awaits = |kinds: &Vec<String>| kinds.iter().any(|kind| kind == AWAITS_MPS);
    let waiting = resource.devices.iter().filter(|device| awaits(&device.reasons));
    let waiting: Vec<_> = waiting.collect();
    let gpus: BTreeSet<&str> = waiting.iter().map(|device| &*device.gpu).collect();
    let mps = resource.sharing.as_ref().and_then(|sharing| sharing.mps.as_ref());
    let why = match mps.map(|mps| (mps.up, &mps.cause)) {
        Some((true, _)) => "takes up their GPUs when no client runs".to_owned(),
        Some((false, Some(cause))) => format!("is not there: {cause}"),
        _ => "has not answered yet".to_owned(),
    };
    let message = format!(
        "the MPS control daemon of {} devices {why}; they are Unhealthy until it is there",
        waiting.len()
    );
    (!waiting.is_empty()).then(|| Problem {
        gpus: gpus.into_iter().map(str::to_owned).collect(),
        remedy: Some("look whether the daemon runs, and whether its directory is mounted".into()),
        ..of_node(Severity::Error, AWAITS_MPS, &resource.name, "waits for MPS", message)
    })
}
