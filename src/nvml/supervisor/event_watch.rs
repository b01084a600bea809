//! Which GPUs are registered for events, and whether a thread waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::health::{Moment, NvmlError as CallError};
use device::names::Uuid;
use tracing::{info, warn};

use crate::nvml::event_set::Registration;
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// Pauses after a wait that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The state of events in one session.
#[derive(Debug)]
pub(super) struct EventWatch {
    registrations: BTreeMap<Uuid, Registration>,
    /// Whether the set of events has to be made again.
    pub(super) renew: bool,
    /// When to wait for events again after a failure.
    pub(super) listen_at: Moment,
    backoff: Backoff,
    limit: LogRateLimit<u32>,
    failed: bool,
    /// The GPUs of which it was reported that their events do not come.
    reported: BTreeSet<Uuid>,
}

impl EventWatch {
    pub(super) fn new() -> Self {
        Self {
            registrations: BTreeMap::new(),
            renew: false,
            listen_at: Moment::default(),
            backoff: Backoff::new(FIRST_PAUSE, LAST_PAUSE),
            limit: LogRateLimit::new(),
            failed: false,
            reported: BTreeSet::new(),
        }
    }

    /// The state at the start of the next session.
    pub(super) fn of_next_session(&mut self) -> Self {
        Self { reported: std::mem::take(&mut self.reported), ..Self::new() }
    }

    /// The GPUs among these that are still to be registered.
    pub(super) fn unregistered(&self, gpus: impl Iterator<Item = Uuid>) -> BTreeSet<Uuid> {
        let settled = |gpu: &Uuid| {
            let known = self.registrations.get(gpu);
            matches!(known, Some(Registration::Registered | Registration::Unsupported))
        };
        gpus.filter(|gpu| self.renew || !settled(gpu)).collect()
    }

    /// Whether there is any GPU whose events can come.
    pub(super) fn has_registered(&self) -> bool {
        self.registrations.values().any(|known| *known == Registration::Registered)
    }

    /// The GPUs whose events come again, or come no longer, since this was last called. While the
    /// wait for events hangs, none come.
    pub(super) fn take_changes(&mut self, hangs: bool) -> Vec<(Uuid, bool)> {
        let is_deaf = |known: &Registration| match known {
            Registration::Failed(_) => true,
            Registration::Registered => hangs,
            Registration::Unsupported => false,
        };
        let deaf = self.registrations.iter().filter(|(_, known)| is_deaf(known));
        let deaf: BTreeSet<Uuid> = deaf.map(|(gpu, _)| gpu.clone()).collect();
        let before = std::mem::replace(&mut self.reported, deaf);
        let gone = before.difference(&self.reported).map(|gpu| (gpu.clone(), true));
        let new = self.reported.difference(&before).map(|gpu| (gpu.clone(), false));
        gone.chain(new).collect()
    }

    /// Takes over the registrations, and logs those that are new.
    pub(super) fn registered(&mut self, registrations: BTreeMap<Uuid, Registration>) {
        self.renew = false;
        for (gpu, registration) in &registrations {
            let before = self.registrations.get(gpu);
            match registration {
                _ if before == Some(registration) => {}
                Registration::Unsupported => warn!(gpu.uuid = %gpu,
                    "this GPU reports no events: its health depends on polls alone"),
                Registration::Failed(error) => warn!(gpu.uuid = %gpu, %error,
                    "cannot watch for events of this GPU, will retry: until then its health \
                     depends on polls alone"),
                Registration::Registered => {
                    if matches!(before, Some(Registration::Failed(_))) {
                        info!(gpu.uuid = %gpu, "events of this GPU are watched for again");
                    }
                }
            }
        }
        self.registrations = registrations;
    }

    /// Registering failed as a whole.
    pub(super) fn not_registered(&self, error: &CallError) {
        if self.limit.allow_key(error.code.0).is_some() {
            warn!(%error, "cannot watch for events, will retry: until then the GPUs' health \
                depends on polls alone");
        }
    }

    /// Waiting failed.
    pub(super) fn wait_failed(&mut self, now: Moment, error: &CallError) {
        if self.limit.allow_key(error.code.0).is_some() {
            warn!(%error, "cannot wait for NVML's events, will retry");
            self.failed = true;
        }
        self.renew = true;
        self.listen_at = now.after(self.backoff.next_delay());
    }

    /// An event came.
    pub(super) fn works(&mut self) {
        if std::mem::take(&mut self.failed) {
            let failures = self.backoff.attempts();
            info!(failures, "waiting for NVML's events works again");
        }
        self.backoff.reset();
    }
}
