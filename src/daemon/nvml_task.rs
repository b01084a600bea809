//! The task in NVML, and what connects it with the others.

use tokio::sync::{mpsc, watch};

use super::tasks::Tasks;
use crate::config::Config;
use crate::nvml::telemetry::NvmlTelemetry;
use crate::nvml::{
    self, Clock, NvmlChannels, PollSettings, ReadRequests, Release, TimedObservation,
};

/// The ends of its channels that others hold.
pub(super) struct NvmlTask {
    pub(super) observe: mpsc::Sender<Vec<TimedObservation>>,
    pub(super) observations: mpsc::Receiver<Vec<TimedObservation>>,
    pub(super) wants: watch::Sender<ReadRequests>,
    pub(super) poll_settings: watch::Sender<PollSettings>,
    pub(super) release: Release,
    pub(super) telemetry: NvmlTelemetry,
}

impl NvmlTask {
    /// Starts it. Its observations wait for who takes them.
    pub(super) fn start(config: &Config, clock: Clock, tasks: &mut Tasks) -> Self {
        let (poll_settings, settings) = watch::channel(config.poll_settings(&config.policy()));
        let (release, requests) = Release::channel();
        let (channels, observations, wants) = NvmlChannels::new(requests, settings);
        let observe = channels.observations_tx.clone();
        let telemetry = channels.telemetry.clone();
        let settings = config.process.nvml.clone();
        tasks.spawn("NVML", async move {
            let Err(error) = nvml::run(settings, clock, channels).await;
            error.into()
        });
        Self { observe, observations, wants, poll_settings, release, telemetry }
    }
}
