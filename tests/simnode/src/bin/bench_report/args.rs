//! The arguments.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures the plugin from outside and prints the figures.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The plugin's executable
    #[arg(long, value_name = "PATH")]
    pub(super) plugin: PathBuf,

    /// The fake NVML
    #[arg(long, value_name = "PATH")]
    pub(super) nvml_library: PathBuf,

    /// The fake of the driver's programs for MPS
    #[arg(long, value_name = "PATH")]
    pub(super) mps_program: Option<PathBuf>,

    /// Starts to measure
    #[arg(long, default_value_t = 50)]
    pub(super) starts: usize,

    /// Calls of each kind to measure
    #[arg(long, default_value_t = 10_000)]
    pub(super) calls: usize,

    /// Requests of each kind over HTTP to measure
    #[arg(long, default_value_t = 1_000)]
    pub(super) scrapes: usize,

    /// Xids to measure
    #[arg(long, default_value_t = 1_000)]
    pub(super) xids: usize,

    /// Recoveries of each GPU to measure
    #[arg(long, default_value_t = 5)]
    pub(super) recoveries: usize,

    /// Restarts of the kubelet to measure
    #[arg(long, default_value_t = 200)]
    pub(super) restarts: usize,

    /// Restarts of the kubelet over which memory is looked at
    #[arg(long, default_value_t = 1_000)]
    pub(super) soak_restarts: usize,

    /// Calls of Allocate over which memory is looked at
    #[arg(long, default_value_t = 100_000)]
    pub(super) soak_calls: usize,

    /// Seconds to watch the idle plugin
    #[arg(long, default_value_t = 60)]
    pub(super) idle: u64,

    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants())]
    pub(super) only: Vec<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    Start,
    Calls,
    Xids,
    Recoveries,
    Restarts,
    Http,
    Memory,
    Idle,
    /// An unread log, a crowded socket, long answers of podresources.
    Disturbed,
    /// Nodes with many devices, and a configuration of many resources.
    Many,
    /// CDI specifications of a large node.
    Cdi,
    /// Deaths of MPS control daemons, and their supervisor.
    Mps,
}
