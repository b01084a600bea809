//! What people and programs see: the status, metrics, the HTTP endpoints with the page, and the log
//! of the inventory's changes.

pub mod client;
pub(crate) mod event_log;
pub mod http;
pub mod log;
pub(crate) mod metrics;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod wall_clock;
