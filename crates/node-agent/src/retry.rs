//! Why something failed, and the pauses until it is tried again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::api::ApiError;

/// The pause after a failure, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Why something could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// The reason.
    pub why: String,
    /// The shortest pause before the next attempt.
    pub retry_after: Duration,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let retry_after = error.retry_after().unwrap_or_default();
        Self { why: error.to_string(), retry_after }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, retry_after: Duration::ZERO }
    }
}

/// The pause before the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// What the API server asks for: nothing is attempted before.
    pub least: Duration,
    /// When the same is attempted again. It doubles with each failure.
    pub whole: Duration,
}

/// The pauses between attempts, and their log lines: each reason once, not each attempt.
#[derive(Debug)]
pub struct Retry {
    what: &'static str,
    done: &'static str,
    pause: Duration,
    told: Option<String>,
}

impl Retry {
    /// For attempts at writing this.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, done: "written", pause: FIRST_PAUSE, told: None }
    }

    /// For attempts at reading this.
    #[must_use]
    pub fn of_reading(what: &'static str) -> Self {
        Self { done: "read", ..Self::new(what) }
    }

    /// For attempts at removing this.
    #[must_use]
    pub fn of_removing(what: &'static str) -> Self {
        Self { done: "removed", ..Self::new(what) }
    }

    /// An attempt has failed. The pauses before the next are scaled at random, so that the agents
    /// of a cluster do not all come back at once.
    pub fn failed(&mut self, failure: &Failure) -> Pause {
        if self.told.as_deref() == Some(&failure.why) {
            debug!(error = %failure, "{} are not {}, will retry", self.what, self.done);
        } else {
            let (what, done) = (self.what, self.done);
            warn!(error = %failure, "{what} are not {done}, will retry for good");
            self.told = Some(failure.why.clone());
        }
        let pause = self.pause.mul_f64(0.5 + random() / 2.0);
        self.pause = (2 * self.pause).min(LAST_PAUSE);
        // Beyond what is asked for, never below.
        let least = failure.retry_after.mul_f64(1.0 + random() / 10.0);
        Pause { least, whole: least.max(pause) }
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self) {
        if self.told.take().is_some() {
            info!("{} are {}", self.what, self.done);
        }
        self.pause = FIRST_PAUSE;
    }
}

/// A random number from 0 to 1.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
