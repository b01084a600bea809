//! Return codes of NVML, failed calls, and the faults of the node that they show.

use std::borrow::Cow;
use std::fmt;

/// A return code of NVML (nvml.h, `nvmlReturn_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReturnCode(pub u32);

impl ReturnCode {
    /// `NVML_SUCCESS`.
    pub const SUCCESS: Self = Self(0);
    /// `NVML_ERROR_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: Self = Self(3);
    /// `NVML_ERROR_NO_PERMISSION`.
    pub const NO_PERMISSION: Self = Self(4);
    /// `NVML_ERROR_DRIVER_NOT_LOADED`.
    pub const DRIVER_NOT_LOADED: Self = Self(9);
    /// `NVML_ERROR_TIMEOUT`.
    pub const TIMEOUT: Self = Self(10);
    /// `NVML_ERROR_LIBRARY_NOT_FOUND`.
    pub const LIBRARY_NOT_FOUND: Self = Self(12);
    /// `NVML_ERROR_CORRUPTED_INFOROM`.
    pub const CORRUPTED_INFOROM: Self = Self(14);
    /// `NVML_ERROR_GPU_IS_LOST`.
    pub const GPU_IS_LOST: Self = Self(15);
    /// `NVML_ERROR_RESET_REQUIRED`.
    pub const RESET_REQUIRED: Self = Self(16);
    /// `NVML_ERROR_LIB_RM_VERSION_MISMATCH`.
    pub const LIBRARY_MISMATCH: Self = Self(18);
    /// `NVML_ERROR_UNKNOWN`.
    pub const UNKNOWN: Self = Self(999);

    /// Whether the driver or the GPU does not have what was asked for: INVALID_ARGUMENT,
    /// NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH or DEPRECATED.
    ///
    /// INVALID_ARGUMENT is what a driver returns for a field value that is newer than itself.
    #[must_use]
    pub fn is_unsupported(self) -> bool {
        matches!(self.0, 2 | 3 | 13 | 25 | 26)
    }

    /// Whether the answer is kept from a caller without privileges. It says nothing about the GPU.
    #[must_use]
    pub fn is_refused(self) -> bool {
        self == Self::NO_PERMISSION
    }

    /// The name in nvml.h without `NVML_ERROR_`; the number if it is not known here.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self.0 {
            0 => "SUCCESS",
            1 => "UNINITIALIZED",
            2 => "INVALID_ARGUMENT",
            3 => "NOT_SUPPORTED",
            4 => "NO_PERMISSION",
            6 => "NOT_FOUND",
            7 => "INSUFFICIENT_SIZE",
            8 => "INSUFFICIENT_POWER",
            9 => "DRIVER_NOT_LOADED",
            10 => "TIMEOUT",
            11 => "IRQ_ISSUE",
            12 => "LIBRARY_NOT_FOUND",
            13 => "FUNCTION_NOT_FOUND",
            14 => "CORRUPTED_INFOROM",
            15 => "GPU_IS_LOST",
            16 => "RESET_REQUIRED",
            17 => "OPERATING_SYSTEM",
            18 => "LIB_RM_VERSION_MISMATCH",
            19 => "IN_USE",
            20 => "MEMORY",
            21 => "NO_DATA",
            27 => "NOT_READY",
            28 => "GPU_NOT_FOUND",
            999 => "UNKNOWN",
            number => return Cow::Owned(number.to_string()),
        })
    }

    /// The meaning in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self.0 {
            0 => "success",
            1 => "NVML is not initialised",
            2 => "invalid argument",
            3 => "not supported",
            4 => "no permission",
            6 => "not found",
            8 => "a power cable is not connected",
            9 => "the driver is not loaded",
            10 => "it took too long",
            11 => "the kernel sees a problem with the GPU's interrupts",
            12 => "the NVML library is not there",
            13 => "the driver does not have this function",
            14 => "the InfoROM is corrupt",
            15 => "the GPU is lost",
            16 => "the GPU needs a reset",
            17 => "the operating system took the GPU away",
            18 => "driver and library are not of one version",
            19 => "in use",
            20 => "out of memory",
            27 => "not ready",
            28 => "no such GPU",
            999 => "an unknown error",
            _ => "an error that this program does not know",
        }
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (NVML return code {})", self.meaning(), self.0)
    }
}

/// An NVML call that failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{call}: {code}")]
pub struct NvmlError {
    /// Name of the call, e.g. `nvmlDeviceGetFieldValues`.
    pub call: &'static str,
    /// The return code.
    pub code: ReturnCode,
}

/// Why NVML cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeFault {
    /// `NVML_ERROR_DRIVER_NOT_LOADED`.
    DriverNotLoaded,
    /// `NVML_ERROR_LIB_RM_VERSION_MISMATCH`: the driver was upgraded under a running kernel module.
    LibraryMismatch,
    /// `NVML_ERROR_LIBRARY_NOT_FOUND`, or the library could not be opened.
    LibraryNotFound,
    /// `NVML_ERROR_UNKNOWN`: a process that lost its access to the device nodes gets it.
    Unknown,
    /// A call that is not about one GPU does not return.
    Unresponsive {
        /// Name of the call.
        call: &'static str,
    },
    /// Any other error of a call that is not about one GPU.
    Other(NvmlError),
}

impl NodeFault {
    /// The fault that an error of `nvmlInit_v2` or of another call that is not about one GPU shows.
    #[must_use]
    pub fn from_error(error: NvmlError) -> Self {
        match error.code {
            ReturnCode::DRIVER_NOT_LOADED => Self::DriverNotLoaded,
            ReturnCode::LIBRARY_MISMATCH => Self::LibraryMismatch,
            ReturnCode::LIBRARY_NOT_FOUND => Self::LibraryNotFound,
            ReturnCode::UNKNOWN => Self::Unknown,
            _ => Self::Other(error),
        }
    }

    /// The value in `/status`, logs and labels.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DriverNotLoaded => "driver_not_loaded",
            Self::LibraryMismatch => "library_mismatch",
            Self::LibraryNotFound => "library_not_found",
            Self::Unknown => "nvml_unknown",
            Self::Unresponsive { .. } => "nvml_unresponsive_node",
            Self::Other(_) => "nvml_unusable",
        }
    }
}

impl NodeFault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::DriverNotLoaded => Some("load it; nothing else is needed"),
            Self::LibraryMismatch => Some("reload the module or reboot the node"),
            Self::LibraryNotFound => Some("install the driver or mount its libraries"),
            Self::Unknown => {
                Some("the plugin may have lost access to the device nodes; restart its pod")
            }
            Self::Unresponsive { .. } => {
                Some("look at the kernel log of the driver; a reboot of the node may be needed")
            }
            Self::Other(_) => None,
        }
    }

    pub(super) fn fmt_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DriverNotLoaded => f.write_str("the NVIDIA driver is not loaded"),
            Self::LibraryMismatch => {
                f.write_str("the driver's kernel module and libraries are not of one version")
            }
            Self::LibraryNotFound => f.write_str("the NVML library was not found"),
            Self::Unknown => f.write_str("NVML fails with an unknown error"),
            Self::Unresponsive { call } => {
                write!(f, "NVML does not answer about the node: {call} did not return in time")
            }
            Self::Other(error) => write!(f, "NVML cannot be used: {error}"),
        }
    }
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_summary(f)?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}
