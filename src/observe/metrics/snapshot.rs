//! What the metrics are rendered from.

use std::collections::BTreeMap;

use status::Status;

use super::process::ProcessMetrics;
use crate::util::counters::Distribution;

/// All that Prometheus scrapes, at one moment.
#[derive(Debug, Clone)]
pub struct MetricsSnapshot {
    /// What the daemon knows.
    pub status: Status,
    /// The compiler that the plugin was built with.
    pub rustc: &'static str,
    /// Durations of calls between the kubelet and us, by method and gRPC code.
    pub calls: Vec<(&'static str, &'static str, Distribution)>,
    /// Durations of rounds of polls of all GPUs.
    pub rounds: Distribution,
    /// Failed calls of NVML by call and return code.
    pub nvml_errors: Vec<(&'static str, String, u64)>,
    /// The counters of each resource.
    pub resources: BTreeMap<String, ResourceCounters>,
    /// The process; `None`: procfs could not be read.
    pub process: Option<ProcessMetrics>,
}

/// The counters of one resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceCounters {
    /// Registrations by result, 0 for a result that did not occur.
    pub registrations: BTreeMap<&'static str, u64>,
    /// Containers that devices were allocated for.
    pub allocated: u64,
    /// Containers that were refused devices.
    pub refused: u64,
    /// Device lists that were sent.
    pub updates: u64,
    /// Preferred allocations that could not be answered as requested, by reason.
    pub notes: BTreeMap<&'static str, u64>,
}
