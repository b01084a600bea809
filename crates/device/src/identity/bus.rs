//! The PCI functions of the node that are NVIDIA's, and which of them are GPUs for the plugin.

use std::fmt;

use crate::names::PciBusId;

/// The PCI base class of display controllers: 0x03xxxx.
const DISPLAY_CLASS: u32 = 0x03;

/// A PCI function of vendor NVIDIA (10de), from sysfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciFunction {
    /// Its address.
    pub id: PciBusId,
    /// The kernel driver that is bound to it.
    pub driver: Option<String>,
    /// Its class, e.g. 0x030200.
    pub class: u32,
    /// Whether it is a virtual function (SR-IOV).
    pub virtual_function: bool,
    /// Whether its device node is in this container.
    pub given: bool,
}

/// Why a display function of NVIDIA's is not counted as a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherFunction {
    /// Another driver is bound to it, such as vfio-pci or nouveau.
    OtherDriver(String),
    /// No driver is bound to it.
    NoDriver,
    /// It is a virtual function that the driver does not have.
    VirtualFunction,
    /// Its device node is not in this container.
    NotGiven,
}

impl PciFunction {
    /// Whether it is a GPU that the driver and this container have, or why not; `None`: it is no
    /// display function (audio, USB, NVSwitch).
    fn kind(&self) -> Option<Result<(), OtherFunction>> {
        if self.class >> 16 != DISPLAY_CLASS {
            return None;
        }
        Some(match self.driver.as_deref() {
            Some("nvidia") if self.given => Ok(()),
            Some("nvidia") => Err(OtherFunction::NotGiven),
            _ if self.virtual_function => Err(OtherFunction::VirtualFunction),
            Some(driver) => Err(OtherFunction::OtherDriver(driver.to_owned())),
            None => Err(OtherFunction::NoDriver),
        })
    }
}

/// The GPUs that the driver and this container have.
pub(crate) fn given_gpus(functions: &[PciFunction]) -> impl Iterator<Item = PciBusId> + '_ {
    functions.iter().filter(|of| of.kind() == Some(Ok(()))).map(|of| of.id)
}

/// The display functions that are no GPUs for this plugin, which is no fault.
pub(crate) fn other_functions(
    functions: &[PciFunction],
) -> impl Iterator<Item = (PciBusId, OtherFunction)> + '_ {
    functions.iter().filter_map(|of| Some((of.id, of.kind()?.err()?)))
}

impl fmt::Display for OtherFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDriver(driver) => write!(f, "bound to {driver}"),
            Self::NoDriver => f.write_str("bound to no driver"),
            Self::VirtualFunction => f.write_str("a virtual function"),
            Self::NotGiven => f.write_str("its device node is not in this container"),
        }
    }
}
