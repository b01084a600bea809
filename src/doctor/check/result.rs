//! The answer to a question, as node problem detector takes it.

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
}

/// The answer with a line that explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The answer.
    pub state: CheckState,
    /// One line about it.
    pub line: String,
}

impl CheckResult {
    pub(super) fn ok(line: String) -> Self {
        Self { state: CheckState::Ok, line }
    }

    pub(super) fn non_ok(line: String) -> Self {
        Self { state: CheckState::NonOk, line }
    }

    /// It cannot be determined, for this reason.
    #[must_use]
    pub fn unknown(line: String) -> Self {
        Self { state: CheckState::Unknown, line }
    }
}
