//! The kubelet's device plugin API: one resource from bind to unlink.
//!
//! [`run`] observes, takes the next step of [`lifecycle::PluginState::next`], and repeats. Every
//! event (a socket is created or deleted, a stream opens or ends, time passes) only wakes it.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod allocated;
pub mod calls;
mod connection;
mod connections;
pub mod lifecycle;
mod limits;
mod plugin;
pub mod registration;
pub mod rivals;
pub mod server;
pub mod service;
pub mod socket;
pub mod socket_events;
pub mod telemetry;
pub mod wire;

pub use plugin::run;
pub use server::PluginError;
