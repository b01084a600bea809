//! End to end: the real binary against the strict fake kubelet and the fake NVML, over real unix
//! sockets.

#![allow(
    clippy::unwrap_used,
    reason = "in the helpers too, a panic is a failed test with its place"
)]

mod agent_rights;
mod ages;
mod bounds;
mod cdi;
mod cleanup;
mod clear;
mod commands;
mod derived;
mod device_nodes;
mod doctor;
mod driver;
mod dropin;
mod files;
mod gpus;
mod health;
mod holding;
mod hook;
mod hung;
mod journal;
mod kubelet;
mod layouts;
mod limits;
mod log;
mod look;
mod mps;
mod mps_doctor;
mod mps_node;
mod mps_reload;
mod named_config;
mod no_repair;
mod observe;
mod one_gpu;
mod output;
mod placement;
mod pod_resources;
mod random_steps;
mod recorded;
mod release_file;
mod reload;
mod renewal;
mod requests;
mod rig;
mod sharing;
mod soak;
mod stopping;
mod stream;
mod swap;
mod terminal;
mod thread_limit;
mod unkind;
mod upgrade;
mod verbs;
