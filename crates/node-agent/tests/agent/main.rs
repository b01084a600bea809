//! The agent's program between a fake plugin and a fake API server.
// A test's helpers may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]

mod access;
mod chaos;
mod cleaning;
mod config;
mod config_manager;
mod functions;
mod gfd;
mod handover;
mod in_process;
mod labelling;
mod nfd;
mod rig;
mod storm;
