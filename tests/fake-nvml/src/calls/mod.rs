//! The exported functions, by area. Each names itself to the gate in `driver` and then writes its
//! answer.
//!
//! Every exported function is `unsafe extern "C"` with one contract, NVML's: a pointer argument is
//! NULL or valid for what the function reads or writes. Handles are never followed, so any value
//! will do.

#![allow(non_snake_case)] // the names are NVML's

mod events;
mod health;
mod identity;
mod instances;
mod links;
mod lookup;
mod mig;
mod monitor;
mod standing;
mod stubs;
mod system;
mod virtualization;
