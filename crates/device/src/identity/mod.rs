//! Which GPU is which: the identity of a GPU is its UUID, and its index is bound to it for the
//! boot. And how many GPUs there are, by each that counts them.
//!
//! NVML numbers the GPUs again when one is missing. An index in the settings therefore means the
//! GPU that had it when it was first seen on this boot ([`GpuBinding`]), never the one that has it
//! now.

mod binding;
mod bus;
mod counts;
mod finding;
mod name;
mod record;
#[cfg(test)]
mod tests;

pub use binding::{GpuBinding, KnownGpus, MAX_GPUS};
pub use bus::{OtherFunction, PciFunction};
pub(crate) use bus::{given_gpus, other_functions};
pub use counts::GpuCounts;
pub(crate) use counts::{Census, Observed, compare};
pub use finding::{IdentityFinding, Renumbered, Unidentified};
pub use name::GpuName;
pub use record::{GpuRecord, KnownGpu};
