//! `list-gpus`: prints the GPUs that answer a new initialisation of NVML, for the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::print_error;
use crate::nvml::look;

/// Prints the UUIDs of the GPUs that answer, one a line.
pub fn list_gpus(driver_root: &Path, library: Option<PathBuf>) -> ExitCode {
    match look::list(driver_root, library) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}
