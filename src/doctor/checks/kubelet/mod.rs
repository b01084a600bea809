//! The kubelet's directory and sockets, and which plugins are in it.

mod directory;
mod known;
mod plugin;
mod pod_resources;
mod ready;
mod rival;
mod socket;
mod version;

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// The checks of this group.
pub(super) const CHECKS: [fn(&Facts) -> Vec<Finding>; 8] = [
    directory::check,
    socket::check,
    version::check,
    rival::check,
    plugin::check,
    ready::check,
    known::check,
    pod_resources::check,
];
