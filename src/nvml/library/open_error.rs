//! Why NVML cannot be opened, with what to do about it.

use std::fmt;
use std::path::PathBuf;

use device::health::{NvmlError as CallError, ReturnCode};

/// The name of the library, with the only version that there has ever been.
pub(super) const SONAME: &str = "libnvidia-ml.so.1";

/// Why NVML cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum NvmlOpenError {
    /// No library could be loaded.
    NotFound {
        /// Each path that was tried, with its error.
        tried: Vec<(String, String)>,
        /// The driver root that was searched; `None` if the library was named.
        driver_root: Option<PathBuf>,
    },
    /// The library is there, and cannot be initialised.
    Init {
        /// The library.
        library: String,
        /// Its error.
        error: CallError,
    },
}

impl fmt::Display for NvmlOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { tried, driver_root: None } => {
                write!(f, "cannot load NVML from the library that --nvml-library names:")?;
                write_tried(f, tried)?;
                write!(f, "; name the {SONAME} of the driver that is loaded, or omit the option")
            }
            Self::NotFound { tried, driver_root: Some(root) } => {
                write!(f, "cannot load NVML ({SONAME}), tried:")?;
                write_tried(f, tried)?;
                write!(
                    f,
                    "; if this node has NVIDIA GPUs, install the driver on it, then mount its root \
                     at {} or start this container with the NVIDIA runtime, or name the library \
                     with --nvml-library; if it has none, keep the plugin off it with a node \
                     selector, or let it wait with --fail-on-init-error=false",
                    root.display()
                )
            }
            Self::Init { library, error } => {
                write!(f, "cannot initialise NVML: {error}; library {library}")?;
                match error.code {
                    ReturnCode::DRIVER_NOT_LOADED => write!(
                        f,
                        "; load the driver's kernel module (modprobe nvidia) and see \
                         /dev/nvidiactl and /dev/nvidia0 in this container: it must be privileged \
                         or have the NVIDIA runtime"
                    ),
                    ReturnCode::LIBRARY_MISMATCH => {
                        write!(
                            f,
                            "; the driver was upgraded under a loaded module: reboot, or reload \
                                the module"
                        )
                    }
                    _ => {
                        write!(f, "; see `nvidia-smi` on the node and the kernel log (dmesg, NVRM)")
                    }
                }
            }
        }
    }
}

impl std::error::Error for NvmlOpenError {}

fn write_tried(f: &mut fmt::Formatter<'_>, tried: &[(String, String)]) -> fmt::Result {
    for (n, (path, outcome)) in tried.iter().enumerate() {
        write!(f, "{} {path} ({outcome})", if n == 0 { "" } else { "," })?;
    }
    Ok(())
}
