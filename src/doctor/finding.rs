//! What the doctor says: one finding for each thing that was checked, and the verdict over all of
//! them.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a finding is about, in the order in which one thing rests on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Flags, environment and file.
    Configuration,
    /// GPUs on the PCI bus, kernel module, device nodes, the NVML library.
    Driver,
    /// Each GPU, and what is made of it.
    Gpus,
    /// The kubelet, its directory, and who else is in it.
    Kubelet,
    /// What brings a GPU into a container.
    Runtime,
    /// The rest of the node.
    Node,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Pods get GPUs, and something about it is lost, or will be missed later.
    Warning,
    /// It could not be checked.
    Unknown,
    /// It keeps GPUs from pods.
    Problem,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that stays: `driver.module`.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// How it came out.
    pub level: Level,
    /// What was checked.
    pub checked: String,
    /// What was seen.
    pub seen: String,
    /// Why that matters; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What mends it; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Finding {
    fn new(
        group: Group,
        level: Level,
        id: &'static str,
        checked: &str,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            id,
            group,
            level,
            checked: checked.to_owned(),
            seen: clean(seen.into()),
            why: String::new(),
            fix: String::new(),
        }
    }

    /// All is well.
    #[must_use]
    pub fn ok(group: Group, id: &'static str, checked: &str, seen: impl Into<String>) -> Self {
        Self::new(group, Level::Ok, id, checked, seen)
    }

    /// It works, with something to be said.
    #[must_use]
    pub fn warning(group: Group, id: &'static str, checked: &str, seen: impl Into<String>) -> Self {
        Self::new(group, Level::Warning, id, checked, seen)
    }

    /// It keeps GPUs from pods.
    #[must_use]
    pub fn problem(group: Group, id: &'static str, checked: &str, seen: impl Into<String>) -> Self {
        Self::new(group, Level::Problem, id, checked, seen)
    }

    /// It could not be checked.
    #[must_use]
    pub fn unknown(group: Group, id: &'static str, checked: &str, seen: impl Into<String>) -> Self {
        Self::new(group, Level::Unknown, id, checked, seen)
    }

    /// The same, with why it matters.
    #[must_use]
    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// The same, with what mends it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// Much of what is seen is text of others: it shall not steer the terminal.
fn clean(text: String) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing keeps GPUs from pods.
    Fine,
    /// Something does.
    Problems,
    /// Nothing was found that does, and not all could be checked.
    Unchecked,
}

impl Verdict {
    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Problems => 1,
            Self::Unchecked => 2,
        }
    }
}

/// All findings, in the order of their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of these findings.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.group);
        Self { findings }
    }

    /// How many findings there are of each level.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Level, usize> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.level).or_default() += 1;
        }
        counts
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Problem) => Verdict::Problems,
            Some(Level::Unknown) => Verdict::Unchecked,
            _ => Verdict::Fine,
        }
    }

    /// The problem to begin with: what comes later may only follow from it.
    #[must_use]
    pub fn first_problem(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.level == Level::Problem)
    }
}
