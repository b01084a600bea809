//! A Kubernetes device plugin for NVIDIA GPUs.

pub mod device;
pub mod plugin;
