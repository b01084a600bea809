//! What the server shows, and the one thing that clients can make it do.

use std::pin::Pin;

use status::Status;

/// What the server shows, and the one thing that clients can make it do.
pub trait Views: Send + Sync + 'static {
    /// All that the daemon knows.
    fn status(&self) -> Status;

    /// The metrics in Prometheus's text format.
    fn metrics(&self) -> String;

    /// The part of the process that is stuck, if any. A failed GPU is not.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;

    /// Why the plugin is not ready; empty if it is.
    fn not_ready(&self) -> Vec<String>;

    /// Releases NVML for a while; while it is released, initialises it again early.
    fn release(&self);
}
