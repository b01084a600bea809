//! What is wrong on the node, once for each cause. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::gpu::{Gpu, Reason};
use super::names::gpus_in_words;
use super::problem::{Holder, Problem, Severity};
use super::schema::{NvmlState, Resource, Status};

/// What is no failure of a GPU while NVML fails: it cannot answer then.
const FOLLOWS_FROM_FAULT: [&str; 3] = ["not_answered", "nvml_error", "nvml_unresponsive"];
/// The kinds of findings about numbers of GPUs.
const OF_COUNTS: [&str; 4] = ["bus_differs", "unidentified", "offered_differs", "expected_differs"];
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
        problems.extend(self.resources.iter().filter_map(|of| self.unregistered(of)));
        problems.extend(self.other_reasons());
        problems.extend(self.findings_and_counts());
        problems.extend(self.refused_configuration());
        // Stable: those of one severity keep their order.
        problems.sort_by_key(|problem| problem.severity);
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
        let fault = self.nvml.fault.as_ref().map(|fault| Problem {
            remedy: fault.remedy.clone(),
            since: Some(fault.since),
            ..of_node(Severity::Error, &fault.kind, "NVML", &fault.words(), fault.message.clone())
        });
        let calls = self.nvml.unanswered_calls;
        let hang = (calls > 0).then(|| {
            let message = format!("{calls} calls of NVML have not returned within their deadlines");
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

    /// The causes and the degradations of GPUs, each once for all GPUs that have it.
    fn gpu_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::<Problem>::new();
        let mut known = BTreeMap::<(Severity, &str, &str, Option<&str>), usize>::new();
        let mut affected = Vec::<Vec<&Gpu>>::new();
        for gpu in &self.gpus {
            let severity = if gpu.reserved.is_some() { Severity::Warning } else { Severity::Error };
            let causes = gpu.reasons.iter().filter(|reason| self.is_own(reason));
            let causes = causes.map(|reason| (severity, reason));
            let degradations = gpu.degradations.iter().map(|of| (Severity::Warning, of));
            for (severity, reason) in causes.chain(degradations) {
                let key = (severity, &*reason.kind, &*reason.message, reason.part.as_deref());
                let at = *known.entry(key).or_insert_with(|| {
                    problems.push(of_reason(severity, reason));
                    affected.push(Vec::new());
                    problems.len() - 1
                });
                add(&mut problems[at], gpu, reason);
                affected[at].push(gpu);
            }
        }
        for (problem, gpus) in problems.iter_mut().zip(&affected) {
            let named = |gpu: &&Gpu| ((!gpu.index_stale).then_some(gpu.index), gpu.name());
            problem.subject = gpus_in_words(&gpus.iter().map(named).collect::<Vec<_>>());
            problem.holders = self.holders_of(&problem.gpus);
        }
        problems
    }

    /// Whether a cause of a GPU is not that NVML fails.
    fn is_own(&self, reason: &Reason) -> bool {
        self.nvml.fault.as_ref().is_none_or(|fault| {
            reason.kind != fault.kind && !FOLLOWS_FROM_FAULT.contains(&&*reason.kind)
        })
    }

    /// The containers that hold a device of these GPUs, under ids of before too.
    fn holders_of(&self, gpus: &[String]) -> Vec<Holder> {
        let devices = self.resources.iter().flat_map(|resource| &resource.devices);
        let devices = devices.filter(|device| gpus.contains(&device.gpu));
        let holders: BTreeSet<&Holder> = devices.flat_map(|device| &device.holders).collect();
        holders.into_iter().cloned().collect()
    }

    fn unregistered(&self, resource: &Resource) -> Option<Problem> {
        let kubelet = &resource.kubelet;
        if kubelet.registered {
            return None;
        }
        // A plugin that is configured never to register is ready without it.
        let severity = if self.plugin.ready { Severity::Warning } else { Severity::Error };
        let message = kubelet.problem.clone().unwrap_or_else(|| NO_KUBELET.to_owned());
        let short = "not registered with the kubelet";
        Some(Problem {
            since: kubelet.since,
            ..of_node(severity, "not_registered", &resource.name, short, message)
        })
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

fn of_reason(severity: Severity, reason: &Reason) -> Problem {
    Problem {
        remedy: reason.remedy.clone(),
        since: Some(reason.since),
        ..of_node(severity, &reason.kind, "", &reason.words(), reason.message.clone())
    }
}

/// The GPU has the problem too, for this reason.
fn add(problem: &mut Problem, gpu: &Gpu, reason: &Reason) {
    if !problem.gpus.contains(&gpu.uuid) {
        problem.gpus.push(gpu.uuid.clone());
    }
    problem.since = problem.since.map(|since| since.min(reason.since));
    problem.remembered |= reason.remembered;
}

/// Devices that their MPS control daemon keeps from pods.
fn awaiting_mps(resource: &Resource) -> Option<Problem> {
    let awaits = |kinds: &Vec<String>| kinds.iter().any(|kind| kind == AWAITS_MPS);
    let waiting = resource.devices.iter().filter(|device| awaits(&device.reasons));
    let waiting: Vec<_> = waiting.collect();
    let gpus: BTreeSet<&str> = waiting.iter().map(|device| &*device.gpu).collect();
    let message = format!(
        "the MPS control daemon of {} devices has not answered yet, so that they are Unhealthy",
        waiting.len()
    );
    (!waiting.is_empty()).then(|| Problem {
        gpus: gpus.into_iter().map(str::to_owned).collect(),
        remedy: Some("look whether the daemon runs, and whether its directory is mounted".into()),
        ..of_node(Severity::Error, AWAITS_MPS, &resource.name, "waits for MPS", message)
    })
}
