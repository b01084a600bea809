//! The kubelet: the device plugin API, which it calls, and the podresources API, which is called.

pub mod device_plugin;
pub mod pod_resources;
