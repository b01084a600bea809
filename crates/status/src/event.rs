//! Events in words.

use super::schema::{Event, EventKind};

impl Event {
    /// What happened, in the words of the log: the end of a cause reads unlike its beginning.
    #[must_use]
    pub fn sentence(&self) -> String {
        let message = &self.message;
        match self.kind {
            EventKind::GpuFound => format!("found: {message}"),
            EventKind::GpuUnhealthy => format!("is Unhealthy: {message}"),
            EventKind::CauseOver => format!("cause is over: {message}"),
            EventKind::GpuHealthy => "is Healthy again".to_owned(),
            EventKind::GpuDegraded => format!("is degraded: {message}"),
            EventKind::GpuRestored => format!("is no longer degraded: {message}"),
            EventKind::FindingOver => format!("finding is over: {message}"),
            EventKind::Xid
            | EventKind::Finding
            | EventKind::Registered
            | EventKind::ServerRestarted
            | EventKind::ConfigurationApplied
            | EventKind::ConfigurationRefused => message.clone(),
        }
    }
}
