//! Whether there is a container runtime.

use super::strategies::runtimes_in_use;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if !runtimes_in_use(facts).is_empty() {
        return Vec::new();
    }
    let seen = format!("no sign of one below {}", facts.settings.host_root.display());
    vec![
        Finding::unknown(Group::Runtime, "runtime.found", "the container runtime", seen)
            .why("the plugin names GPUs, and the container runtime brings them into the container")
            .fix("name the place where the host's root is mounted with --host-root"),
    ]
}
