//! The rest of the node: inotify, the clock, and the plugin's own directories.

mod clock;
mod inotify;
mod quarantine;
mod state;

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// The checks of this group.
pub(super) const CHECKS: [fn(&Facts) -> Vec<Finding>; 4] =
    [inotify::check, clock::check, state::check, quarantine::check];
