//! What the hardware edge counts of its own work, and how NVML stands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::health::{NvmlError as CallError, ReturnCode};

use super::Versions;
use crate::util::counters::{Counts, Distribution, Histogram};

/// Different pairs of a call and a return code that are counted: a few dozen calls have a few codes
/// each.
const MOST_ERRORS: usize = 256;
/// Upper bounds of the duration of one round of polls over all GPUs.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

thread_local! {
    static OWN: RefCell<Option<Telemetry>> = const { RefCell::new(None) };
}

/// The counters of the hardware edge. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    errors: Counts<(&'static str, ReturnCode)>,
    rounds: Histogram,
    /// Calls about one GPU that do not return.
    held_up: AtomicU64,
    /// Whether a call about no GPU in particular does not.
    node_overdue: AtomicBool,
    standing: Mutex<Standing>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            errors: Counts::new(MOST_ERRORS),
            rounds: Histogram::new(BOUNDS),
            held_up: AtomicU64::new(0),
            node_overdue: AtomicBool::new(false),
            standing: Mutex::default(),
        }
    }
}

/// How NVML stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it was ever tried to open it, and what came of it is known.
    pub tried: bool,
    /// Whether it is initialised.
    pub up: bool,
    /// How many GPUs it listed when it was initialised.
    pub gpus: u32,
    /// Whether it was let go for the reset of a GPU.
    pub release: bool,
    /// The versions of the driver and the library, when they were last asked.
    pub versions: Versions,
}

impl Telemetry {
    /// Failed calls by call and return code. That something is not supported is no failure.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<(&'static str, ReturnCode), u64> {
        self.0.errors.all()
    }

    /// How long the rounds of polls took.
    #[must_use]
    pub fn rounds(&self) -> Distribution {
        self.0.rounds.distribution()
    }

    /// How many calls do not return now.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.0.held_up.load(Relaxed) + u64::from(self.0.node_overdue.load(Relaxed))
    }

    /// How NVML stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// What is counted on this thread from now on is counted here.
    pub(super) fn on_this_thread(self) {
        OWN.set(Some(self));
    }

    /// The counters of this thread; ones that nobody reads if it has none.
    pub(super) fn of_this_thread() -> Self {
        OWN.with_borrow(|own| own.clone().unwrap_or_default())
    }

    /// Counts a call of this thread that failed.
    pub(super) fn failed(error: &CallError) {
        if !error.code.is_unsupported() {
            OWN.with_borrow(|own| {
                if let Some(Self(counters)) = own {
                    counters.errors.count((error.call, error.code));
                }
            });
        }
    }

    pub(super) fn round_took(&self, time: Duration) {
        self.0.rounds.observe(time);
    }

    pub(super) fn held_up(&self, calls: usize) {
        self.0.held_up.store(calls as u64, Relaxed);
    }

    pub(super) fn node_overdue(&self, overdue: bool) {
        self.0.node_overdue.store(overdue, Relaxed);
    }

    /// It is initialised, and lists so many GPUs.
    pub(super) fn is_up(&self, gpus: u32) {
        let mut standing = self.lock();
        (standing.tried, standing.up, standing.gpus) = (true, true, gpus);
    }

    /// It cannot be initialised, or fails.
    pub(super) fn is_down(&self) {
        let mut standing = self.lock();
        (standing.tried, standing.up) = (true, false);
    }

    pub(super) fn is_let_go(&self, release: bool) {
        self.lock().release = release;
    }

    pub(super) fn versions(&self, versions: Versions) {
        self.lock().versions = versions;
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_where_their_thread_belongs_and_what_is_not_supported_is_none() {
        let telemetry = Telemetry::default();
        let own = telemetry.clone();
        let fail = |code| Telemetry::failed(&CallError { call: "nvmlDeviceGetMemoryInfo", code });
        fail(ReturnCode::GPU_IS_LOST);
        std::thread::spawn(move || {
            own.on_this_thread();
            fail(ReturnCode::GPU_IS_LOST);
            fail(ReturnCode::NOT_SUPPORTED);
        })
        .join()
        .unwrap();
        assert_eq!(
            telemetry.errors(),
            BTreeMap::from([(("nvmlDeviceGetMemoryInfo", ReturnCode::GPU_IS_LOST), 1)])
        );
    }
}
