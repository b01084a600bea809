//! The kubelet edge: the device plugin that it calls, and the pod resources that it is asked for.

pub mod device_plugin;
pub mod pod_resources;
