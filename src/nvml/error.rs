//! Why the module has ended.

use super::library::NvmlOpenError;

/// Why [`run`](super::run) or a survey has ended.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// NVML cannot be opened at the start, and that is an error by the settings.
    #[error("{0}")]
    Open(NvmlOpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    ThreadStart(#[source] std::io::Error),
    /// A thread ended by itself.
    #[error("the thread {0} ended by itself: {1}")]
    ThreadEnded(&'static str, String),
}
