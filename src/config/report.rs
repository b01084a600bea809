//! Where each value comes from, every mistake and every warning, and the report that an operator
//! reads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value comes from, in the order in which a person corrects mistakes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The config file, by line.
    File {
        /// The line, from 1.
        line: u32,
    },
    /// A flag of the command line, by the name without dashes.
    Flag(&'static str),
    /// An environment variable, by name.
    Environment(&'static str),
    /// It is not set.
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

/// A mistake or a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where the value comes from.
    pub origin: Origin,
    /// Its key path; empty where it has none.
    pub key: String,
    /// The value as a message shows it; empty where it is not about a value.
    pub value: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

/// Every mistake and warning in all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigReport {
    /// The config file, where there is one.
    pub file: Option<PathBuf>,
    /// What keeps the configuration from being used.
    pub mistakes: Vec<Diagnostic>,
    /// What is ignored or does not do what it seems to.
    pub warnings: Vec<Diagnostic>,
    /// How many more mistakes there are, beyond what anybody reads.
    pub more_mistakes: usize,
    /// How many more warnings there are.
    pub more_warnings: usize,
}

/// Most mistakes and most warnings that are kept: a file of 1 MiB can have hundreds of thousands.
pub(super) const MOST: usize = 100;

/// The most mistakes in one line: more than that nobody reads in a record of a log.
const IN_LINE: usize = 10;

/// What is collected while the sources are read.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) report: ConfigReport,
    pub(super) origins: Origins,
}

impl Context {
    pub(super) fn mistake(
        &mut self,
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) {
        if self.report.mistakes.len() >= MOST {
            self.report.more_mistakes += 1;
            return;
        }
        self.report.mistakes.push(Diagnostic::new(origin, key, value, problem));
    }

    pub(super) fn warning(
        &mut self,
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) {
        if self.has_all_warnings() {
            self.report.more_warnings += 1;
            return;
        }
        self.report.warnings.push(Diagnostic::new(origin, key, value, problem));
    }

    /// Whether further warnings are only counted, so that their texts are of no use.
    pub(super) fn has_all_warnings(&self) -> bool {
        self.report.warnings.len() >= MOST
    }

    /// A warning about the value of `key`, wherever that comes from.
    pub(super) fn warn_of(
        &mut self,
        key: &str,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) {
        self.warning(self.origin(key), key, value, problem);
    }

    /// The origin of `key`.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

impl ConfigReport {
    /// By origin, each once.
    pub(super) fn sort(&mut self) {
        for diagnostics in [&mut self.mistakes, &mut self.warnings] {
            diagnostics.sort();
            diagnostics.dedup();
        }
    }

    /// How many mistakes there are.
    #[must_use]
    pub fn mistake_count(&self) -> usize {
        self.mistakes.len() + self.more_mistakes
    }

    /// The first mistakes in one line of text, and how many more there are.
    #[must_use]
    pub fn mistakes_in_line(&self) -> String {
        let mut lines: Vec<String> =
            self.mistakes.iter().take(IN_LINE).map(|mistake| self.line(mistake)).collect();
        let more = self.mistake_count() - lines.len();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.join(" | ")
    }

    /// One line for `diagnostic`, beginning with its place.
    #[must_use]
    pub fn line(&self, diagnostic: &Diagnostic) -> String {
        let Diagnostic { origin, key, value, problem } = diagnostic;
        let place = match (origin, &self.file) {
            (Origin::File { line }, Some(file)) => format!("{}:{line}", file.display()),
            (origin, _) => origin.to_string(),
        };
        // A flag or variable is its own name; only a file needs the key beside the line.
        let key = match origin {
            Origin::File { .. } | Origin::Default => key.as_str(),
            Origin::Flag(_) | Origin::Environment(_) => "",
        };
        let parts = [&place, key, value].into_iter().filter(|part| !part.is_empty());
        let joint = if value.is_empty() { ": " } else { " " };
        format!("{}{joint}{problem}", parts.collect::<Vec<_>>().join(": "))
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (diagnostics, more, kind) in [
            (&self.mistakes, self.more_mistakes, "mistake"),
            (&self.warnings, self.more_warnings, "warning"),
        ] {
            match diagnostics.len() + more {
                0 => continue,
                1 => writeln!(f, "1 {kind}:")?,
                count => writeln!(f, "{count} {kind}s:")?,
            }
            for diagnostic in diagnostics {
                writeln!(f, "  {}", self.line(diagnostic))?;
            }
            if more > 0 {
                writeln!(f, "  and {more} more")?;
            }
        }
        Ok(())
    }
}

impl Diagnostic {
    fn new(
        origin: Origin,
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        let (key, value, problem) = (key.into(), value.into(), problem.into());
        Self { origin, key: clipped(&key), value: clipped(&value), problem }
    }
}

/// Long enough for any real value, short enough for a log line; control characters do not reach a
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the configuration was refused and nothing of it is in force: {0}correct them all and try \
     again; `gpu-device-plugin config check FILE` checks a file and starts nothing"
)]
pub struct ConfigError(pub ConfigReport);
