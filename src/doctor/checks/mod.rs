//! The checks: each is a file, and a row in the table of its group.

mod configuration;
mod driver;
mod gpus;
mod kubelet;
mod node;
mod runtime;

use super::facts::Facts;
use super::finding::Finding;
use super::report::Report;

/// Turns facts into findings. Pure; nothing, if there is nothing to check.
type Check = fn(&Facts) -> Vec<Finding>;

/// All checks, in an order in which one thing depends on those before it.
const CHECKS: [&[Check]; 6] = [
    &[configuration::check],
    &driver::CHECKS,
    &gpus::CHECKS,
    &kubelet::CHECKS,
    &runtime::CHECKS,
    &node::CHECKS,
];

/// Runs all checks.
#[must_use]
pub fn examine(facts: &Facts) -> Report {
    Report::new(CHECKS.into_iter().flatten().flat_map(|check| check(facts)).collect())
}
