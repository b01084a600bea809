//! When NVML is initialised again, to list GPUs that it does not. Pure.
//!
//! A new initialisation stops the look at every GPU for as long as it takes. So a child process
//! initialises NVML of its own first, and only if that sees more than we do is ours renewed.
//!
//! ```text
//!   a GPU is missing that is on the bus, or one was bound ──▶ look (a child) ──▶ sees more: renew
//!            ▲                                                   │
//!            └── after INTERVAL ◀── sees no more ────────────────┘
//!   a renewal that listed none of what the child saw: the next look is later, up to LONGEST
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use device::health::Moment;
use device::names::{PciBusId, Uuid};

use crate::util::backoff::Backoff;

/// Time between two looks while a GPU is missing, in polls: one minute by default.
const INTERVAL: u32 = 6;
/// The longest time to the next look after renewals without fruit, in polls: one hour by default.
const LONGEST: u32 = 360;

/// The state of looks and renewals.
#[derive(Debug)]
pub(super) struct Renewal {
    interval: Duration,
    fruitless: Backoff,
    /// The earliest time of the next look.
    pub(super) next: Moment,
    looking: bool,
    /// What the child saw and this session was opened for.
    awaited: BTreeSet<Uuid>,
    /// The functions that were bound at the last look, or else when the session was opened; `None`:
    /// the bus was not read since then.
    bound: Option<BTreeSet<PciBusId>>,
}

impl Renewal {
    pub(super) fn new(poll: Duration) -> Self {
        let interval = poll.saturating_mul(INTERVAL);
        Self {
            interval,
            fruitless: Backoff::new(interval, poll.saturating_mul(LONGEST)),
            next: Moment::default(),
            looking: false,
            awaited: BTreeSet::new(),
            bound: None,
        }
    }

    /// Changes the poll interval.
    pub(super) fn set_poll(&mut self, poll: Duration) {
        let fresh = Self::new(poll);
        (self.interval, self.fruitless) = (fresh.interval, fresh.fruitless);
    }

    /// A session is being opened.
    pub(super) fn opens(&mut self) {
        self.bound = None;
    }

    /// A session was opened.
    pub(super) fn opened(&mut self, now: Moment) {
        self.next = self.next.max(now.after(self.interval / INTERVAL));
    }

    /// The bus was read.
    pub(super) fn scanned(&mut self, bound: Option<&BTreeSet<PciBusId>>) {
        self.bound.get_or_insert_with(|| bound.cloned().unwrap_or_default());
    }

    /// When to look, while GPUs are missing (`wanted`); `None`: not before something changes.
    pub(super) fn due(
        &self,
        now: Moment,
        wanted: bool,
        bound: Option<&BTreeSet<PciBusId>>,
    ) -> Option<Moment> {
        let newly_bound =
            bound.zip(self.bound.as_ref()).is_some_and(|(bound, before)| !bound.is_subset(before));
        match (self.looking, wanted) {
            (true, _) | (_, false) => None,
            (false, true) if newly_bound => Some(now),
            (false, true) => Some(self.next),
        }
    }

    /// A child looks from now on.
    pub(super) fn looks(&mut self, now: Moment, bound: Option<&BTreeSet<PciBusId>>) {
        self.looking = true;
        self.bound = Some(bound.cloned().unwrap_or_default());
        self.next = now.after(self.interval);
    }

    /// The child is done.
    pub(super) fn looked(&mut self) {
        self.looking = false;
    }

    /// NVML is initialised again for these GPUs.
    pub(super) fn renews(&mut self, awaited: BTreeSet<Uuid>) {
        self.awaited = awaited;
    }

    /// The first round of a session is done; whether an awaited GPU answered in it.
    pub(super) fn round_done(&mut self, now: Moment, answers: impl Fn(&Uuid) -> bool) {
        let awaited = std::mem::take(&mut self.awaited);
        if awaited.is_empty() {
            return;
        }
        if awaited.iter().any(answers) {
            self.fruitless.reset();
        } else {
            self.next = now.after(self.fruitless.next_delay());
        }
    }
}
