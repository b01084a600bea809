//! The device files that NVML holds open from `nvmlInit` to `nvmlShutdown`.

use std::os::fd::OwnedFd;

use crate::state::State;
use crate::sys;

/// Opens the control device and those of the GPUs that answer. One that is not there is left out.
pub(super) fn open(state: &State) -> Vec<OwnedFd> {
    let Some(dev) = &state.driver.dev_root else { return Vec::new() };
    let gpus = state.gpus.iter().filter(|gpu| gpu.present && !gpu.lost);
    let names = gpus.map(|gpu| format!("nvidia{}", gpu.minor));
    let names = std::iter::once("nvidiactl".to_owned()).chain(names);
    names.filter_map(|name| sys::open_path(&dev.join(name)).ok()).collect()
}
