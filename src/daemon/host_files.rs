//! What is read from the host before anything is served: causes of before.

use device::health::PolicyFinding;
use tracing::warn;

use crate::config::ProcessConfig;
use crate::host::state_file::{PersistedState, StateFile};

/// How many findings about the state file are logged one by one.
const FINDINGS: usize = 8;

/// The files of the host, read for the first time.
pub(super) struct HostFiles {
    pub(super) state_file: StateFile,
    /// What was in the state file.
    pub(super) persisted: Option<PersistedState>,
}

impl HostFiles {
    /// Reads them. What cannot be read in time is read later.
    pub(super) async fn read(process: &ProcessConfig) -> Self {
        let state_file = StateFile::open(process.state_dir.as_deref());
        let persisted = state_file.load().await;
        Self { state_file, persisted }
    }
}

/// Logs what of the state file cannot be used: the first of it, and how much more there is.
pub(super) fn log_findings(findings: &[PolicyFinding]) {
    for finding in findings.iter().take(FINDINGS) {
        warn!("{finding}");
    }
    if findings.len() > FINDINGS {
        let more = findings.len() - FINDINGS;
        warn!(more, "more persisted causes are not known; they are left out");
    }
}
