//! Notices another device plugin that serves a resource of this one: in the log, the events and the
//! findings.

use std::time::{Duration, SystemTime};

use device::names::ResourceName;
use status::{EventKind, Finding, OTHER_PLUGIN};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::plugins::TelemetryByResource;
use crate::kubelet::device_plugin::rivals::{OwnResource, RivalSearch, Rivals};
use crate::kubelet::device_plugin::socket::{PluginPaths, resource_of};
use crate::kubelet::device_plugin::socket_events::{SocketEvent, SocketEvents};
use crate::nvml::Clock;
use crate::observe::event_log::{Event, EventLog};
use crate::util::helper_thread::HelperThread;

/// How long what was seen has to last: a predecessor may still be stopping, and our own sockets
/// change names.
const LASTS: Duration = Duration::from_secs(3);
/// Of a burst of changes the last is a reason to look.
const BURST: Duration = Duration::from_secs(1);

/// What the watch needs.
pub(super) struct RivalWatch {
    pub(super) paths: PluginPaths,
    pub(super) socket_events: SocketEvents,
    pub(super) telemetry: TelemetryByResource,
    pub(super) clock: Clock,
    pub(super) event_log: EventLog,
    /// Where the rivals are published.
    pub(super) rivals: watch::Sender<Rivals>,
}

impl RivalWatch {
    /// Watches for as long as it is polled.
    pub(super) async fn run(self) -> anyhow::Error {
        let thread = HelperThread::new("plugin-sockets", RivalSearch::default());
        let mut events = self.socket_events.subscribe();
        loop {
            events.mark_unchanged();
            let seen = self.look(&thread).await;
            if !same_resources(&seen, &self.rivals.borrow()) {
                sleep(LASTS).await;
                let again = self.look(&thread).await;
                if same_resources(&seen, &again) {
                    self.publish(again);
                }
            }
            // The sender is here too.
            let _ = events.changed().await;
            if *events.borrow() == SocketEvent::Change {
                sleep(BURST).await;
            }
        }
    }

    async fn look(&self, thread: &HelperThread<RivalSearch>) -> Rivals {
        let (paths, own) = (self.paths.clone(), self.own());
        let looked = thread.submit(move |search| search.look(&paths, &own)).await;
        // Without a thread it looks again later.
        looked.unwrap_or_else(|_| self.rivals.borrow().clone())
    }

    fn own(&self) -> Vec<OwnResource> {
        let (now, system) = (self.clock.now().0, SystemTime::now());
        let plugins = self.telemetry.all().into_iter();
        plugins
            .map(|(name, telemetry)| OwnResource {
                name,
                endpoint: telemetry.status().endpoint,
                stream_ended: telemetry
                    .stream_ended()
                    .and_then(|ended| system.checked_sub(now.saturating_sub(ended))),
            })
            .collect()
    }

    fn publish(&self, rivals: Rivals) {
        let before = self.rivals.send_replace(rivals.clone());
        let event = |kind, message| self.event_log.add(Event::new(self.clock.now(), kind, message));
        for (resource, message) in messages(&rivals) {
            if !before.contains_key(resource) {
                warn!("{message}");
                event(EventKind::Finding, message);
            }
        }
        for (resource, message) in messages(&before) {
            if !rivals.contains_key(resource) {
                info!("no longer so: {message}");
                event(EventKind::FindingOver, message);
            }
        }
    }
}

fn same_resources(a: &Rivals, b: &Rivals) -> bool {
    a.keys().eq(b.keys())
}

/// The finding for each resource that has a rival.
pub(super) fn findings(rivals: &Rivals) -> Vec<Finding> {
    let finding = |(_, message)| Finding { kind: OTHER_PLUGIN.to_owned(), message };
    messages(rivals).map(finding).collect()
}

fn messages(rivals: &Rivals) -> impl Iterator<Item = (&ResourceName, String)> {
    rivals.iter().map(|(resource, sockets)| {
        let names: Vec<&str> = sockets.iter().map(String::as_str).collect();
        let is_twin = names.iter().all(|name| resource_of(name).is_some());
        let remedy = match is_twin {
            true => "run one gpu-device-plugin on each node",
            false => {
                "remove one of the two from this node (kubectl get pods -A -o wide \
                 --field-selector spec.nodeName=NODE lists its pods)"
            }
        };
        let message = format!(
            "another device plugin serves {resource} on this node, at {}: the kubelet has the one \
             that registered last, and pods get its devices; {remedy}",
            names.join(", ")
        );
        (resource, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_the_resource_and_the_sockets() {
        let of = |name: &str| Rivals::from([(ResourceName::gpu(), [name.to_owned()].into())]);
        let text = |name| findings(&of(name)).remove(0).message;
        let other = text("nvidia-gpu.sock");
        assert!(other.contains("nvidia.com/gpu") && other.contains("nvidia-gpu.sock"), "{other}");
        assert!(
            text("nvidia-gpu-abcdefgh.sock").ends_with("run one gpu-device-plugin on each node")
        );
    }
}
