//! CDI specifications that cannot be read.

use super::strategies::{need_cdi, runtimes_in_use};
use crate::doctor::facts::{CdiSpec, Facts};
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if !need_cdi(&facts.settings.strategies) || runtimes_in_use(facts).is_empty() {
        return Vec::new();
    }
    facts.runtimes.specs.iter().filter_map(unreadable).collect()
}

fn unreadable(spec: &CdiSpec) -> Option<Finding> {
    let error = spec.content.as_ref().err()?;
    let seen = format!("{} cannot be read: {error}", spec.file.display());
    Some(
        Finding::problem(Group::Runtime, "runtime.spec", "CDI specifications", seen)
            .why("a runtime can refuse every CDI device because of one file that it cannot read")
            .fix("correct the file or remove it"),
    )
}
