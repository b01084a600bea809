//! Devices and instances as one call sees them: found by handle, or looked up to get a handle.

use std::str::FromStr;
use std::sync::Arc;

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::enumeration::{Enumerated, identity, is_usable};
use super::gate::{Passed, Subject, pass};
use super::{Driver, lock};
use crate::code::{Answer, Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::handles::Target;
use crate::state::{Gpu, Mig, MigDevice, State};

/// A GPU or a MIG device.
pub(crate) struct Device {
    state: Arc<State>,
    /// The GPU's place in the file.
    gpu: usize,
    mig: Option<usize>,
    /// Of the GPU.
    index: usize,
    pub(crate) said: Said,
}

/// What a rule has a function answer in place of the truth.
#[derive(Default)]
pub(crate) struct Said(pub(super) Option<String>);

impl Said {
    pub(crate) fn text<'a>(&'a self, truth: &'a str) -> &'a str {
        self.0.as_deref().unwrap_or(truth)
    }

    pub(crate) fn number<T: FromStr>(&self, truth: T) -> T {
        self.0.as_ref().and_then(|said| said.parse().ok()).unwrap_or(truth)
    }
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
    /// Index of the GPU.
    pub(crate) gpu: usize,
    /// UUID of the MIG device, if it is one.
    pub(crate) mig: Option<String>,
}

/// How a look-up goes about it (nvml.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// It speaks of the GPU that it finds.
    Target,
    /// It initialises GPU after GPU until it finds the one, and fails if any GPU is lost.
    All,
}

/// A call on the handle of a GPU or a MIG device.
pub(crate) fn on_device(
    function: &str,
    handle: nvmlDevice_t,
    body: impl FnOnce(&Device) -> Answer,
) -> Answer {
    let passed = pass(function, |driver, state| {
        let (mut subject, index, target) = resolve(driver, state, handle)?;
        subject.mig = match target {
            Target::Gpu => None,
            Target::Mig(_) if subject.lost => None,
            Target::Mig(uuid) => Some(mig_place(state, subject.gpu, &uuid).ok_or(NOT_FOUND)?),
            Target::GpuInstance(_) | Target::ComputeInstance { .. } => {
                return Err(INVALID_ARGUMENT);
            }
        };
        let found = (subject.gpu.ok_or(GPU_IS_LOST)?, subject.mig, index);
        Ok((subject, found))
    })?;
    let Passed { state, found: (gpu, mig, index), value } = passed;
    body(&Device { state, gpu, mig, index, said: Said(value) })
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
    let passed = pass(function, |driver, state| {
        let (subject, index, target) = resolve(driver, state, handle)?;
        let (gpu_instance, compute_instance) = match target {
            Target::GpuInstance(id) => (id, None),
            Target::ComputeInstance { gpu_instance, id } => (gpu_instance, Some(id)),
            Target::Gpu | Target::Mig(_) => return Err(INVALID_ARGUMENT),
        };
        let found = (subject.gpu.ok_or(GPU_IS_LOST)?, index, gpu_instance, compute_instance);
        Ok((subject, found))
    })?;
    let Passed { state, found: (gpu, index, gpu_instance, compute_instance), value } = passed;
    let device = Device { state, gpu, mig: None, index, said: Said(value) };
    let exists = device.mig_devices().any(|(_, device)| {
        device.gpu_instance == gpu_instance
            && compute_instance.is_none_or(|id| device.compute_instance == id)
    });
    if !exists {
        return Err(NOT_FOUND);
    }
    body(&Instance { device, gpu_instance, compute_instance })
}

/// Looks a device up among the GPUs that are enumerated, and answers its handle.
pub(crate) fn look_up(
    function: &str,
    search: Search,
    find: impl Fn(&State, &[Enumerated]) -> Result<Sought, Code>,
) -> Result<nvmlDevice_t, Code> {
    let passed = pass(function, |driver, state| {
        let gpus = driver.enumeration(state);
        let sought = find(state, &gpus);
        let index = sought.as_ref().map(|sought| sought.gpu);
        let found = index.ok().and_then(|index| gpus.get(index));
        let mut subject = Subject {
            gpu: found.and_then(|gpu| gpu.place),
            lost: found.is_some_and(|gpu| gpu.lost),
            ..Subject::default()
        };
        if search == Search::All {
            let searched = &gpus[..index.unwrap_or(gpus.len())];
            subject.touched = searched.iter().filter_map(|gpu| gpu.place).collect();
            subject.lost = gpus.iter().any(|gpu| gpu.lost);
        }
        let handle = sought.map(|sought| {
            subject.mig = sought.mig.as_ref().and_then(|uuid| mig_place(state, subject.gpu, uuid));
            let target = sought.mig.map_or(Target::Gpu, Target::Mig);
            let identity = &gpus[sought.gpu].identity;
            driver.handles.of(identity, target, is_usable(state, identity))
        });
        Ok((subject, handle))
    })?;
    passed.found
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
        let own = |place| self.mig_devices().nth(place).map(|(index, _)| index);
        self.mig.and_then(own).unwrap_or(self.index)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The MIG devices of the GPU with their MIG indices; none while MIG mode is off.
    pub(crate) fn mig_devices(&self) -> impl Iterator<Item = (usize, &MigDevice)> {
        let devices =
            self.gpu().mig.iter().filter(|mig| mig.enabled).flat_map(|mig: &Mig| &mig.devices);
        devices
            .enumerate()
            .map(|(place, device)| (device.index.map_or(place, |own| own as usize), device))
    }

    /// The return code that rules ask of a field value.
    pub(crate) fn field_code(&self, field: u32) -> Option<Code> {
        lock().field_code(&self.gpu().uuid, &self.gpu().rules, field)
    }

    /// The handle of the GPU or of something on it.
    pub(crate) fn handle_of<T>(&self, target: Target) -> *mut T {
        let identity = self.identity();
        lock().handles.of(&identity, target, is_usable(&self.state, &identity))
    }

    pub(super) fn identity(&self) -> String {
        identity(&self.state, self.gpu)
    }
}

/// What a handle stands for, and the index of its GPU.
fn resolve<T>(
    driver: &Driver,
    state: &State,
    handle: *mut T,
) -> Result<(Subject, usize, Target), Code> {
    let entry = driver.handles.get(handle).ok_or(INVALID_ARGUMENT)?;
    let gpus = driver.enumeration(state);
    let index = gpus.iter().position(|gpu| gpu.identity == entry.gpu).ok_or(GPU_IS_LOST)?;
    let lost = gpus[index].lost || entry.dead;
    let subject = Subject { gpu: gpus[index].place, lost, ..Subject::default() };
    Ok((subject, index, entry.target.clone()))
}

fn mig_place(state: &State, gpu: Option<usize>, uuid: &str) -> Option<usize> {
    let mig = state.gpus.get(gpu?)?.mig.as_ref().filter(|mig| mig.enabled)?;
    mig.devices.iter().position(|device| device.uuid == uuid)
}
