//! What kind of system a node is: on some the GPU is no PCI device.

/// What kind of system a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platform {
    /// GPUs are PCI devices.
    #[default]
    Pci,
    /// A Tegra system on chip (Jetson), by this sign of it.
    Tegra(String),
    /// The Windows subsystem for Linux, by this sign of it.
    Wsl(String),
}

impl Platform {
    /// Where the driver says more.
    pub(in crate::doctor) fn driver_log(&self) -> &'static str {
        match self {
            Self::Pci => "`dmesg -T | grep -iE 'nvrm|xid'` on the node says more",
            Self::Tegra(_) => "`dmesg -T | grep -iE 'nvgpu|nvrm'` on the node says more",
            Self::Wsl(_) => "the Event Viewer of Windows (System, source nvlddmkm) says more",
        }
    }

    /// What gets a driver going that does not answer.
    pub(in crate::doctor) fn restart(&self) -> &'static str {
        match self {
            Self::Pci | Self::Tegra(_) => "drain the node (kubectl drain NODE) and reboot it",
            Self::Wsl(_) => "run `wsl --shutdown` in Windows, and start it again",
        }
    }
}
