//! The checks, by what they look at. All are pure.

mod configuration;
mod driver;
mod gpus;
mod kubelet;
mod node;
mod runtime;

#[cfg(test)]
pub(super) use runtime::of_runtimes;

use super::facts::Facts;
use super::finding::{Finding, Report};

/// All checks, in an order in which one thing depends on those before it.
const CHECKS: [fn(&Facts) -> Vec<Finding>; 6] =
    [configuration::check, driver::check, gpus::check, kubelet::check, runtime::check, node::check];

/// Runs all checks.
#[must_use]
pub fn examine(facts: &Facts) -> Report {
    Report { findings: CHECKS.iter().flat_map(|check| check(facts)).collect() }
}
