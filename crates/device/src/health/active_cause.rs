//! One cause as it is held against a GPU: since when, and by which rule it goes away.

use super::cause::Cause;
use super::nvml_error::ReturnCode;
use super::observation::Evidence;
use super::reading::Reading;
use super::reason::{Moment, Reason};
use super::rules::{Thresholds, Weight};
use super::xid::Class;

/// By which rule a cause goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClearRule {
    /// Its own source takes it back, at once.
    Source,
    /// Clean polls: what it says is read anew each time.
    Polls,
    /// Clean polls in which the recovery action asks for nothing. A driver without a recovery
    /// action proves nothing by answering: there, evidence of repair and then clean polls, or the
    /// quiet time if one is configured.
    Driver,
    /// A new enumeration that lists the UUID, then clean polls.
    Return,
    /// Any evidence of repair, then clean polls.
    Repair,
    /// Evidence of repair other than the GPU's coming back, which is what it did each time before
    /// it relapsed.
    Judgement,
    /// A new boot or a person's word, then clean polls.
    Boot,
}

/// What has happened about a cause.
///
/// ```text
///            raised                  evidence that its rule accepts
///   (none) ─────────▶ Standing ─────────────────────────────────────▶ Repaired
///     ▲                 │   ▲                                          │   │
///     │   N clean polls │   └──────────────── raised again ────────────┘   │ N clean polls
///     │   (Polls,       │                                                  │
///     └─── Driver) ─────┴──────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing speaks for its being over.
    Standing,
    /// There is evidence; clean polls have to confirm it.
    Repaired,
}

/// What a poll says that bears on recovery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Poll {
    /// When the asking began.
    pub at: Moment,
    /// What the driver asks for.
    pub driver: RecoveryState,
    /// Whether the remapped rows were read.
    pub rows: bool,
    /// Whether the fabric was read.
    pub fabric: bool,
    /// Whether the probe passed.
    pub probe: bool,
}

/// What a poll says about the recovery action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecoveryState {
    /// It was not read, or the read failed.
    Nothing,
    /// The driver has none.
    NoField,
    /// It asks for nothing of this GPU.
    Clear,
    /// It asks for something.
    Asks,
}

/// A cause that is held against a GPU.
#[derive(Debug, Clone)]
pub(super) struct ActiveCause {
    pub cause: Cause,
    pub stage: Stage,
    remembered: bool,
    since: Moment,
    /// When it was last raised: only what is newer can count against it.
    last: Moment,
    /// Clean polls in a row since.
    clean: u32,
}

impl Poll {
    pub(super) fn of(at: Moment, reading: &Reading, thresholds: &Thresholds) -> Self {
        let driver = match &reading.recovery_action {
            Some(Ok(action)) if thresholds.weight(*action) == Some(Weight::Unhealthy) => {
                RecoveryState::Asks
            }
            Some(Ok(_)) => RecoveryState::Clear,
            Some(Err(error)) if error.code.is_unsupported() => RecoveryState::NoField,
            Some(Err(_)) | None => RecoveryState::Nothing,
        };
        let probe = match &reading.probe {
            Some(Ok(())) => true,
            // A GPU that shares the memory of the host (GB10) has no memory of its own to tell of.
            Some(Err(error)) => error.code == ReturnCode::NOT_SUPPORTED,
            None => false,
        };
        Self {
            at,
            driver,
            rows: reading.remapped_rows.is_some(),
            fabric: reading.fabric.is_some(),
            probe,
        }
    }
}

impl ActiveCause {
    pub(super) fn new(cause: Cause, now: Moment) -> Self {
        Self { cause, stage: Stage::Standing, remembered: false, since: now, last: now, clean: 0 }
    }

    pub(super) fn remembered(cause: Cause, repaired: bool, now: Moment) -> Self {
        let stage = if repaired { Stage::Repaired } else { Stage::Standing };
        Self { stage, remembered: true, ..Self::new(cause, now) }
    }

    pub(super) fn lift(&self) -> ClearRule {
        lift(&self.cause)
    }

    /// The same cause once more. Says whether its details are new.
    pub(super) fn again(&mut self, cause: Cause, now: Moment) -> bool {
        self.stage = Stage::Standing;
        self.clean = 0;
        self.last = self.last.max(now);
        let news = self.cause != cause;
        self.cause = cause;
        news
    }

    /// Polls are in a row only if nothing failed between them.
    pub(super) fn reset_streak(&mut self) {
        self.clean = 0;
    }

    pub(super) fn repaired(&mut self, evidence: Evidence, now: Moment) {
        if now >= self.last && accepts(self.lift(), evidence) {
            self.stage = Stage::Repaired;
        }
    }

    /// The GPU is listed by a new enumeration.
    pub(super) fn returned(&mut self, now: Moment) {
        if now >= self.last && self.lift() == ClearRule::Return {
            self.stage = Stage::Repaired;
        }
    }

    /// Counts a poll. Says whether the cause is over.
    pub(super) fn polled(&mut self, poll: &Poll, thresholds: &Thresholds) -> bool {
        if poll.at <= self.last {
            return false;
        }
        let clean = poll.probe && self.is_answered_by(poll, thresholds);
        self.clean = if clean { self.clean.saturating_add(1) } else { 0 };
        let settled = !matches!(self.cause, Cause::Xid { .. })
            || poll.at.since(self.last) >= thresholds.suspicion;
        self.clean >= thresholds.recovery_polls.get() && settled
    }

    fn is_answered_by(&self, poll: &Poll, thresholds: &Thresholds) -> bool {
        let repaired = self.stage == Stage::Repaired;
        match self.lift() {
            ClearRule::Source => false,
            ClearRule::Polls => match self.cause {
                Cause::Fabric(_) => poll.fabric,
                Cause::RowRemapPending => poll.rows,
                _ => true,
            },
            ClearRule::Driver => match poll.driver {
                RecoveryState::Clear => true,
                RecoveryState::NoField => {
                    repaired
                        || thresholds.quiet.is_some_and(|quiet| poll.at.since(self.last) >= quiet)
                }
                RecoveryState::Nothing | RecoveryState::Asks => false,
            },
            ClearRule::Repair if self.cause == Cause::RowRemapFailure => repaired && poll.rows,
            ClearRule::Return | ClearRule::Repair | ClearRule::Judgement | ClearRule::Boot => {
                repaired
            }
        }
    }

    pub(super) fn reason(&self) -> Reason {
        Reason { cause: self.cause.clone(), since: self.since, remembered: self.remembered }
    }
}

/// The rule of each cause.
pub(super) fn lift(cause: &Cause) -> ClearRule {
    match cause {
        Cause::Quarantined(_) | Cause::Node(_) => ClearRule::Source,
        Cause::Fabric(_)
        | Cause::RowRemapPending
        | Cause::NvmlError(_)
        | Cause::NvmlUnresponsive { .. } => ClearRule::Polls,
        Cause::RecoveryAction(_) | Cause::ResetRequired => ClearRule::Driver,
        Cause::Xid { xid, .. } => match xid.class() {
            Class::Lost => ClearRule::Return,
            Class::Sticky => ClearRule::Boot,
            _ => ClearRule::Driver,
        },
        Cause::Lost | Cause::NotEnumerated => ClearRule::Return,
        Cause::InfoRomCorrupted | Cause::RowRemapFailure => ClearRule::Repair,
        Cause::Relapses(_) => ClearRule::Judgement,
    }
}

/// Whether evidence of this kind speaks for a cause with this rule being over.
pub(super) fn accepts(lift: ClearRule, evidence: Evidence) -> bool {
    match lift {
        ClearRule::Driver | ClearRule::Repair => true,
        ClearRule::Judgement => evidence != Evidence::GoneAndBack,
        ClearRule::Boot => matches!(evidence, Evidence::NewBoot | Evidence::Operator),
        // A GPU that is gone comes back by being listed, whatever anybody says.
        ClearRule::Source | ClearRule::Polls | ClearRule::Return => false,
    }
}

/// Whether a cause is a failure of the GPU itself, rather than of its surroundings or a word about
/// it: only those count as relapses.
pub(super) fn is_of_the_gpu(cause: &Cause) -> bool {
    !matches!(lift(cause), ClearRule::Source | ClearRule::Polls)
}
