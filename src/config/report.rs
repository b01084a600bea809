//! What is said about a configuration: where each value comes from, every mistake, every warning,
//! and the report that an operator reads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag of the command line, by the name without dashes.
    Flag(&'static str),
    /// An environment variable, by name.
    Environment(&'static str),
    /// The config file, by line.
    File {
        /// The line, from 1.
        line: u32,
    },
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { line } => write!(f, "file, line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The origin of each value, by key path (`flags.migStrategy`, `sharing.mps.resources[0].replicas`)
/// or, for what a file cannot hold, by flag.
pub type Origins = BTreeMap<String, Origin>;

/// Something to be said about one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where the value stands.
    pub origin: Origin,
    /// Its key path; empty where it has none.
    pub key: String,
    /// The value, as a message shows it; empty where the remark is not about a value.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// Everything that was found in one reading of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The config file, where there is one.
    pub file: Option<PathBuf>,
    /// What keeps the configuration from being used.
    pub mistakes: Vec<Remark>,
    /// What is ignored or does not do what it seems to.
    pub warnings: Vec<Remark>,
}

impl Report {
    pub(super) fn mistake(
        &mut self,
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.mistakes.push(Remark::new(origin, key, value, problem));
    }

    pub(super) fn warning(
        &mut self,
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.warnings.push(Remark::new(origin, key, value, problem));
    }

    /// File first and by line, then flags and environment: the order in which a person corrects
    /// them.
    pub(super) fn sort(&mut self) {
        let rank = |remark: &Remark| match remark.origin {
            Origin::File { .. } => 0,
            Origin::Flag(_) => 1,
            Origin::Environment(_) => 2,
            Origin::Default => 3,
        };
        for remarks in [&mut self.mistakes, &mut self.warnings] {
            remarks.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
            remarks.dedup();
        }
    }

    /// One line for `remark`, beginning with its place.
    #[must_use]
    pub fn line(&self, remark: &Remark) -> String {
        remark.line(self.file.as_deref())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (remarks, one, many) in
            [(&self.mistakes, "mistake", "mistakes"), (&self.warnings, "warning", "warnings")]
        {
            match remarks.len() {
                0 => continue,
                1 => writeln!(f, "1 {one}:")?,
                count => writeln!(f, "{count} {many}:")?,
            }
            for remark in remarks {
                writeln!(f, "  {}", self.line(remark))?;
            }
        }
        Ok(())
    }
}

impl Remark {
    fn new(
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        let (key, value, problem) = (key.into(), value.into(), problem.into());
        Self { origin, key: clipped(&key), value: clipped(&value), problem }
    }

    fn line(&self, file: Option<&Path>) -> String {
        let place = match (&self.origin, file) {
            (Origin::File { line }, Some(file)) => format!("{}:{line}", file.display()),
            (origin, _) => origin.to_string(),
        };
        // A flag or variable is its own name; only a file needs the key beside the line.
        let key = if matches!(self.origin, Origin::File { .. } | Origin::Default) {
            self.key.as_str()
        } else {
            ""
        };
        let mut text = place;
        for part in [key, &self.value] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        let joint = if self.value.is_empty() { ": " } else { " " };
        format!("{text}{joint}{}", self.problem)
    }
}

/// Long enough for any honest value, short enough for a log line; control characters do not reach a
/// terminal.
fn clipped(text: &str) -> String {
    const LONGEST: usize = 100;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() <= LONGEST {
        return text.chars().map(clean).collect();
    }
    text.chars().take(LONGEST).map(clean).chain("...".chars()).collect()
}

/// A configuration that cannot be used, with everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Report);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration was refused and nothing of it is in force: {}", self.0)?;
        f.write_str(
            "correct them all and try again; `gpu-device-plugin config check FILE` checks a file \
                and starts nothing",
        )
    }
}

impl std::error::Error for Refused {}
