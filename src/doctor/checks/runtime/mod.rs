//! Whether what Allocate answers becomes a GPU in the container: through NVIDIA's container
//! runtime, or CDI.

mod cdi;
mod config;
mod found;
mod handler;
mod kubelet;
mod mps;
mod spec;
mod specs;
mod strategies;
mod toolkit;

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// The checks of this group.
pub(super) const CHECKS: [fn(&Facts) -> Vec<Finding>; 9] = [
    found::check,
    config::check,
    handler::check,
    cdi::check,
    toolkit::check,
    spec::check,
    specs::check,
    kubelet::check,
    mps::check,
];
