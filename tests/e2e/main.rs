//! End to end: the real binary against the strict fake kubelet and the fake NVML, over real unix sockets.

mod driver;
mod gpus;
mod health;
mod kubelet;
mod requests;
mod rig;
mod soak;
mod stopping;
