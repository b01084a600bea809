//! The kubelet's device plugin API: one resource from bind to unlink.
//!
//! [`run`] observes, takes the next step of [`lifecycle::PluginState::next`], and repeats. Every
//! event (a socket is created or deleted, a stream opens or ends, time passes) only wakes it.

pub mod advertised_device;
pub mod allocation_events;
pub mod allocation_outcome;
pub mod calls;
mod connection;
pub mod lifecycle;
pub mod notes;
pub mod open_count;
mod plugin;
pub mod register_error;
pub mod registration_status;
pub mod server;
pub mod service;
pub mod socket;
pub mod socket_events;
pub mod telemetry;
pub mod wire;

pub use plugin::{PluginError, run};
