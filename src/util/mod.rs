//! Small things that every edge may use: counters, back-off, random numbers, and limits on
//! log lines.

pub mod backoff;
pub mod counters;
pub mod error_chain;
pub mod log_rate_limit;
pub mod random;
