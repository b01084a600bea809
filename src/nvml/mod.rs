//! The NVML module: the only one that names nvml_wrapper, and the threads that call NVML.
//!
//! The `supervisor` decides which `job` comes next, `threads` do them and know what each is in, the
//! `runner` carries answers from one to the other. Nothing here decides about health: what was
//! found is reported as observations, and what health wants to be read comes in as
//! [`ReadRequests`].

mod bus;
mod channels;
mod current_call;
pub mod epoch;
mod error;
mod event_set;
mod events;
mod facts;
pub mod inspection;
mod job;
mod library;
mod links;
pub mod look;
mod raw;
mod reading;
mod release;
mod runner;
mod session;
mod settings;
mod shared_session;
mod supervisor;
pub mod survey;
pub mod telemetry;
mod threads;

use std::convert::Infallible;

pub use channels::{Clock, NvmlChannels, ReadRequests, TimedObservation};
pub use error::SupervisorError;
pub use library::NvmlOpenError;
pub use release::{
    LONGEST_RELEASE, NotReleased, NotTakenUp, RELEASE_DEADLINE, Release, ReleaseRequests,
};
pub use settings::{NvmlSettings, PollSettings};
pub use telemetry::Versions;

/// Polls NVML and waits for its events until the future is dropped. The threads end by themselves
/// after that, as soon as their calls return.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the settings, or a thread panicked.
pub async fn run(
    settings: NvmlSettings,
    clock: Clock,
    channels: NvmlChannels,
) -> Result<Infallible, SupervisorError> {
    runner::run(settings, clock, channels).await
}
