//! Small things that every edge may use: counters, timers, and log lines that would repeat.

pub mod alarm;
pub mod counters;
pub mod log_rate_limit;
