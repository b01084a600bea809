//! GPUs that the setting `devices` reserves for the system.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    answer.reserved.iter().map(|(gpu, why)| reserved(gpu, why)).collect()
}

fn reserved(gpu: &str, why: &str) -> Finding {
    let seen = format!("{gpu} is not offered: {why}");
    Finding::warning(Group::Gpus, "gpus.reserved", "reserved GPUs", seen)
        .why("the setting `devices` reserves it for the system")
        .fix("change --devices (environment DEVICES, file key devices) if pods are to get it")
}
