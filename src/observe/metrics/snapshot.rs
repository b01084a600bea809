//! What the metrics are made of.

use std::collections::BTreeMap;

use status::Status;

use super::process::ProcessFigures;
use crate::util::counters::Distribution;

/// All that is told to Prometheus.
#[derive(Debug, Clone)]
pub struct MetricsSnapshot {
    /// What the daemon knows.
    pub status: Status,
    /// The compiler that the plugin was built with.
    pub rustc: &'static str,
    /// How long calls between the kubelet and us took, by method and gRPC code.
    pub calls: Vec<(&'static str, &'static str, Distribution)>,
    /// How long the rounds of polls over all GPUs took.
    pub rounds: Distribution,
    /// Failed calls of NVML by call and return code.
    pub nvml_errors: Vec<(&'static str, String, u64)>,
    /// What is counted by resource.
    pub resources: BTreeMap<String, ResourceFigures>,
    /// Of the process; `None`: procfs could not be read.
    pub process: Option<ProcessFigures>,
}

/// What is counted of one resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceFigures {
    /// Registrations by result, those that never came up with 0.
    pub registrations: BTreeMap<&'static str, u64>,
    /// Containers that were given their devices.
    pub allocated: u64,
    /// Containers that were refused.
    pub refused: u64,
    /// Lists of devices that were sent.
    pub updates: u64,
    /// What was odd about preferred allocations, by reason.
    pub notes: BTreeMap<&'static str, u64>,
}
