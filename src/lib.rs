//! A Kubernetes device plugin for NVIDIA GPUs.

pub mod config;
pub mod device;
