//! What is not offered as one would expect.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    let why =
        format!("MIG strategy {}: what is not offered, no pod gets", facts.settings.mig_strategy);
    let finding = |finding: &String| {
        Finding::problem(Group::Gpus, "gpus.layout", "how the GPUs are offered", finding)
            .why(why.clone())
            .fix("what the line says")
    };
    answer.findings.iter().map(finding).collect()
}
