//! Gives up what root may do and a hook does not need.

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

use crate::error::HookError;

/// Keeps these capabilities, as far as the process has them, and gives up all others for good.
///
/// # Errors
/// The kernel refuses it.
pub fn keep(wanted: CapabilitySet) -> Result<(), HookError> {
    // A runtime's own mask decides nothing about what is made in a container.
    umask(Mode::WGRP | Mode::WOTH);
    drop_all_but(wanted).map_err(|error| HookError::Privileges(error.into()))
}

fn drop_all_but(wanted: CapabilitySet) -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let kept = capabilities(None)?.permitted & wanted;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })
}
