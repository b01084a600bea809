//! What is true of one GPU, what of it has been seen, and why it cannot be Healthy.

use device::health::{Fabric, FabricState, NvmlError, Reading, RecoveryAction, ReturnCode};

use crate::RECOVERY_POLLS;

/// A fatal Xid that is not over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fatal {
    pub(crate) clean_polls: u32,
    pub(crate) has_evidence: bool,
}

impl Fatal {
    pub(crate) fn is_over(&self, takes_evidence: bool) -> bool {
        self.clean_polls >= RECOVERY_POLLS && (self.has_evidence || !takes_evidence)
    }
}

/// What is true of one GPU, and what of it has been seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gpu {
    // The device.
    pub(crate) asks_for: u32,
    pub(crate) is_joining: bool,
    pub(crate) fails: bool,
    pub(crate) is_gone: bool,
    // What was seen.
    pub(crate) is_listed: bool,
    pub(crate) has_answered: bool,
    pub(crate) seen_asking: bool,
    pub(crate) seen_joining: bool,
    pub(crate) is_quarantined: bool,
    pub(crate) lost_in: Option<u64>,
    pub(crate) absent_from: Option<u64>,
    /// Xid 95; it is fatal by its class.
    pub(crate) fatal: Option<Fatal>,
    /// Xid 94, which the operator made fatal.
    pub(crate) configured: Option<Fatal>,
    /// Xid 54, which only a person or a boot ends.
    pub(crate) sticky: Option<Fatal>,
}

impl Gpu {
    pub(crate) fn reading(&self, has_field: bool) -> Reading {
        let error = |code| NvmlError { call: "x", code: ReturnCode(code) };
        let state = if self.is_joining { FabricState::InProgress } else { FabricState::Completed };
        let fabric = Fabric { state, status: ReturnCode::SUCCESS, health_mask: 0 };
        let action = match has_field {
            true => Ok(RecoveryAction::from(self.asks_for)),
            false => Err(error(3)),
        };
        let fails = |answer| if self.fails { Err(error(999)) } else { answer };
        Reading {
            recovery_action: Some(action),
            fabric: Some(Ok(fabric)),
            probe: Some(fails(Ok(()))),
            remapped_rows: Some(Err(error(3))),
        }
    }

    pub(crate) fn is_polled(&mut self, has_field: bool) {
        self.has_answered |= !self.fails;
        // 5 is a recovery of the IMEX domain, which the GPU itself does not need.
        self.seen_asking = has_field && !matches!(self.asks_for, 0 | 5);
        self.seen_joining = self.is_joining;
        let is_clean = !self.fails && !self.seen_asking;
        for fatal in self.fatals() {
            fatal.clean_polls = if is_clean { fatal.clean_polls + 1 } else { 0 };
        }
        self.fatal.take_if(|fatal| fatal.is_over(!has_field));
        self.configured.take_if(|fatal| fatal.is_over(true));
        self.sticky.take_if(|fatal| fatal.is_over(true));
    }

    pub(crate) fn fatals(&mut self) -> impl Iterator<Item = &mut Fatal> {
        [&mut self.fatal, &mut self.configured, &mut self.sticky].into_iter().flatten()
    }

    /// Why the GPU cannot be Healthy now.
    pub(crate) fn held_back(&self) -> Option<&'static str> {
        [
            (!self.has_answered, "it has not answered"),
            (self.seen_asking, "the driver asks for something"),
            (self.seen_joining, "it has not joined its fabric"),
            (self.is_quarantined, "it is quarantined"),
            (!self.is_listed, "it is not listed"),
            (self.lost_in.is_some(), "it is lost"),
            (self.fatal.is_some(), "a fatal Xid is not over"),
            (self.configured.is_some(), "a configured Xid is not over"),
            (self.sticky.is_some(), "a sticky Xid is not over"),
        ]
        .into_iter()
        .find_map(|(holds, why)| holds.then_some(why))
    }
}
