//! What the node has: GPUs, the devices they are offered as, their health, and what a container
//! gets of them.
//!
//! Pure: standard library and thiserror only. Time and facts come in as values.

pub mod allocation;
pub mod custody;
pub mod filter;
pub mod gpu;
pub mod health;
pub mod holders;
pub mod injection;
pub mod inventory;
pub mod layout;
pub mod limit;
pub mod mig_profile;
pub mod names;
pub mod request;
pub mod resets;
pub mod sharing;
pub mod topology;
