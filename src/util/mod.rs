//! Small things that every edge may use: counters, timers, and limits on log lines.

pub mod alarm;
pub mod counters;
pub mod log_rate_limit;
