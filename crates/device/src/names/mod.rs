//! Names that come from outside: UUIDs, device ids, PCI bus ids and resource names. A value of one
//! of these types is well formed; parsing is the only way to get one from text.

mod device_id;
mod error;
mod pci;
mod resource;
mod uuid;

pub use device_id::DeviceId;
pub(crate) use device_id::split;
pub use error::{NameError, QuotedText};
pub use pci::PciBusId;
pub use resource::ResourceName;
pub use uuid::Uuid;
