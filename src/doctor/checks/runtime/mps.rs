//! Whether the control daemon of each resource that MPS shares answers.

use super::strategies::runtimes_in_use;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.mps";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match runtimes_in_use(facts).is_empty() {
        true => Vec::new(),
        false => facts.runtimes.mps.iter().map(|(name, answer)| of_daemon(name, answer)).collect(),
    }
}

fn of_daemon(resource: &str, answer: &Result<String, String>) -> Finding {
    let checked = format!("the MPS control daemon of {resource}");
    match answer {
        Ok(percentage) => {
            Finding::ok(GROUP, ID, &checked, format!("answers: {percentage} % of the threads"))
        }
        Err(error) => Finding::problem(GROUP, ID, &checked, error.clone())
            .why(
                "an MPS client without its daemon hangs, so the resource is not offered until the \
                 daemon answers",
            )
            .fix(
                "run NVIDIA's MPS control daemon on the node, and mount its directory at /mps in \
                 the plugin's container",
            ),
    }
}
