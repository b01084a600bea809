//! Starts, connects and stops all parts of the plugin. No other module uses this one.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod clear;
mod config_reader;
mod config_watch;
mod control_daemons;
mod control_requests;
mod findings;
mod head_start;
mod host_files;
mod inventory_task;
mod inventory_writer;
mod kubelet_runtime;
mod liveness;
mod nvml_task;
mod plugins;
mod readiness;
mod reclaim_controller;
mod release_file;
mod reload;
mod reload_checks;
mod reload_history;
mod rival_watch;
mod run;
mod status_provider;
mod tasks;

pub use run::run;
