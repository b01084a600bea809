//! What the log says of findings about the layout: each once when it appears, and once when it is
//! over.

use device::inventory::InventoryChanges;
use tracing::{info, warn};

/// One line for each finding that came or went.
pub(super) fn log(changes: &InventoryChanges) {
    for finding in &changes.new_findings {
        warn!("{finding}");
    }
    for finding in &changes.resolved_findings {
        info!("no longer so: {finding}");
    }
}
