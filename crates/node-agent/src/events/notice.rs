//! What happened between two statuses. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use status::{Gpu, NvmlState, Reason, Status};

/// How old a cause may be that the first status states, to be told: an agent that restarts tells
/// nothing again.
const NEWS: Duration = Duration::from_secs(300);

/// Something that is told once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// What kind of thing it is.
    pub kind: NoticeKind,
    /// What happened, for people.
    pub note: String,
    /// How often.
    pub times: u64,
    /// The pod that it is told about; `None`: the Node.
    pub pod: Option<PodName>,
}

/// A pod, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kind of a notice: the reason of its Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// A GPU has a new cause.
    GpuUnhealthy,
    /// A GPU has none any more.
    GpuRecovered,
    /// A GPU is worse than it was, and Healthy.
    GpuDegraded,
    /// The driver reported an Xid.
    XidError,
    /// NVML does not list a GPU, or has lost it.
    GpuMissing,
    /// NVML does not answer.
    DriverDown,
    /// NVML answers again.
    DriverUp,
    /// The kubelet does not watch a resource any more.
    KubeletRegistrationLost,
    /// A changed configuration was refused.
    ConfigRefused,
    /// Somebody has put a GPU into quarantine.
    QuarantineSet,
    /// Somebody has taken it out.
    QuarantineCleared,
}

impl NoticeKind {
    /// The reason of the Event.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::GpuUnhealthy => "GPUUnhealthy",
            Self::GpuRecovered => "GPURecovered",
            Self::GpuDegraded => "GPUDegraded",
            Self::XidError => "XidError",
            Self::GpuMissing => "GPUMissing",
            Self::DriverDown => "DriverDown",
            Self::DriverUp => "DriverUp",
            Self::KubeletRegistrationLost => "KubeletRegistrationLost",
            Self::ConfigRefused => "ConfigRefused",
            Self::QuarantineSet => "QuarantineSet",
            Self::QuarantineCleared => "QuarantineCleared",
        }
    }

    /// Whether it is good news, or somebody's wish.
    #[must_use]
    pub fn is_normal(self) -> bool {
        matches!(
            self,
            Self::GpuRecovered | Self::DriverUp | Self::QuarantineSet | Self::QuarantineCleared
        )
    }
}

/// What happened between two statuses. Without an earlier one it is what a node without faults
/// would have come to within the last minutes.
#[must_use]
pub fn notices(before: Option<&Status>, after: &Status) -> Vec<Notice> {
    let mut found = Vec::new();
    driver(before, after, &mut found);
    for gpu in &after.gpus {
        let pair = Pair::new(before, after, gpu);
        pair.health(&mut found);
        pair.xids(&mut found);
    }
    if let Some(before) = before {
        registrations(before, after, &mut found);
    }
    configuration(before, after, &mut found);
    found
}

/// What happened to GPUs between two statuses, for each pod that holds one of them.
#[must_use]
pub fn pod_notices(before: Option<&Status>, after: &Status) -> Vec<Notice> {
    let mut found = Vec::new();
    for gpu in &after.gpus {
        let mut of_gpu = Vec::new();
        let pair = Pair::new(before, after, gpu);
        pair.health(&mut of_gpu);
        pair.xids(&mut of_gpu);
        // What a person does to a GPU, and that it is worse than it was, ends nothing in a pod.
        let told = |notice: &Notice| {
            use NoticeKind::{GpuMissing, GpuRecovered, GpuUnhealthy, XidError};
            matches!(notice.kind, GpuMissing | GpuRecovered | GpuUnhealthy | XidError)
        };
        let pods = holders(after, gpu);
        for notice in of_gpu.into_iter().filter(told) {
            let to = |pod: &PodName| Notice { pod: Some(pod.clone()), ..notice.clone() };
            found.extend(pods.iter().map(to));
        }
    }
    found
}

/// The pods that hold a GPU, or a part of it.
fn holders(status: &Status, gpu: &Gpu) -> BTreeSet<PodName> {
    let devices = status.resources.iter().flat_map(|resource| &resource.devices);
    let held = devices.filter(|device| device.gpu == gpu.uuid).flat_map(|device| &device.holders);
    held.map(|of| PodName { namespace: of.namespace.clone(), name: of.pod.clone() }).collect()
}

fn notice(kind: NoticeKind, note: String) -> Notice {
    Notice { kind, note, times: 1, pod: None }
}

fn driver(before: Option<&Status>, after: &Status, found: &mut Vec<Notice>) {
    // Without a fault it is not opened yet, or released on purpose: that is neither.
    let fault = |status: &'_ Status| {
        status.nvml.fault.clone().filter(|_| status.nvml.state == NvmlState::Down)
    };
    match (before.and_then(fault), fault(after)) {
        (None, Some(now)) if before.is_some() || is_recent(&now, after) => {
            found.push(notice(NoticeKind::DriverDown, with_remedy(&now)));
        }
        (Some(_), None) if after.nvml.state == NvmlState::Up => {
            let version = after.nvml.driver_version.as_deref().unwrap_or("of unknown version");
            found.push(notice(NoticeKind::DriverUp, format!("NVML answers, driver {version}")));
        }
        _ => {}
    }
}

/// One GPU in two statuses.
struct Pair<'a> {
    before: Option<&'a Status>,
    earlier: Option<&'a Gpu>,
    after: &'a Status,
    gpu: &'a Gpu,
}

impl<'a> Pair<'a> {
    fn new(before: Option<&'a Status>, after: &'a Status, gpu: &'a Gpu) -> Self {
        let earlier = before.and_then(|before| before.gpus.iter().find(|of| of.uuid == gpu.uuid));
        Self { before, earlier, after, gpu }
    }

    fn health(&self, found: &mut Vec<Notice>) {
        let named = |text: String| format!("{}: {text}", self.gpu.name());
        for reason in own(self.gpu, self.after).filter(|reason| self.is_new(reason)) {
            let kind = match reason.kind.as_str() {
                "external" => NoticeKind::QuarantineSet,
                "lost" | "not_enumerated" => NoticeKind::GpuMissing,
                _ => NoticeKind::GpuUnhealthy,
            };
            found.push(notice(kind, named(with_remedy(reason))));
        }
        for degradation in &self.gpu.degradations {
            let known = self.earlier.is_some_and(|gpu| has(&gpu.degradations, degradation));
            if !known && self.is_news(degradation) {
                found.push(notice(NoticeKind::GpuDegraded, named(with_remedy(degradation))));
            }
        }
        let (Some(before), Some(earlier)) = (self.before, self.earlier) else { return };
        let is_quarantined = |gpu: &Gpu| gpu.reasons.iter().any(|reason| reason.kind == "external");
        if is_quarantined(earlier) && !is_quarantined(self.gpu) {
            found.push(notice(NoticeKind::QuarantineCleared, named("it was cleared".to_owned())));
        }
        let is_sick = |gpu, status| own(gpu, status).any(|reason| reason.kind != "external");
        if is_sick(earlier, before) && !is_sick(self.gpu, self.after) {
            found.push(notice(NoticeKind::GpuRecovered, named("it is Healthy again".to_owned())));
        }
    }

    fn is_new(&self, reason: &Reason) -> bool {
        let known = self.earlier.is_some_and(|gpu| has(&gpu.reasons, reason));
        !known && self.is_news(reason)
    }

    fn is_news(&self, reason: &Reason) -> bool {
        // A plugin that restarts remembers causes.
        !reason.remembered && (self.before.is_some() || is_recent(reason, self.after))
    }

    fn xids(&self, found: &mut Vec<Notice>) {
        if self.before.is_none() {
            return;
        }
        let earlier = self.earlier.into_iter().flat_map(|gpu| &gpu.xids);
        let counted: BTreeMap<u32, u64> = earlier.map(|of| (of.xid, of.count)).collect();
        for of in &self.gpu.xids {
            let before = counted.get(&of.xid).copied().unwrap_or(0);
            // A plugin that restarts counts from zero.
            let times = if of.count < before { of.count } else { of.count - before };
            if times > 0 {
                let note = format!("{}: Xid {}", self.gpu.name(), of.xid);
                found.push(Notice { times, ..notice(NoticeKind::XidError, note) });
            }
        }
    }
}

/// The causes of a GPU itself: not those of the whole node, and not that it was not asked yet.
fn own<'a>(gpu: &'a Gpu, status: &'a Status) -> impl Iterator<Item = &'a Reason> {
    let fault = status.nvml.fault.as_ref().map(|fault| fault.kind.as_str());
    let is_own = move |reason: &&Reason| {
        reason.kind != "not_answered" && Some(reason.kind.as_str()) != fault
    };
    gpu.reasons.iter().filter(is_own)
}

fn has(reasons: &[Reason], reason: &Reason) -> bool {
    let same = |other: &Reason| {
        (&other.kind, other.xid, &other.part) == (&reason.kind, reason.xid, &reason.part)
    };
    reasons.iter().any(same)
}

fn is_recent(reason: &Reason, status: &Status) -> bool {
    status.generated_at.since(reason.since) < NEWS
}

fn with_remedy(reason: &Reason) -> String {
    let part = reason.part.as_ref().map(|part| format!(" ({part})")).unwrap_or_default();
    let remedy = reason.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    format!("{}{part}{remedy}", reason.message)
}

fn registrations(before: &Status, after: &Status, found: &mut Vec<Notice>) {
    // A plugin that restarts registers again, which is no loss.
    if after.plugin.uptime_seconds < before.plugin.uptime_seconds {
        return;
    }
    for resource in &after.resources {
        let was =
            before.resources.iter().any(|of| of.name == resource.name && of.kubelet.registered);
        if was && !resource.kubelet.registered {
            let problem = resource.kubelet.problem.as_deref().unwrap_or("it is not registered");
            let note = format!("{}: {problem}", resource.name);
            found.push(notice(NoticeKind::KubeletRegistrationLost, note));
        }
    }
}

fn configuration(before: Option<&Status>, after: &Status, found: &mut Vec<Notice>) {
    let Some(last) = &after.configuration.last_reload else { return };
    let Some(why) = &last.refused else { return };
    let earlier = before.and_then(|before| before.configuration.last_reload.as_ref());
    let is_news = match before {
        Some(_) => earlier.and_then(|earlier| earlier.refused.as_ref()) != Some(why),
        None => after.generated_at.since(last.at) < NEWS,
    };
    if is_news {
        found.push(notice(NoticeKind::ConfigRefused, why.clone()));
    }
}

#[cfg(test)]
mod tests;
