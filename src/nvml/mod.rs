//! The NVML module: the only one that names nvml_wrapper, and the threads that call NVML.
//!
//! The `supervisor` decides which calls come next, the `worker_pool` makes them on a thread, which
//! it replaces when a call does not return; another thread waits for events. All of them report
//! observations and decide nothing about health: what health wants to be read comes in as
//! [`ReadRequests`].

mod channels;
mod clock;
mod device_uuid;
mod discovery;
pub mod epoch;
mod error;
mod event_registry;
mod events;
mod handle;
mod library;
mod links;
mod mig;
mod raw;
mod reading;
mod release;
mod retry_schedule;
mod session;
mod settings;
mod supervisor;
pub mod survey;
mod system;
pub mod telemetry;
mod thread;
mod versions;
mod worker_pool;

use std::convert::Infallible;

pub use channels::{NvmlChannels, ReadRequests, TimedObservation};
pub use clock::Clock;
pub use error::SupervisorError;
pub use library::NvmlOpenError;
pub use release::Release;
pub use settings::{NvmlSettings, PollSettings};
use supervisor::Supervisor;
pub use versions::Versions;

/// Polls NVML and waits for its events until the future is dropped. The threads end by themselves
/// after that, as soon as their calls return.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the settings, or a thread cannot be
/// started or ended by itself.
pub async fn run(
    settings: NvmlSettings,
    clock: Clock,
    channels: NvmlChannels,
) -> Result<Infallible, SupervisorError> {
    Supervisor::new(settings, clock, channels)?.run().await
}
