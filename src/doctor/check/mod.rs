//! One question about the node, answered in one line, for node problem detector's custom plugin
//! monitor: exit code 0 for OK, 1 for NonOK, 2 for Unknown, and a text that it truncates at 80
//! bytes.

mod answer;
mod by_status;
#[cfg(test)]
mod tests;

use status::{Status, escaped};

use super::finding::plural;
pub use answer::{CheckResult, CheckState, Rule};

/// What can be seen without the running plugin's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FallbackFacts {
    /// Why there is no status.
    pub error: String,
    /// Whether NVIDIA's kernel module is loaded.
    pub module: bool,
    /// How many sockets of the plugin are served in the kubelet's directory.
    pub served: usize,
    /// How many NVIDIA devices the kubelet's checkpoint has.
    pub known: Option<usize>,
}

/// Answers by the status of the running plugin, or by what can be seen without it.
#[must_use]
pub fn evaluate(rule: Rule, seen: &Result<Status, FallbackFacts>) -> CheckResult {
    let of = |rule| match seen {
        Ok(status) => by_status::by_status(rule, status),
        Err(facts) => by_fallback(rule, facts),
    };
    match rule {
        Rule::All => worst([Rule::Nvml, Rule::Gpus, Rule::Registration].map(of)),
        rule => of(rule),
    }
}

/// The answer by what can be seen.
fn by_fallback(rule: Rule, facts: &FallbackFacts) -> CheckResult {
    let FallbackFacts { error, module, served, known } = facts;
    match (rule, known) {
        (Rule::Registration, _) if *served == 0 => {
            CheckState::NonOk.with("no GPU plugin is served in the kubelet's directory")
        }
        (Rule::Registration, Some(0) | None) => {
            CheckState::Unknown.with(format!("a plugin is served; {error}"))
        }
        (Rule::Registration, Some(known)) => {
            let known = plural(*known, "device");
            CheckState::Ok.with(format!("a plugin is served, the kubelet has {known}"))
        }
        (Rule::Nvml, _) if !module => {
            CheckState::NonOk.with("NVIDIA's kernel module is not loaded")
        }
        _ => CheckState::Unknown.with(error),
    }
}

/// The worst of the answers; all lines, if all are OK.
fn worst(all: [CheckResult; 3]) -> CheckResult {
    let worst = all.iter().map(|result| result.state).max().unwrap_or(CheckState::Unknown);
    if worst == CheckState::Ok {
        return CheckState::Ok.with(all.map(|result| result.line).join("; "));
    }
    let found = all.into_iter().find(|result| result.state == worst);
    found.unwrap_or_else(|| CheckState::Unknown.with("nothing was checked"))
}

/// One line of at most `longest` bytes, escaped, in whole characters, with dots where it was
/// truncated.
#[must_use]
pub fn truncate(line: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    let line = escaped(line).into_owned();
    if line.len() <= longest {
        return line;
    }
    let room = longest.saturating_sub(DOTS.len());
    let end = (0..=room).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{}", &line[..end], &DOTS[..DOTS.len().min(longest)])
}
