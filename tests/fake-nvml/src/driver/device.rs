//! Devices and instances as one call sees them: found by handle, or looked up to get a handle.

use std::sync::Arc;

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::gate::{Subject, pass};
use super::{Driver, enumerated, lock, usable};
use crate::code::{Answer, Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::handles::Target;
use crate::state::{Gpu, Mig, MigDevice, State};

/// A GPU or a MIG device.
pub(crate) struct Device {
    state: Arc<State>,
    gpu: usize,
    mig: Option<usize>,
}

/// A GPU instance, or a compute instance on it.
pub(crate) struct Instance {
    /// The GPU it is on.
    pub(crate) device: Device,
    pub(crate) gpu_instance: u32,
    /// None for a GPU instance.
    pub(crate) compute_instance: Option<u32>,
}

/// What a look-up found.
pub(crate) struct Sought {
    /// GpuLocation of the GPU in the file.
    pub(crate) gpu: usize,
    /// UUID of the MIG device, if it is one.
    pub(crate) mig: Option<String>,
    /// Found by its index, which a lost GPU keeps.
    pub(crate) by_index: bool,
}

/// A call on the handle of a GPU or a MIG device.
pub(crate) fn on_device(
    function: &str,
    handle: nvmlDevice_t,
    body: impl FnOnce(&Device) -> Answer,
) -> Answer {
    let (state, (gpu, mig)) = pass(function, |driver, state| {
        let (mut subject, target) = resolve(driver, state, handle)?;
        subject.mig = match target {
            Target::Gpu => None,
            Target::Mig(_) if subject.lost => None,
            Target::Mig(uuid) => Some(mig_place(state, subject.gpu, &uuid).ok_or(NOT_FOUND)?),
            Target::GpuInstance(_) | Target::ComputeInstance { .. } => {
                return Err(INVALID_ARGUMENT);
            }
        };
        let found = (subject.gpu.ok_or(GPU_IS_LOST)?, subject.mig);
        Ok((subject, found))
    })?;
    body(&Device { state, gpu, mig })
}

/// A call that answers for a physical GPU alone, not for a MIG device.
pub(crate) fn on_gpu(
    function: &str,
    handle: nvmlDevice_t,
    body: impl FnOnce(&Device) -> Answer,
) -> Answer {
    on_device(function, handle, |device| match device.mig() {
        None => body(device),
        Some(_) => Err(NOT_SUPPORTED),
    })
}

/// A call on the handle of a GPU instance or a compute instance.
pub(crate) fn on_instance<T>(
    function: &str,
    handle: *mut T,
    body: impl FnOnce(&Instance) -> Answer,
) -> Answer {
    let (state, (gpu, gpu_instance, compute_instance)) = pass(function, |driver, state| {
        let (subject, target) = resolve(driver, state, handle)?;
        let (gpu_instance, compute_instance) = match target {
            Target::GpuInstance(id) => (id, None),
            Target::ComputeInstance { gpu_instance, id } => (gpu_instance, Some(id)),
            Target::Gpu | Target::Mig(_) => return Err(INVALID_ARGUMENT),
        };
        let found = (subject.gpu.ok_or(GPU_IS_LOST)?, gpu_instance, compute_instance);
        Ok((subject, found))
    })?;
    let device = Device { state, gpu, mig: None };
    let exists = device.mig_devices().any(|device| {
        device.gpu_instance == gpu_instance
            && compute_instance.is_none_or(|id| device.compute_instance == id)
    });
    if !exists {
        return Err(NOT_FOUND);
    }
    body(&Instance { device, gpu_instance, compute_instance })
}

/// Looks a device up and answers its handle.
pub(crate) fn look_up(
    function: &str,
    find: impl Fn(&State) -> Result<Sought, Code>,
) -> Result<nvmlDevice_t, Code> {
    let (_, handle) = pass(function, |driver, state| {
        let sought = find(state)?;
        let gpu = state.gpus.get(sought.gpu).ok_or(NOT_FOUND)?;
        let subject = Subject {
            gpu: Some(sought.gpu),
            mig: sought.mig.as_ref().and_then(|uuid| mig_place(state, Some(sought.gpu), uuid)),
            lost: gpu.lost && !sought.by_index,
        };
        let target = sought.mig.map_or(Target::Gpu, Target::Mig);
        Ok((subject, driver.handles.of(&gpu.uuid, target, usable(state, &gpu.uuid))))
    })?;
    Ok(handle)
}

impl Device {
    /// The GPU, or the one that the MIG device is on.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.state.gpus[self.gpu]
    }

    /// The MIG device, if it is one.
    pub(crate) fn mig(&self) -> Option<&MigDevice> {
        self.gpu().mig.as_ref()?.devices.get(self.mig?)
    }

    /// NVML's index: of the GPU on the node, or of the MIG device on the GPU.
    pub(crate) fn index(&self) -> usize {
        self.mig.unwrap_or_else(|| {
            enumerated(&self.state).take_while(|(place, _)| *place < self.gpu).count()
        })
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The MIG devices of the GPU; none while MIG mode is off.
    pub(crate) fn mig_devices(&self) -> impl Iterator<Item = &MigDevice> {
        self.gpu().mig.iter().filter(|mig| mig.enabled).flat_map(|mig: &Mig| &mig.devices)
    }

    /// The handle of the GPU or of something on it.
    pub(crate) fn handle_of<T>(&self, target: Target) -> *mut T {
        lock().handles.of(&self.gpu().uuid, target, usable(&self.state, &self.gpu().uuid))
    }
}

/// What a handle stands for, and the place of its GPU.
fn resolve<T>(driver: &Driver, state: &State, handle: *mut T) -> Result<(Subject, Target), Code> {
    let entry = driver.handles.get(handle).ok_or(INVALID_ARGUMENT)?;
    let (gpu, lost) = enumerated(state)
        .find(|(_, gpu)| gpu.uuid == entry.gpu)
        .map(|(place, gpu)| (place, gpu.lost))
        .ok_or(GPU_IS_LOST)?;
    Ok((Subject { gpu: Some(gpu), mig: None, lost: lost || entry.dead }, entry.target.clone()))
}

fn mig_place(state: &State, gpu: Option<usize>, uuid: &str) -> Option<usize> {
    let mig = state.gpus.get(gpu?)?.mig.as_ref().filter(|mig| mig.enabled)?;
    mig.devices.iter().position(|device| device.uuid == uuid)
}
