//! The requests of the control socket, and the signals that make the same ones.

use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::Signal;
use tokio::time::timeout;
use tracing::info;

use super::clear::{Clearing, NotClearable};
use crate::control::{Answer, Request};
use crate::nvml::{LONGEST_RELEASE, NotReleased, NotTakenUp, RELEASE_DEADLINE, Release};

/// How long a request about NVML may take to be looked at and to be done.
const DEADLINE: Duration = RELEASE_DEADLINE.saturating_add(Duration::from_secs(2));

/// Carries out what the control socket is asked for.
pub(super) struct ControlRequests {
    pub(super) clearing: Clearing,
    pub(super) release: Release,
}

impl ControlRequests {
    /// Does it, and says what came of it.
    pub(super) async fn handle(&self, request: Request) -> Answer {
        let done = match request {
            Request::Clear { gpu, cause } => {
                self.clearing.clear(gpu, cause).await.map_err(|why: NotClearable| why.to_string())
            }
            Request::Release { seconds } => self.release(seconds).await,
            Request::TakeUp {} => {
                info!("a request over the control socket to take NVML up");
                let done = timeout(DEADLINE, self.release.take_up()).await;
                let done = done.unwrap_or(Err(NotTakenUp::Late));
                done.map(|()| Answer::TakenUp {}).map_err(|why| why.to_string())
            }
        };
        done.unwrap_or_else(|reason| Answer::Refused { reason })
    }

    async fn release(&self, seconds: Option<u64>) -> Result<Answer, String> {
        let time = seconds.map(Duration::from_secs);
        if time.is_some_and(|time| time.is_zero() || time > LONGEST_RELEASE) {
            return Err(format!("seconds has to be from 1 to {}", LONGEST_RELEASE.as_secs()));
        }
        info!(seconds, "a request over the control socket to release NVML");
        let done = timeout(DEADLINE, self.release.release(time)).await;
        let left = done.unwrap_or(Err(NotReleased::Late)).map_err(|why| why.to_string())?;
        // Rounded: it has just been released for whole seconds.
        Ok(Answer::Released { seconds: (left + Duration::from_millis(500)).as_secs() })
    }
}

/// Releases NVML at each signal.
pub(super) async fn release_on(mut signal: Signal, release: Release) -> anyhow::Error {
    while signal.recv().await.is_some() {
        info!("SIGUSR1: a request to release NVML");
        release.request_release();
    }
    anyhow!("SIGUSR1 can no longer be received")
}

/// Takes NVML up again at each signal.
pub(super) async fn take_up_on(mut signal: Signal, release: Release) -> anyhow::Error {
    while signal.recv().await.is_some() {
        info!("SIGUSR2: a request to take NVML up");
        release.request_take_up();
    }
    anyhow!("SIGUSR2 can no longer be received")
}
