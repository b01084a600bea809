//! A strict fake kubelet and a simulated GPU node: the device plugin under test is the real binary,
//! and both worlds that it touches, the kubelet above and NVML below, behave as the real ones do,
//! faults included.

mod eventually;
pub mod flood;
pub mod kubelet;
pub mod node;

/// The device plugin API, generated from the product's own statement of it.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod proto {
    tonic::include_proto!("v1beta1");
}

/// The podresources API, from the product's own statement of it too.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod pod_resources_proto {
    tonic::include_proto!("v1");
}

pub use eventually::eventually;
pub use kubelet::{AdmissionError, Kubelet, KubeletConfig, KubeletVersion, View};
pub use node::{Node, Plugin, PluginOptions};
