//! What is read from the host before anything is served: causes of before, and the quarantine.

use std::future::Future;
use std::pin::Pin;

use device::health::PolicyFinding;
use tracing::warn;

use crate::config::ProcessConfig;
use crate::host::dir_watch::Watches;
use crate::host::quarantine_dir::QuarantineDir;
use crate::host::state_file::{PersistedState, StateFile};

/// How many findings about the state file are logged one by one.
const FINDINGS: usize = 8;

/// The files of the host, which are being read for the first time.
pub(super) struct HostFiles {
    pub(super) watches: Watches,
    pub(super) state_file: StateFile,
    pub(super) quarantine_dir: QuarantineDir,
    /// What was in the state file, once all of them are read.
    pub(super) persisted: Pin<Box<dyn Future<Output = Option<PersistedState>>>>,
}

impl HostFiles {
    /// Begins to read them, side by side. What cannot be read in time is read later.
    pub(super) fn begin(process: &ProcessConfig) -> Self {
        let watches = Watches::default();
        let state_file = StateFile::open(process.state_dir.as_deref());
        let quarantine_dir = QuarantineDir::new(process.quarantine_dir.as_deref(), &watches);
        let (loading, reading) = (state_file.load(), quarantine_dir.read());
        let persisted = Box::pin(async { tokio::join!(loading, reading).0 });
        Self { watches, state_file, quarantine_dir, persisted }
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
