//! What a cluster is told of a node: a status that fits into an annotation, for readers who may see
//! Nodes and nothing else.

use serde::{Deserialize, Serialize};

use super::escape::bounded;
use super::problem::{Problem, Severity};
use super::schema::{NvmlState, Status};
use super::time::Timestamp;

/// The version of its form. Within one, fields are added and never changed.
pub const BRIEF_VERSION: u32 = 1;
/// The longest text of it, in bytes: a list of 5,000 nodes stays small.
pub const MAX_BRIEF: usize = 2048;
/// The longest word in it, in bytes.
const MAX_WORD: usize = 120;
/// The most GPUs that it names of a problem.
const MAX_GPUS: usize = 8;

/// A node's GPUs in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBrief {
    /// [`BRIEF_VERSION`].
    pub version: u32,
    /// How many GPUs there are, without those that are reserved; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpus: Option<usize>,
    /// How many of them are Healthy.
    pub healthy: usize,
    /// How many of them pods hold; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<usize>,
    /// The version of the driver; absent while NVML does not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub driver: Option<String>,
    /// The version of the plugin.
    pub plugin: String,
    /// What is wrong, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<BriefProblem>,
    /// How many more problems there are than have room.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub more_problems: usize,
}

/// Something that is wrong, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BriefProblem {
    /// How bad it is.
    pub severity: Severity,
    /// One of a fixed set of words, for programs.
    pub kind: String,
    /// What is wrong with what: "GPU 7 lost".
    pub title: String,
    /// What it is wrong with, with which the title begins: "GPU 7"; empty: an older agent's.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub subject: String,
    /// The UUIDs of the GPUs that it affects, the first few.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gpus: Vec<String>,
    /// Since when, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
}

impl NodeBrief {
    /// A status in brief.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let tally = status.gpu_tally();
        let driver = status.nvml.driver_version.as_deref().map(clipped);
        let mut brief = Self {
            version: BRIEF_VERSION,
            gpus: tally.all,
            healthy: tally.healthy,
            held: tally.held,
            driver: driver.filter(|_| status.nvml.state == NvmlState::Up),
            plugin: clipped(&status.plugin.version),
            problems: status.problems.iter().map(BriefProblem::of).collect(),
            more_problems: 0,
        };
        while brief.text().len() > MAX_BRIEF && brief.problems.pop().is_some() {
            brief.more_problems += 1;
        }
        brief
    }

    /// It as JSON, of at most [`MAX_BRIEF`] bytes if it is of a status.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether something is wrong that was not before.
    #[must_use]
    pub fn is_worse_than(&self, before: &Self) -> bool {
        self.healthy < before.healthy
            || self.more_problems > before.more_problems
            || self.problems.iter().any(|problem| !before.problems.contains(problem))
    }
}

impl BriefProblem {
    fn of(problem: &Problem) -> Self {
        Self {
            severity: problem.severity,
            kind: clipped(&problem.kind),
            title: clipped(&problem.title()),
            subject: clipped(&problem.subject),
            gpus: problem.gpus.iter().take(MAX_GPUS).map(|uuid| clipped(uuid)).collect(),
            since: problem.since,
        }
    }

    /// Which GPUs it is of, as a cell of a table: "7", "0 to 7"; `None`: it is of none.
    #[must_use]
    pub fn gpu(&self) -> Option<&str> {
        let is_of_gpus = !self.gpus.is_empty() && !self.subject.is_empty();
        let name = ["GPUs ", "GPU "].iter().find_map(|word| self.subject.strip_prefix(word));
        is_of_gpus.then(|| name.unwrap_or(&self.subject))
    }

    /// What is wrong, beside [`gpu`](Self::gpu).
    #[must_use]
    pub fn without_gpu(&self) -> &str {
        let short = self.gpu().and_then(|_| self.title.strip_prefix(&*self.subject));
        short.map(str::trim).filter(|short| !short.is_empty()).unwrap_or(&self.title)
    }
}

/// A text of at most [`MAX_WORD`] bytes.
fn clipped(text: &str) -> String {
    bounded(text, MAX_WORD).to_owned()
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
