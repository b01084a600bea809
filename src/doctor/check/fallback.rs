//! Answers without the running plugin's status.

use super::result::CheckResult;
use super::rule::Rule;
use crate::doctor::finding::plural;

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

/// The answer by what can be seen.
pub(super) fn by_fallback(rule: Rule, facts: &FallbackFacts) -> CheckResult {
    let FallbackFacts { error, module, served, known } = facts;
    match (rule, served, known) {
        (Rule::Registration, 0, _) => {
            CheckResult::non_ok("no GPU plugin is served in the kubelet's directory".to_owned())
        }
        (Rule::Registration, _, Some(0) | None) => {
            CheckResult::unknown(format!("a plugin is served; {error}"))
        }
        (Rule::Registration, _, Some(known)) => CheckResult::ok(format!(
            "a plugin is served, the kubelet has {}",
            plural(*known, "device")
        )),
        (Rule::Nvml, ..) if !module => {
            CheckResult::non_ok("NVIDIA's kernel module is not loaded".to_owned())
        }
        _ => CheckResult::unknown(error.clone()),
    }
}
