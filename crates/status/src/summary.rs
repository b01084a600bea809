//! The status in a sentence.

use std::collections::BTreeSet;

use super::gpu::Gpu;
use super::problem::{Problem, Severity};
use super::resource::Resource;
use super::schema::{NvmlState, Status};

/// How many GPUs there are, as far as is known, and what is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuTally {
    /// How many of them are Healthy.
    pub healthy: usize,
    /// GPUs that are not reserved; where none is listed, those on the PCI bus.
    pub all: Option<usize>,
    /// How many of them pods hold; `None`: not known.
    pub held: Option<usize>,
    /// GPUs that are reserved for the system.
    pub reserved: usize,
}

impl Status {
    /// How many GPUs there are. What was not heard counts neither as none nor as Healthy.
    #[must_use]
    pub fn gpu_tally(&self) -> GpuTally {
        let (reserved, gpus): (Vec<&Gpu>, Vec<&Gpu>) =
            self.gpus.iter().partition(|gpu| gpu.reserved.is_some());
        let on_bus = self.gpu_counts.bus.map(|count| count as usize);
        let all = match (gpus.len() + reserved.len(), self.nvml.state) {
            (0, NvmlState::Up) => Some(on_bus.unwrap_or(0)),
            (0, _) => on_bus,
            _ => Some(gpus.len()),
        };
        let devices = self.resources.iter().flat_map(|resource| &resource.devices);
        let held = devices.filter(|device| !device.holders.is_empty());
        let held: BTreeSet<&str> = held.map(|device| &*device.gpu).collect();
        GpuTally {
            healthy: gpus.iter().filter(|gpu| gpu.healthy).count(),
            all,
            held: self.holders_known.then_some(held.len()),
            reserved: reserved.len(),
        }
    }

    /// "7 of 8 GPUs healthy, 3 held, 1 problem: GPU 7 lost since 03:12 UTC".
    #[must_use]
    pub fn sentence(&self, problems: &[Problem]) -> String {
        let GpuTally { healthy, all, held, reserved } = self.gpu_tally();
        let gpus = match all {
            None => "it cannot be told whether the node has GPUs".to_owned(),
            Some(0) if reserved > 0 => "no GPUs for pods".to_owned(),
            Some(0) => "no GPUs on this node".to_owned(),
            Some(all) => {
                format!("{healthy} of {all} GPU{} healthy", if all == 1 { "" } else { "s" })
            }
        };
        let held = match held {
            _ if all.is_none_or(|all| all == 0) => String::new(),
            None => ", held by pods: not known".to_owned(),
            Some(held) => format!(", {held} held"),
        };
        let reserved = if reserved > 0 { format!(", {reserved} reserved") } else { String::new() };
        let release = self.release().map(|release| format!(", {release}")).unwrap_or_default();
        format!("{gpus}{held}{reserved}{release}, {}", self.problems_in_words(problems))
    }

    /// "NVML released until 03:20 UTC", if it is.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        let until = self.nvml.released_until.map(|until| until.clock(self.generated_at));
        (self.nvml.state == NvmlState::Released).then(|| match until {
            Some(until) => format!("NVML released until {until}"),
            None => "NVML released".to_owned(),
        })
    }

    fn problems_in_words(&self, problems: &[Problem]) -> String {
        let count = |severity| problems.iter().filter(|of| of.severity == severity).count();
        let (errors, others) = (count(Severity::Error), problems.len() - count(Severity::Error));
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let counted = match (errors, others) {
            (0, 0) => return "no problems".to_owned(),
            (0, others) => format!("no problems, {}", plural(others, "warning")),
            (errors, 0) => plural(errors, "problem"),
            (errors, others) => {
                format!("{} and {}", plural(errors, "problem"), plural(others, "warning"))
            }
        };
        let first = problems.first().map(|first| first.brief(self.generated_at));
        let first_of = if errors + others > 1 { "first " } else { "" };
        format!("{counted}: {first_of}{}", first.unwrap_or_default())
    }
}

impl Resource {
    /// How many of its devices are offered, and how many of these are Healthy.
    #[must_use]
    pub fn offered_and_healthy(&self) -> (usize, usize) {
        let offered = || self.devices.iter().filter(|device| !device.withdrawn);
        (offered().count(), offered().filter(|device| device.healthy).count())
    }
}
