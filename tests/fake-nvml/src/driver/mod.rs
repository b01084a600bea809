//! The driver as one process sees it: the gate that every call goes through, and what stands behind
//! it.
//!
//! One lock guards it all. It is held for a look at the state and never while a call waits or
//! hangs.

mod call;
mod device;
mod enumeration;
mod file;
mod gate;
mod node_files;
mod rules;
mod session;
mod standing;
mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

pub(crate) use device::{
    Device, Instance, Search, Sought, look_up, on_device, on_gpu, on_instance,
};
pub(crate) use enumeration::Enumerated;
pub(crate) use session::{init, on_count, on_node, shutdown};
pub(crate) use standing::{Why, standing};
pub(crate) use wait::{create_set, free_set, register, wait};

use crate::events::EventSet;
use crate::handles::{Handles, Target};
use crate::state::State;
use enumeration::is_usable;
use file::StateFile;
use rules::Counts;
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
    /// The GPUs that were present then, by index.
    session: Vec<String>,
    /// The device files that are open since then.
    files: Vec<OwnedFd>,
    /// The driver was unloaded since then; only a shutdown and a new init help.
    unloaded: bool,
    /// The highest sequence number of an event that was looked at.
    seen: u64,
    /// Event sets by the number that is their handle.
    sets: BTreeMap<usize, EventSet>,
    /// Event sets made so far.
    sets_made: usize,
    standing: Standing,
    counts: Counts,
    /// The calls that hold others up, with the GPU whose calls those are; none: all.
    blockers: BTreeMap<u64, Option<String>>,
    blockers_made: u64,
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
            self.counts.keep(&state);
            self.handles.kill(|gpu| !is_usable(&state, gpu));
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
            // The driver tells of what happens in an instance to who may see it.
            if event.gpu_instance.is_some() && !state.driver.privileged {
                continue;
            }
            let usable = is_usable(state, &event.gpu);
            let strange = match event.gpu.as_str() {
                "" => Some(0),
                _ if event.stray => {
                    let handle: *mut () = self.handles.of(&event.gpu, Target::Gpu, usable);
                    Some(handle.addr())
                }
                _ => None,
            };
            // A GPU that came back knows nothing of registrations made with its old handle.
            let in_force = |device: usize| {
                let dead = self.handles.get(ptr::without_provenance_mut::<()>(device));
                !(usable && dead.is_some_and(|entry| entry.dead))
            };
            for set in self.sets.values_mut() {
                set.offer(event, strange, in_force);
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
