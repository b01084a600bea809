//! Memory limits of shared GPUs.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Group};

const LIMITS: Check =
    Check::new(Group::Runtime, "runtime.limits", "the memory limits of shared GPUs");

/// What keeps the running plugin from limiting memory, in its own words.
pub(super) fn limits(facts: &Facts) -> impl Iterator<Item = Finding> {
    let told = facts.plugin.iter().flat_map(|status| &status.findings);
    told.filter(|finding| finding.kind == "memory_not_limited").map(|finding| {
        LIMITS
            .warning(&finding.message)
            .why("a replica of a shared GPU can take the memory of the others")
            .fix(
                "do what the line says (docs/cdi.md, \"Memory limits\"), or set enforce: off under \
                 memoryLimits of the config file",
            )
    })
}
