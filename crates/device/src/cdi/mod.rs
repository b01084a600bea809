//! CDI specifications: what a container gets for a device that its runtime resolves by name. A pure
//! function of the inventory, of what the host has, and of the settings.
//!
//! The content is that of NVIDIA's specifications, so that containers find the same with both.

mod device_edits;
mod edits;
mod held;
mod hooks;
mod host;
mod memory_limits;
mod specification;

pub use edits::{ContainerEdits, HookStage, MountKind, NodeNumbers, SpecHook, SpecMount, SpecNode};
pub use held::may_be_held;
pub use host::{CdiHost, DriverFiles, FileLink, HookProgram, HostDevices, HostFile, MemoryRegions};
pub use specification::{
    ALL_DEVICE, CLASSES, MANAGEMENT_DEVICE, SpecSettings, Specification, Specifications,
    specifications,
};
