//! All metrics in Prometheus's text format. Pure.

mod devices;
mod gpus;
mod kubelet;
mod nvml;
mod plugin;

use super::snapshot::MetricsSnapshot;
use super::text::Text;

/// The text that Prometheus scrapes.
#[must_use]
pub fn exposition(snapshot: &MetricsSnapshot) -> String {
    let mut text = Text::default();
    plugin::about(&mut text, snapshot);
    devices::devices(&mut text, &snapshot.status);
    gpus::gpus(&mut text, &snapshot.status.gpus);
    nvml::nvml(&mut text, snapshot);
    kubelet::kubelet(&mut text, &snapshot.status.resources, &snapshot.resources);
    kubelet::calls(&mut text, snapshot);
    devices::holders(&mut text, &snapshot.status);
    plugin::configuration(&mut text, &snapshot.status);
    plugin::process(&mut text, snapshot);
    text.into_string()
}
