//! The outcome of a check.

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
            seen: without_control_characters(seen.into()),
            why: String::new(),
            fix: String::new(),
        }
    }

    /// It is as it should be.
    #[must_use]
    pub fn ok(group: Group, id: &'static str, checked: &str, seen: impl Into<String>) -> Self {
        Self::new(group, Level::Ok, id, checked, seen)
    }

    /// Pods get GPUs, and something is missing, or may fail later.
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

    /// The same, with what fixes it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// Replaces control characters: much of what is seen is text from elsewhere, and must not control
/// the terminal.
fn without_control_characters(text: String) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
