//! The numbers of the policy: how often, how long, how many.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a condition does that may or may not be borne with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// It is shown; the GPU stays as it is.
    Degraded,
    /// It makes the GPU Unhealthy.
    Unhealthy,
}

/// How many relapses in how long a time are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relapses {
    /// So many…
    pub count: NonZeroU32,
    /// …within this time.
    pub window: Duration,
}

impl Default for Relapses {
    fn default() -> Self {
        Self { count: THREE, window: Duration::from_secs(3600) }
    }
}

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// The numbers of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// Clean polls in a row before a cause is over.
    pub recovery_polls: NonZeroU32,
    /// Relapses that latch the verdict until there is evidence of repair; `None`: never.
    pub relapses: Option<Relapses>,
    /// Calls in a row that fail or do not return before the GPU is Unhealthy for it.
    pub misses: NonZeroU32,
    /// How long after an alarm the recovery action is read again, since the driver may make up its
    /// mind late. In this time a read that fails counts at once, and no Xid is over.
    pub suspicion: Duration,
    /// On drivers without the recovery action: a quiet time after which an Xid is over without
    /// evidence of repair.
    pub quiet: Option<Duration>,
    /// What a row that waits to be remapped does. NVIDIA: running and new work are not affected.
    pub row_remap_pending: Weight,
    /// What the driver's wish for an end of peer-to-peer work does.
    pub drain_p2p: Weight,
    /// What a fault of the NVLink fabric does.
    pub fabric: Weight,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            recovery_polls: TWO,
            relapses: Some(Relapses::default()),
            misses: THREE,
            suspicion: Duration::from_secs(5),
            quiet: None,
            row_remap_pending: Weight::Degraded,
            drain_p2p: Weight::Unhealthy,
            fabric: Weight::Unhealthy,
        }
    }
}
