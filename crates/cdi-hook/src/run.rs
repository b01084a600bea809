//! Runs a hook.

use std::io::Read;

use crate::error::HookError;
use crate::hook::{Hook, Host};
use crate::oci::{Container, StateSource};
use crate::root::ContainerRoot;
use crate::{
    application_profile, chmod, create_symlinks, cuda_compat, device_node_modification, ldcache,
    memory_limits,
};

/// Runs a hook for the container whose state a runtime hands over, and returns what somebody who
/// looks into a problem would like to know.
///
/// # Errors
/// The hook could not do its work: the container must not be started.
pub fn run(
    hook: &Hook,
    state: StateSource,
    input: &mut dyn Read,
    host: &Host,
) -> Result<Vec<String>, HookError> {
    let container = Container::read(state, input)?;
    if let Hook::ApplyCudaMemoryLimits(limits) = hook {
        memory_limits::apply(limits, container.pid()?, host)?;
        let without = limits.is_empty().then(|| {
            "no --limit is given, and what the container's environment says does not count: \
             nothing is limited"
                .to_owned()
        });
        return Ok(without.into_iter().collect());
    }
    let path = container.root()?;
    let root = ContainerRoot::open(&path).map_err(HookError::file("open the root", &path))?;
    match hook {
        Hook::CreateSymlinks(links) => create_symlinks::create(&root, links)?,
        Hook::UpdateLdcache(folders) => return ldcache::update(&root, folders),
        Hook::Chmod { mode, paths } => return chmod::chmod(&root, *mode, paths),
        Hook::EnableCudaCompat { host_driver_major } => {
            cuda_compat::enable(&root, *host_driver_major)?;
        }
        Hook::DisableDeviceNodeModification => device_node_modification::disable(&root)?,
        Hook::UpdateApplicationProfile => application_profile::update(&root)?,
        Hook::ApplyCudaMemoryLimits(_) => {}
    }
    Ok(Vec::new())
}
