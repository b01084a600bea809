//! One question about the node, answered in one line, for node problem detector's custom plugin
//! monitor: exit code 0 for OK, 1 for NonOK, 2 for Unknown, and a text that it truncates at 80
//! bytes.

mod answer;
mod by_status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use status::{Status, bounded, escaped};

use super::facts::SocketProbe;
use super::finding::plural;
pub use answer::{CheckResult, CheckState, Rule};

/// What can be seen without the running plugin's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackFacts {
    /// Why there is no status.
    pub error: String,
    /// Whether NVIDIA's kernel module is loaded; `None`: procfs cannot be seen.
    pub module: Option<bool>,
    /// Why the kubelet's directory cannot be read.
    pub directory: Option<String>,
    /// The parts of the names of the plugin's sockets that stand for their resources, of those that
    /// answer in that directory.
    pub served: Vec<String>,
    /// The plugin's sockets there on which a program listens that does not answer in time.
    pub silent: Vec<String>,
    /// The sockets of other plugins for the same resources, of those that answer there.
    pub rivals: Vec<String>,
    /// The kubelet's socket; `None`: the plugin is configured never to register.
    pub registration: Option<SocketProbe>,
    /// How many devices of each resource the kubelet can allocate; or why it cannot be asked.
    pub allocatable: Result<BTreeMap<String, usize>, String>,
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

/// The answer by what can be seen: what cannot be seen is neither yes nor no.
fn by_fallback(rule: Rule, facts: &FallbackFacts) -> CheckResult {
    match (rule, facts.module) {
        (Rule::Registration, _) => registration(facts),
        (Rule::Nvml, Some(false)) => CheckState::NonOk.with("NVIDIA's kernel module is not loaded"),
        _ => CheckState::Unknown.with(&facts.error),
    }
}

fn registration(facts: &FallbackFacts) -> CheckResult {
    if let Some(error) = &facts.directory {
        return CheckState::Unknown.with(format!("the kubelet's directory: {error}"));
    }
    // A program that hangs looks like one that has no time.
    if let (true, Some(silent)) = (facts.served.is_empty(), facts.silent.first()) {
        return CheckState::Unknown
            .with(format!("a plugin listens, and does not answer: {silent}"));
    }
    if facts.served.is_empty() {
        return CheckState::NonOk.with("no GPU plugin is served in the kubelet's directory");
    }
    if matches!(facts.registration, Some(SocketProbe::Missing | SocketProbe::Refused)) {
        return CheckState::NonOk.with("a plugin is served, and no kubelet listens");
    }
    let allocatable = match &facts.allocatable {
        Ok(allocatable) => allocatable,
        Err(error) => {
            return CheckState::Unknown.with(format!("a plugin is served; podresources: {error}"));
        }
    };
    // Other plugins have resources of NVIDIA's domain too.
    let is_ours = |name: &&String| {
        facts.served.iter().any(|served| name.rsplit('/').next() == Some(served.as_str()))
    };
    let mut served: Vec<&String> = facts.served.iter().collect();
    served.sort_unstable();
    if let Some(twice) = served.windows(2).find(|pair| pair[0] == pair[1]) {
        return CheckState::NonOk.with(format!("two plugins serve \"{}\" on this node", twice[0]));
    }
    if let Some(rival) = facts.rivals.first() {
        return CheckState::NonOk.with(format!("another plugin serves the same at {rival}"));
    }
    match allocatable.keys().filter(is_ours).map(|name| allocatable[name]).sum() {
        0 => CheckState::NonOk.with("a plugin is served, the kubelet can allocate none of it"),
        devices => {
            let devices = plural(devices, "device");
            CheckState::Ok.with(format!("a plugin is served, the kubelet can allocate {devices}"))
        }
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
    let start = bounded(&line, longest.saturating_sub(DOTS.len()));
    format!("{start}{}", &DOTS[..DOTS.len().min(longest)])
}
