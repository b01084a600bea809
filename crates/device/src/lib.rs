//! The devices of a node: GPUs, the devices they are offered as, their health, and what containers
//! get. Pure: the standard library and thiserror only; time and facts are parameters.
//!
//! In reading order:
//!
//! - [`names`]: UUIDs, device ids, PCI bus ids and resource names, valid by construction.
//! - [`gpu`], [`mig_profile`]: the facts about GPUs and MIG devices. [`Device`]: what is offered
//!   under one id.
//! - [`identity`]: which GPU is which over a boot, and how many there are.
//! - [`layout`]: which device is offered under which resource name. [`memory_share`]: how the
//!   memory of a shared one is divided.
//! - [`health`]: the health of GPUs from events and readings.
//! - [`topology`], [`allocation`]: the links between GPUs, and preferred allocation by them.
//! - [`injection`]: what a container gets for its devices. [`cdi`]: what it gets where its runtime
//!   resolves their names.
//! - [`mps`]: what the clients of MPS get of a GPU.
//! - [`inventory`]: all of this for one node. It takes in observations and settings, and answers
//!   Allocate and GetPreferredAllocation.
//! - [`in_use`]: which devices pods use, which withdrawn ones can be reclaimed, and when a GPU can
//!   be reset.
//!
//! Invariants:
//!
//! - A GPU is identified by its UUID; minor number and PCI bus id are facts about it. An index in
//!   the settings means the GPU that had it when it was first seen on this boot.
//! - An id that was offered stays in its list, Unhealthy, until no pod can be using it.
//! - The same observations and settings in the same order yield the same inventory.
//! - Nothing in one GPU's data keeps another GPU from being offered.
//! - Preferred allocation always has an answer.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod allocation;
pub mod cdi;
mod device;
pub mod gpu;
pub mod health;
pub mod identity;
pub mod in_use;
pub mod injection;
pub mod inventory;
pub mod layout;
pub mod memory_share;
pub mod mig_profile;
pub mod mps;
pub mod names;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topology;

pub use device::{CdiState, Device};
