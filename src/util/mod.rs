//! Small things that every edge may use: counters, timers, back-off, random numbers, and limits on
//! log lines.

pub mod alarm;
pub mod backoff;
pub mod counters;
pub mod log_rate_limit;
pub mod random;
