//! What the log says of findings about the layout: each once when it appears, and once when it is
//! over.

use device::inventory::Changes;
use tracing::{info, warn};

/// One line for each finding that came or went.
pub(super) fn log(changes: &Changes) {
    for finding in &changes.found {
        warn!("{finding}");
    }
    for finding in &changes.settled {
        info!("no longer so: {finding}");
    }
}
