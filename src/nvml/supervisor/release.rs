//! Releasing NVML for a time, so that a GPU can be reset, and taking it up again.
//!
//! A release is done when every session of this process is shut down: while a call of an earlier
//! one hangs, its GPU stays open. Until then it is pending, and it is given up after
//! [`RELEASE_DEADLINE`].

use std::time::Duration;

use device::health::Moment;
use tracing::info;

use super::{AfterClosing, Phase, Supervisor};
use crate::nvml::release::{LONGEST_RELEASE, PendingRelease, RELEASE_DEADLINE, ReleaseEnd, Usage};

impl Supervisor {
    /// NVML is to be released for this time, or for as long as is configured.
    pub(in crate::nvml) fn release(&mut self, now: Moment, time: Option<Duration>) {
        let time = time.unwrap_or(self.settings.release_for).min(LONGEST_RELEASE);
        match self.phase {
            Phase::Released { until } => {
                let until = until.max(now.after(time));
                self.telemetry.set_released(Some(until));
                self.phase = Phase::Released { until };
                self.release_end = Some(ReleaseEnd::Released { until });
            }
            Phase::Closed { .. } => {
                self.release_end = Some(ReleaseEnd::NotInUse(self.down_reason()));
            }
            Phase::Opening { .. } => {
                let reason = "it is being initialised; try again once it is up";
                self.release_end = Some(ReleaseEnd::NotInUse(reason.to_owned()));
            }
            Phase::Starting { .. } | Phase::Serving | Phase::Closing { .. } => {
                let give_up = now.after(RELEASE_DEADLINE);
                let pending = self.release.get_or_insert(PendingRelease { time, give_up });
                pending.time = pending.time.max(time);
                self.advance_release(now);
            }
        }
    }

    /// NVML is to be in use again. It is no longer released, nor about to be.
    pub(in crate::nvml) fn take_up(&mut self, now: Moment) {
        if self.release.is_some() {
            self.end_release(ReleaseEnd::TakenUp);
        }
        match &mut self.phase {
            Phase::Released { .. } => self.reopen(now),
            Phase::Closing { next: AfterClosing::Release, .. }
                if !self.open_sessions.contains(&self.session) =>
            {
                self.closed(now, AfterClosing::Reopen);
            }
            Phase::Closing { next: next @ AfterClosing::Release, .. } => {
                *next = AfterClosing::Reopen;
            }
            _ => {}
        }
    }

    /// Goes on with a release that is pending, or gives it up: NVML is shut down, and released by
    /// that. While the GPUs are read for the first time it waits.
    pub(super) fn advance_release(&mut self, now: Moment) {
        let Some(PendingRelease { give_up, .. }) = self.release else { return };
        if give_up <= now {
            return self.give_up_release(now);
        }
        match &mut self.phase {
            Phase::Serving => self.close(now, AfterClosing::Reopen),
            Phase::Closing { next, give_up: at } if *next != AfterClosing::Release => {
                (*next, *at) = (AfterClosing::Release, give_up);
                self.note_reset_signs();
            }
            _ => {}
        }
    }

    pub(super) fn give_up_release(&mut self, now: Moment) {
        self.end_release(ReleaseEnd::GivenUp);
        if let Phase::Closing { next: AfterClosing::Release, .. } = self.phase {
            self.closed(now, AfterClosing::Reopen);
        }
    }

    /// Every session is shut down.
    pub(super) fn released(&mut self, now: Moment) {
        let time = self.release.map_or(self.settings.release_for, |pending| pending.time);
        let until = now.after(time);
        self.telemetry.set_released(Some(until));
        info!(
            seconds = time.as_secs(),
            "NVML is released, so that a GPU can be reset; serving from memory until it is taken \
             up again, after that time or by `gpu-device-plugin take-up` (SIGUSR2)"
        );
        self.phase = Phase::Released { until };
        self.end_release(ReleaseEnd::Released { until });
    }

    /// The time of a release is over, or it is ended.
    pub(super) fn reopen(&mut self, now: Moment) {
        self.telemetry.set_released(None);
        info!("taking up NVML again");
        self.phase = Phase::Closed { retry_at: now };
    }

    /// By what a reset will be told of the GPUs that need one.
    fn note_reset_signs(&mut self) {
        let awaiting = self.gpus.iter();
        let awaiting = awaiting.filter(|(gpu, _)| self.requests.awaiting_reset.contains(*gpu));
        self.before_release = awaiting.map(|(gpu, known)| (gpu.clone(), known.signs)).collect();
    }

    fn end_release(&mut self, end: ReleaseEnd) {
        self.release = None;
        if !matches!(end, ReleaseEnd::Released { .. }) {
            // Nobody can have reset a GPU.
            self.before_release.clear();
        }
        self.release_end = Some(end);
    }

    /// What came of a release since this was last called.
    pub(in crate::nvml) fn take_release_end(&mut self) -> Option<ReleaseEnd> {
        self.release_end.take()
    }

    /// Whether NVML is in use, and not about to be released, so that it can be released.
    pub(in crate::nvml) fn can_release(&self) -> bool {
        self.phase == Phase::Serving && self.release.is_none()
    }

    /// Whether NVML is released or is to be, so that no other process of ours may open it.
    pub(in crate::nvml) fn wants_release(&self) -> bool {
        self.release.is_some() || matches!(self.phase, Phase::Released { .. })
    }

    /// What NVML is, for whoever wants it in use.
    pub(in crate::nvml) fn usage(&self) -> Usage {
        match self.phase {
            _ if self.wants_release() => Usage::Released,
            Phase::Closed { .. } => Usage::Down(self.down_reason()),
            Phase::Opening { .. } | Phase::Closing { .. } => Usage::Changing,
            Phase::Starting { .. } | Phase::Serving => Usage::InUse,
            Phase::Released { .. } => Usage::Released,
        }
    }

    fn down_reason(&self) -> String {
        match self.logged.as_str() {
            "" => "it failed, and is opened again shortly".to_owned(),
            reason => reason.to_owned(),
        }
    }
}
