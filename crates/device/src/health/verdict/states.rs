//! The states of a GPU: what its readings say, and its calls that fail or do not return.

use std::time::Duration;

use super::{FirstAnswer, GpuHealth, Step};
use crate::health::cause::Cause;
use crate::health::clear_rule::Poll;
use crate::health::nvml_error::NvmlError;
use crate::health::observation::HealthNotice;
use crate::health::reading::Reading;
use crate::health::reason::{Degradation, Moment, Since};

/// How long after a contained memory error the driver is believed that nothing waits for a reset:
/// long enough for people and alerts to notice.
const CONTAINED_QUIET: Duration = Duration::from_secs(600);

impl GpuHealth {
    pub(super) fn poll(&mut self, reading: &Reading, step: &mut Step) {
        self.read(reading, step);
        let thresholds = step.policy.thresholds();
        let passed = reading.passed_probe();
        let poll = Poll { at: step.now, passed, fields: &self.fields, thresholds };
        self.causes.polled(&poll, &mut step.change);
    }

    pub(super) fn read(&mut self, reading: &Reading, step: &mut Step) {
        self.reads.read(step.now);
        self.hanging = None;
        self.fields.update(reading);
        self.answered(reading.passed_probe(), step);
        for cause in reading.errors().filter_map(|error| Cause::named_by(error.code)) {
            self.raise(cause, step);
        }
        let is_over = |at: &mut Moment| step.now.since(*at) >= CONTAINED_QUIET;
        if self.fields.want_nothing() {
            self.contained.take_if(is_over);
        }
        // However many calls of a reading failed, it counts as one failure.
        match reading.failures().find(|error| Cause::named_by(error.code).is_none()) {
            Some(error) => self.failed(error.clone(), step),
            None => {
                self.failing = None;
                self.update_states(step);
            }
        }
    }

    fn answered(&mut self, passed: bool, step: &mut Step) {
        match (self.first_answer, passed) {
            (FirstAnswer::Given, _) | (FirstAnswer::Overdue, false) => return,
            (FirstAnswer::Awaited, false) => step.change.raised.push(Cause::NotAnswered),
            (FirstAnswer::Awaited, true) => step.change.notices.push(HealthNotice::Answered),
            (FirstAnswer::Overdue, true) => step.change.cleared.push(Cause::NotAnswered),
        }
        self.first_answer = if passed { FirstAnswer::Given } else { FirstAnswer::Overdue };
    }

    pub(super) fn call_failed(&mut self, error: NvmlError, step: &mut Step) {
        if error.code.is_unsupported() || error.code.is_refused() {
            return;
        }
        match Cause::named_by(error.code) {
            Some(cause) => self.raise(cause, step),
            None => self.failed(error, step),
        }
    }

    /// Counts a failure that names no state of the GPU.
    fn failed(&mut self, error: NvmlError, step: &mut Step) {
        let before = self.failing.as_ref().map_or(0, |(_, times)| *times);
        self.failing = Some((error, before.saturating_add(1)));
        self.causes.reset_streaks();
        self.update_states(step);
    }

    /// Counts a deadline that passed.
    pub(super) fn timed_out(&mut self, call: &'static str, step: &mut Step) {
        let before = self.hanging.map_or(0, |(_, times)| times);
        self.hanging = Some((call, before.saturating_add(1)));
        self.answered(false, step);
        self.causes.reset_streaks();
        self.update_states(step);
    }

    /// Raises the states that are known, and makes the degradations those that are known.
    pub(super) fn update_states(&mut self, step: &mut Step) {
        let thresholds = step.policy.thresholds();
        let states: Vec<_> =
            self.fields.causes(thresholds).chain(self.failing_calls(step)).collect();
        for cause in states {
            self.raise(cause, step);
        }
        let mut degradations = self.fields.degradations(thresholds);
        degradations.extend(self.contained.map(|_| Degradation::ContainedError));
        degradations.extend(self.is_deaf.then_some(Degradation::NoEvents));
        self.degradations.retain(|which, _| {
            let stays = degradations.contains(which);
            if !stays {
                step.change.notices.push(HealthNotice::Restored(*which));
            }
            stays
        });
        for which in degradations {
            self.degradations.entry(which).or_insert_with(|| {
                step.change.notices.push(HealthNotice::Degraded(which));
                Since::now(step.now)
            });
        }
    }

    /// The calls that failed or passed their deadline too often in a row. Once is too often while
    /// the GPU is suspect, a deadline also if it never answered.
    fn failing_calls(&self, step: &Step) -> impl Iterator<Item = Cause> {
        let missed_calls = step.policy.thresholds().missed_calls.get();
        let is_suspect = self.reads.is_suspect(step.now);
        let is_new = self.first_answer != FirstAnswer::Given;
        let failing =
            self.failing.as_ref().filter(|(_, times)| *times >= missed_calls || is_suspect);
        let hanging =
            self.hanging.filter(|(_, times)| *times >= missed_calls || is_suspect || is_new);
        let failing = failing.map(|(error, _)| Cause::NvmlError(error.clone()));
        failing.into_iter().chain(hanging.map(|(call, _)| Cause::NvmlUnresponsive { call }))
    }
}
