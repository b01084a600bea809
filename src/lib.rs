//! A Kubernetes device plugin for NVIDIA GPUs.

pub mod config;
pub mod daemon;
pub mod device;
pub mod log;
pub mod nvml;
pub mod plugin;
