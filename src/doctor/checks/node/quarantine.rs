//! The quarantine directory.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Node;
const ID: &str = "node.quarantine";
const CHECKED: &str = "the quarantine directory";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some((path, state)) = &facts.node.quarantine else { return Vec::new() };
    vec![match state.own_directory(path) {
        Ok(seen) => Finding::ok(GROUP, ID, CHECKED, seen),
        Err(seen) => Finding::warning(GROUP, ID, CHECKED, seen)
            .why("files that quarantine GPUs cannot be put there")
            .fix(
                "mount a directory of the node at /var/lib/gpu-device-plugin, writable, as the \
                 manifest does, or name another with --quarantine-dir (empty: none)",
            ),
    }]
}
