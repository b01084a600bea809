//! All findings, and what they come to.

use serde::Serialize;

use super::finding::{Finding, Level};

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
    /// How many findings there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
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
        self.findings.iter().find(|finding| finding.level == Level::Problem)
    }
}
