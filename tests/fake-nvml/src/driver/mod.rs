//! The driver as one process sees it: the gate that every call goes through, and what stands behind
//! it.
//!
//! One lock guards it all. It is held for a look at the state and never while a call waits or
//! hangs.

mod device;
mod file;
mod gate;
mod session;
mod standing;
mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

pub(crate) use device::{Device, Instance, Sought, look_up, on_device, on_gpu, on_instance};
pub(crate) use session::{init, on_node, shutdown};
pub(crate) use standing::{Why, standing};
pub(crate) use wait::{create_set, free_set, register, wait};

use crate::events::EventSet;
use crate::handles::Handles;
use crate::state::{Gpu, State};
use file::StateFile;
use standing::Standing;

/// What a process has of the driver.
#[derive(Default)]
struct Driver {
    file: StateFile,
    handles: Handles,
    /// `nvmlInit` calls not yet undone.
    inits: u32,
    /// `driver.generation` at the first of them.
    generation: u64,
    /// The driver was unloaded since then; only a shutdown and a new init help.
    unloaded: bool,
    /// The highest sequence number of an event that was looked at.
    seen: u64,
    /// Event sets by the number that is their handle.
    sets: BTreeMap<usize, EventSet>,
    /// Event sets made so far.
    sets_made: usize,
    standing: Standing,
}

static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, Driver> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Looks at the file. Every call does, so that a change counts from the next call on.
    fn refresh(&mut self) {
        if self.file.refresh() {
            let state = self.state();
            self.unloaded |= !state.driver.loaded || state.driver.generation != self.generation;
            self.handles.kill(|uuid| !usable(&state, uuid));
            self.hand_out(&state);
        }
    }

    /// The state in force.
    fn state(&self) -> Arc<State> {
        self.file.last().unwrap_or_default()
    }

    /// Gives the events not seen so far to the sets registered for them; the others are lost.
    fn hand_out(&mut self, state: &State) {
        let mut fresh: Vec<_> = state.events.iter().filter(|event| event.seq > self.seen).collect();
        fresh.sort_by_key(|event| event.seq);
        for event in fresh {
            self.seen = event.seq;
            let usable = usable(state, &event.gpu);
            // A GPU that came back knows nothing of registrations made with its old handle.
            let in_force = |device: usize| {
                let dead = self.handles.get(std::ptr::without_provenance_mut::<()>(device));
                !(usable && dead.is_some_and(|entry| entry.dead))
            };
            for set in self.sets.values_mut() {
                set.offer(event, in_force);
            }
        }
    }

    /// Ends all event sets, and the waits on them.
    fn end_sets(&mut self) {
        self.sets.clear();
    }

    fn wake_of(&self, set: usize) -> Option<Arc<OwnedFd>> {
        self.sets.get(&set).and_then(EventSet::wake)
    }
}

/// The GPU is there and answers.
fn usable(state: &State, uuid: &str) -> bool {
    state.gpus.iter().any(|gpu| gpu.uuid == uuid && gpu.present && !gpu.lost)
}

/// The GPUs that are enumerated, with their place in the file, in NVML's index order.
pub(crate) fn enumerated(state: &State) -> impl Iterator<Item = (usize, &Gpu)> {
    state.gpus.iter().enumerate().filter(|(_, gpu)| gpu.present)
}
