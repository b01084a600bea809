//! The text that Prometheus scrapes, rendered from the state at the moment of the scrape.
//!
//! The attributes of a device are labels of `_device_info` alone; every other series about a device
//! has its `uuid`, by which it joins with that one and with dcgm-exporter's `UUID`. Every label has
//! a bounded number of values.
//!
//! A counter whose labels are known from the start begins at 0: Prometheus' `increase()` does not
//! see the step by which a series is born.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod exposition;
mod gpus;
mod mps;
mod problems;
mod process;
mod text;

pub(crate) use exposition::{MetricsSnapshot, ResourceCounters, exposition};
pub(crate) use process::ProcessMetrics;
pub(super) use text::CONTENT_TYPE;

#[cfg(test)]
mod tests;
