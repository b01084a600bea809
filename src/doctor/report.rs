//! All findings, and what they come to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::finding::{Finding, Level};

/// The result of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing keeps GPUs from pods.
    Fine,
    /// Something does.
    Problems,
    /// Nothing was found that does, and not everything could be checked.
    Unchecked,
}

impl Verdict {
    /// The exit code of the subcommand.
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
