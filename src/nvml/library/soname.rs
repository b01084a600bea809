//! The name of NVML's library.

/// With the only version that there has ever been.
pub(super) const SONAME: &str = "libnvidia-ml.so.1";
