//! What is wrong with GPUs, once for each cause. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::gpu::{Gpu, Reason};
use super::names::gpus_in_words;
use super::problem::{Holder, Problem, Severity};
use super::schema::Status;
use super::time::Timestamp;

/// What is no failure of a GPU while NVML fails: it cannot answer then.
const FOLLOWS_FROM_FAULT: [&str; 3] = ["not_answered", "nvml_error", "nvml_unresponsive"];
/// The kind of the cause that somebody put a GPU into quarantine, for a reason of theirs.
pub(super) const QUARANTINED: &str = "external";
/// What to do about it.
const END_OF_QUARANTINE: &str =
    "do what the reason says, then remove its file from the quarantine directory";
/// The kinds of causes that are one failure where one GPU has several of them: a GPU that has
/// fallen off the bus is lost, is not listed, does not answer, has an Xid and needs a reset.
const OF_ONE_FAILURE: [&str; 9] = [
    "lost",
    "not_enumerated",
    "relapses",
    "recovery_action",
    "reset_required",
    "xid",
    "nvml_unresponsive",
    "nvml_error",
    "not_answered",
];

/// A reason, and what comes with it: that is told with it, and is no problem of its own.
struct Told<'a> {
    severity: Severity,
    reason: &'a Reason,
    with: Vec<&'a Reason>,
}

/// A problem, the GPUs that have it, and what comes with it on any of them.
struct Found<'a> {
    severity: Severity,
    reason: &'a Reason,
    since: Timestamp,
    remembered: bool,
    with: Vec<&'a str>,
    gpus: Vec<&'a Gpu>,
}

impl Status {
    /// The causes and the degradations of GPUs, each once for all GPUs that have it.
    pub(super) fn gpu_problems(&self) -> Vec<Problem> {
        let mut all = Vec::<Found<'_>>::new();
        let mut known = BTreeMap::<(Severity, &str, &str, Option<&str>), usize>::new();
        for gpu in &self.gpus {
            for told in self.told(gpu) {
                let reason = told.reason;
                let key = (told.severity, &*reason.kind, &*reason.message, reason.part.as_deref());
                let at = *known.entry(key).or_insert_with(|| {
                    all.push(Found::of(&told));
                    all.len() - 1
                });
                all[at].add(gpu, &told);
            }
        }
        all.iter().map(|found| self.problem(found)).collect()
    }

    /// What is to be told of a GPU, the worst first.
    fn told<'a>(&self, gpu: &'a Gpu) -> Vec<Told<'a>> {
        let severity = if gpu.reserved.is_some() { Severity::Warning } else { Severity::Error };
        let causes = gpu.reasons.iter().filter(|reason| self.is_own(reason));
        let (failure, others): (Vec<&Reason>, Vec<&Reason>) =
            causes.partition(|of| of.part.is_none() && OF_ONE_FAILURE.contains(&&*of.kind));
        let mut told = Vec::new();
        let mut degradations: Vec<&Reason> = gpu.degradations.iter().collect();
        if let [worst, with @ ..] = &*failure {
            // What a failed GPU is degraded by came with the failure, or does not matter any more.
            let with = with.iter().copied().chain(degradations.drain(..)).collect();
            told.push(Told { severity, reason: worst, with });
        }
        let alone = |severity| move |reason| Told { severity, reason, with: Vec::new() };
        told.extend(others.into_iter().map(alone(severity)));
        told.extend(degradations.into_iter().map(alone(Severity::Warning)));
        told
    }

    /// Whether a cause of a GPU is not that NVML fails.
    fn is_own(&self, reason: &Reason) -> bool {
        self.nvml.fault.as_ref().is_none_or(|fault| {
            reason.kind != fault.kind && !FOLLOWS_FROM_FAULT.contains(&&*reason.kind)
        })
    }

    fn problem(&self, found: &Found<'_>) -> Problem {
        let named = |gpu: &&Gpu| ((!gpu.index_stale).then_some(gpu.index), gpu.name());
        let gpus: Vec<String> = found.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        let mut message = found.reason.message.clone();
        if !found.with.is_empty() {
            message += &format!("; also: {}", found.with.join("; "));
        }
        Problem {
            severity: found.severity,
            kind: found.reason.kind.clone(),
            subject: gpus_in_words(&found.gpus.iter().map(named).collect::<Vec<_>>()),
            short: found.reason.words(),
            message,
            remedy: remedy(found.reason),
            since: Some(found.since),
            remembered: found.remembered,
            holders: self.holders_of(&gpus),
            gpus,
        }
    }

    /// The containers that hold a device of these GPUs, under ids of before too.
    fn holders_of(&self, gpus: &[String]) -> Vec<Holder> {
        let devices = self.resources.iter().flat_map(|resource| &resource.devices);
        let devices = devices.filter(|device| gpus.contains(&device.gpu));
        let holders: BTreeSet<&Holder> = devices.flat_map(|device| &device.holders).collect();
        holders.into_iter().cloned().collect()
    }
}

fn remedy(reason: &Reason) -> Option<String> {
    let of_quarantine = (reason.kind == QUARANTINED).then(|| END_OF_QUARANTINE.to_owned());
    reason.remedy.clone().or(of_quarantine)
}

impl<'a> Found<'a> {
    fn of(told: &Told<'a>) -> Self {
        let Told { severity, reason, .. } = *told;
        let (since, with, gpus) = (reason.since, Vec::new(), Vec::new());
        Self { severity, reason, since, remembered: false, with, gpus }
    }

    /// A GPU has it too.
    fn add(&mut self, gpu: &'a Gpu, told: &Told<'a>) {
        if !self.gpus.iter().any(|known| known.uuid == gpu.uuid) {
            self.gpus.push(gpu);
        }
        self.remembered |= told.reason.remembered;
        for reason in told.with.iter().copied().chain([told.reason]) {
            self.since = self.since.min(reason.since);
        }
        for reason in &told.with {
            if !self.with.contains(&&*reason.message) {
                self.with.push(&reason.message);
            }
        }
    }
}
