//! Each GPU, and what is offered of all of them.

mod enumeration;
mod gpu;
mod layout;
mod offered;
mod reserved;
mod running_plugin;

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// The checks of this group.
pub(super) const CHECKS: [fn(&Facts) -> Vec<Finding>; 6] = [
    enumeration::check,
    gpu::check,
    reserved::check,
    layout::check,
    offered::check,
    running_plugin::check,
];
