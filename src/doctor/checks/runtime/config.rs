//! Whether the configuration of container runtimes can be read.

use super::strategies::runtimes_in_use;
use crate::doctor::facts::{ContainerRuntime, Facts};
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    runtimes_in_use(facts).into_iter().filter_map(unreadable).collect()
}

fn unreadable(runtime: &ContainerRuntime) -> Option<Finding> {
    let error = runtime.problem.clone()?;
    Some(
        Finding::unknown(Group::Runtime, "runtime.config", runtime.name, error)
            .why("it cannot be checked, and perhaps the runtime cannot read it either")
            .fix("correct the file, or run the doctor where it can read it"),
    )
}
