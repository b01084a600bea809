//! Handles: numbers that stand for devices and instances, never pointers, so that a caller's
//! garbage can be told from a handle without touching it.
//!
//! The same thing keeps its handle, also across `nvmlShutdown`, until its GPU is lost or removed.
//! From then on the handle is dead for good: a GPU that comes back has a new one.

use std::ptr;

/// Handles count up from here, in steps of 16 as addresses would.
const FIRST: usize = 0x4e56_0000;
const STEP: usize = 16;

/// What a handle stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Gpu,
    /// A MIG device by its UUID.
    Mig(String),
    GpuInstance(u32),
    ComputeInstance {
        gpu_instance: u32,
        id: u32,
    },
}

/// A handle's entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// UUID of the GPU that it is, or is on.
    pub(crate) gpu: String,
    pub(crate) target: Target,
    /// The GPU was lost or removed since the handle was given out.
    pub(crate) dead: bool,
}

/// All handles given out so far.
#[derive(Default)]
pub(crate) struct Handles(Vec<Entry>);

impl Handles {
    /// The handle of a thing: a new one if there is none, or if it is dead although the GPU is
    /// `usable`.
    pub(crate) fn of<T>(&mut self, gpu: &str, target: Target, usable: bool) -> *mut T {
        let last = self.0.iter().rposition(|entry| entry.gpu == gpu && entry.target == target);
        let index = match last {
            Some(index) if !(self.0[index].dead && usable) => index,
            _ => {
                self.0.push(Entry { gpu: gpu.to_owned(), target, dead: !usable });
                self.0.len() - 1
            }
        };
        ptr::without_provenance_mut(FIRST + index * STEP)
    }

    /// What the caller's handle stands for, if it is one.
    pub(crate) fn get<T>(&self, handle: *mut T) -> Option<&Entry> {
        let offset = handle.addr().checked_sub(FIRST)?;
        if !offset.is_multiple_of(STEP) {
            return None;
        }
        self.0.get(offset / STEP)
    }

    /// The handles of these GPUs die.
    pub(crate) fn kill(&mut self, unusable: impl Fn(&str) -> bool) {
        for entry in &mut self.0 {
            entry.dead |= unusable(&entry.gpu);
        }
    }
}
