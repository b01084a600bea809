//! The PCI bus, the kernel module, NVML and the device nodes.

mod bus;
mod module;
mod nodes;
mod nvml;
mod versions;

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// The checks of this group.
pub(super) const CHECKS: [fn(&Facts) -> Vec<Finding>; 5] =
    [bus::check, module::check, nvml::check, versions::check, nodes::check];
