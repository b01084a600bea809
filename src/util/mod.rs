//! Small things that every edge may use: counters, timers, back-off, random numbers, errors as
//! text, and limits on log lines.

pub mod alarm;
pub mod backoff;
pub mod counters;
pub mod error_chain;
pub mod log_rate_limit;
pub mod random;
