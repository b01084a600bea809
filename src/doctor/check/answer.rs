//! The questions, and the answers as node problem detector takes them.

/// A question about the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Is every GPU Healthy?
    Gpus,
    /// Is every resource registered with the kubelet, and watched by it?
    Registration,
    /// Does NVML answer?
    Nvml,
    /// All of these; the worst answer counts.
    All,
}

impl Rule {
    /// The words of the command line.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("gpus", Self::Gpus),
        ("registration", Self::Registration),
        ("nvml", Self::Nvml),
        ("all", Self::All),
    ];
}

/// The answer, worse ones last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It cannot be determined.
    Unknown,
    /// Not as it should be.
    NonOk,
}

impl CheckState {
    /// The exit code that node problem detector expects for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::NonOk => 1,
            Self::Unknown => 2,
        }
    }

    /// This answer, with a line that explains it.
    #[must_use]
    pub fn with(self, line: impl Into<String>) -> CheckResult {
        CheckResult { state: self, line: line.into() }
    }
}

/// The answer with a line that explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The answer.
    pub state: CheckState,
    /// One line about it.
    pub line: String,
}
