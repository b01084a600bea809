//! What the command line and the environment may say.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

use super::KUBELET_SOCKET;

/// Serves a node's NVIDIA GPUs to the kubelet and keeps the list of them true.
#[derive(Debug, Clone, Parser)]
#[command(name = "gpu-device-plugin", version = VERSION, max_term_width = 100)]
pub struct Args {
    /// The kubelet's registration socket; our own sockets live in its directory. Empty: serve in the default
    /// directory and never register
    #[arg(long, env = "KUBELET_SOCKET", value_name = "PATH", default_value = KUBELET_SOCKET, hide_env_values = true)]
    pub kubelet_socket: PathBuf,

    /// NVML to load. Default: libnvidia-ml.so.1 in the library directories of the driver root, then on the
    /// loader's search path, then where the driver root's ld.so cache has it
    #[arg(long, env = "NVML_LIBRARY", value_name = "PATH", hide_env_values = true)]
    pub nvml_library: Option<PathBuf>,

    /// Where the driver's root file system is mounted
    #[arg(
        long,
        env = "DRIVER_ROOT_CTR_PATH",
        value_name = "DIR",
        default_value = "/driver-root",
        hide_env_values = true
    )]
    pub driver_root_ctr_path: PathBuf,

    /// Where sysfs is mounted; it tells the NUMA node of each GPU
    #[arg(long, env = "SYSFS_ROOT", value_name = "DIR", default_value = "/sys", hide_env_values = true)]
    pub sysfs_root: PathBuf,

    /// Exit with an error if NVML cannot be opened at the start. With false, wait for the driver and serve the
    /// GPUs when it appears
    #[arg(
        long, env = "FAIL_ON_INIT_ERROR", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1,
        default_value_t = true, default_missing_value = "true", require_equals = true, value_parser = boolean, hide_env_values = true,
        hide_possible_values = true
    )]
    pub fail_on_init_error: bool,

    /// How log lines look: for a terminal, or one JSON object a line for a collector
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text", hide_env_values = true)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also by module ("info,gpu_device_plugin::plugin=debug")
    #[arg(long, env = "RUST_LOG", value_name = "LEVEL", default_value = "info", hide_env_values = true)]
    pub log_level: tracing_subscriber::filter::Targets,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("GIT_COMMIT"));

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// A truth value as NVIDIA's plugin takes it (Go's strconv.ParseBool).
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn fail_on_init_error_reads_as_a_go_flag() {
        for (argument, expected) in [("--fail-on-init-error", true), ("--fail-on-init-error=false", false)] {
            let args = Args::try_parse_from(["gpu-device-plugin", argument]).unwrap();
            assert_eq!(args.fail_on_init_error, expected);
        }
        assert!(Args::try_parse_from(["gpu-device-plugin", "--fail-on-init-error=maybe"]).is_err());
    }
}
