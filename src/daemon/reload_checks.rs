//! Why a configuration without mistakes cannot be in force on this node.

use anyhow::bail;
use device::injection::HostNodes;
use device::inventory::Inventory;
use device::layout::{Layout, LayoutFinding};

use crate::config::Config;
use crate::host::device_nodes::Roots;

/// Refuses a layout with a list of devices that is too large for the kubelet.
pub(super) fn check_list_sizes(inventory: &Inventory, layout: &Layout) -> anyhow::Result<()> {
    for finding in inventory.preview_layout(layout).findings {
        if let LayoutFinding::ListTooLarge { resource, why } = finding {
            bail!("the sharing of {resource} {why}");
        }
    }
    Ok(())
}

/// Refuses a configuration that requires what the host, read below these roots, does not have.
pub(super) fn check_host(config: &Config, host: &HostNodes, roots: &Roots) -> anyhow::Result<()> {
    if config.requires_imex_channel() && !host.imex_channel {
        bail!(
            "imex.required is set and the host has no IMEX channel 0: no character device {} in {} \
             nor in our own container; create it (nvidia-modprobe -c 0), or do not require it",
            device::injection::IMEX_CHANNEL,
            roots.driver.display()
        );
    }
    Ok(())
}
