//! The state directory and the state file.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Node;
const ID: &str = "node.state";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some((path, state)) = &facts.node.state else { return Vec::new() };
    let directory = match state.own_directory(path) {
        Ok(seen) => Finding::ok(GROUP, ID, "the state directory", seen),
        Err(seen) => Finding::warning(GROUP, ID, "the state directory", seen)
            .why("a restart of the plugin forgets causes that cannot be determined again")
            .fix(
                "mount a directory of the node at /var/lib/gpu-device-plugin, writable, as the \
                 manifest does, or name another with --state-dir (empty: none)",
            ),
    };
    let file = facts.node.unreadable.as_ref().map(|error| {
        let seen = format!("in {} it cannot be read: {error}", path.display());
        Finding::warning(GROUP, ID, "the state file", seen)
            .why("causes from before are not known")
            .fix("nothing: the plugin sets it aside at its next start, and begins a new one")
    });
    [directory].into_iter().chain(file).collect()
}
