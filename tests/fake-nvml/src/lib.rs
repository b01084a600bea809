//! A `libnvidia-ml.so.1` without a GPU, steered at run time by a state file.
//!
//! It is as unkind as nvml.h allows: what the header says of a call always holds, and what it only
//! permits is asked for by a field of the state or by a [rule](state::Rule). README.md has it all.
//!
//! A program loads the cdylib as it would load NVML. A test takes the rlib: [`state`] is what may
//! be written, [`profiles`] are whole nodes to start from.

// The library is a C interface: exported symbols, pointers of the caller, and the system calls
// behind a wait. The unsafe code stands in `ffi` (the caller's pointers) and `sys` (system calls);
// elsewhere it is the `unsafe extern "C"` of the exported functions alone.
#![allow(unsafe_code)]

mod calls;
mod code;
mod driver;
mod events;
mod ffi;
mod handles;
mod journal;
mod mig_profile;
mod pci;
pub mod profiles;
pub mod state;
mod sys;
mod watch;
