//! The outcome of a check, and of all.

use serde::Serialize;

/// What a finding is about, in an order in which one thing depends on those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Flags, environment and file.
    Configuration,
    /// GPUs on the PCI bus, kernel module, device nodes, the NVML library.
    Driver,
    /// Each GPU, and what is offered of it.
    Gpus,
    /// The kubelet, its directory, and the plugins in it.
    Kubelet,
    /// What brings a GPU into a container.
    Runtime,
    /// The rest of the node.
    Node,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Pods get GPUs, and something is missing, or may fail later.
    Warning,
    /// It could not be checked.
    Unknown,
    /// It keeps GPUs from pods.
    Problem,
}

/// The outcome of one check. The field names and `id` are stable: programs read them as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, such as `driver.module`.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// How serious it is.
    pub level: Level,
    /// What was checked.
    pub checked: String,
    /// What was seen.
    pub seen: String,
    /// Why that matters; empty where it is as it should be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What fixes it; empty where it is as it should be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// The id of the problem that it follows from: correcting that one corrects it too.
    #[serde(rename = "followsFrom", skip_serializing_if = "Option::is_none")]
    pub follows: Option<&'static str>,
}

/// What a check is about. Its id is stable, as programs read it as JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check<'c> {
    group: Group,
    id: &'static str,
    /// What is checked, in words.
    checked: &'c str,
}

impl<'c> Check<'c> {
    pub(super) const fn new(group: Group, id: &'static str, checked: &'c str) -> Self {
        Self { group, id, checked }
    }

    /// It is as it should be.
    pub(super) fn ok(self, seen: impl Into<String>) -> Finding {
        self.finding(Level::Ok, seen)
    }

    /// Pods get GPUs, and something is missing, or may fail later.
    pub(super) fn warning(self, seen: impl Into<String>) -> Finding {
        self.finding(Level::Warning, seen)
    }

    /// It keeps GPUs from pods.
    pub(super) fn problem(self, seen: impl Into<String>) -> Finding {
        self.finding(Level::Problem, seen)
    }

    /// It could not be checked.
    pub(super) fn unknown(self, seen: impl Into<String>) -> Finding {
        self.finding(Level::Unknown, seen)
    }

    pub(super) fn finding(self, level: Level, seen: impl Into<String>) -> Finding {
        let Self { group, id, checked } = self;
        let seen = seen.into();
        let (checked, why, fix) = (checked.to_owned(), String::new(), String::new());
        Finding { id, group, level, checked, seen, why, fix, follows: None }
    }
}

impl Finding {
    /// The same, with why it matters.
    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// The same, with what fixes it.
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// The result of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing keeps GPUs from pods.
    Fine = 0,
    /// Something does.
    Problems = 1,
    /// Nothing was found that does, and not everything could be checked.
    Unchecked = 2,
}

impl Verdict {
    /// The exit code of the subcommand.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// All findings, in the order of their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings there are of a level, without those that follow from another.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        let is_counted = |of: &&Finding| of.level == level && of.follows.is_none();
        self.findings.iter().filter(is_counted).count()
    }

    /// How many findings follow from others.
    #[must_use]
    pub fn consequences(&self) -> usize {
        self.findings.iter().filter(|finding| finding.follows.is_some()).count()
    }

    /// The result of all checks.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Problem) => Verdict::Problems,
            Some(Level::Unknown) => Verdict::Unchecked,
            _ => Verdict::Fine,
        }
    }

    /// The problem to begin with: later ones may only follow from it.
    #[must_use]
    pub fn first_problem(&self) -> Option<&Finding> {
        let is_first = |of: &&Finding| of.level == Level::Problem && of.follows.is_none();
        self.findings.iter().find(is_first)
    }
}

/// A number of things: "1 GPU", "2 GPUs".
pub(super) fn plural(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
