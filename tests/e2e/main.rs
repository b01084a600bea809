//! End to end: the real binary against the strict fake kubelet and the fake NVML, over real unix sockets.

mod dropin;
mod gpus;
mod kubelet;
mod layouts;
mod reload;
mod requests;
mod rig;
mod soak;
mod stopping;
