//! What the node has: GPUs, the devices they are offered as, their health, and what a container
//! gets of them.
//!
//! Pure: standard library and thiserror only. Time and facts come in as values.

pub mod allocation;
mod device;
pub mod gpu;
pub mod health;
pub mod in_use;
pub mod injection;
pub mod inventory;
pub mod layout;
pub mod mig_profile;
pub mod names;
pub mod topology;

pub use device::Device;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
