//! What people and programs see: the status, metrics, the HTTP endpoints with the page, and the log
//! of the inventory's changes.

pub mod client;
pub mod event_log;
pub mod http;
pub mod log;
pub mod metrics;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod wall_clock;
