//! Writes Events (`events.k8s.io/v1`) about the Node.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use status::{Status, escaped};
use status_stream::View;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::notice::notices;
use super::queue::{EventQueue, PendingEvent};
use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::condition::bounded;
use crate::keep::Retry;

/// Who reports, for the API server: a qualified name.
const CONTROLLER: &str = "gpu-node-agent";
/// The namespace of Events about what has none.
const NAMESPACE: &str = "default";
/// The longest note, in bytes.
const MAX_NOTE: usize = 1024;
/// The longest name of the pod that is told.
const MAX_INSTANCE: usize = 128;
/// The part of the node's name that names of Events begin with.
const MAX_PREFIX: usize = 200;

/// Who reports, and about which Node.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The name of the node.
    pub node: String,
    /// The pod, or the node, that this process runs on.
    pub instance: String,
}

impl Reporter {
    /// A new Event of this name.
    fn event(&self, event: &PendingEvent, name: &str, now: &str) -> Value {
        let instance = if self.instance.is_empty() { &self.node } else { &self.instance };
        let mut object = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "eventTime": now,
            "type": if event.kind.is_normal() { "Normal" } else { "Warning" },
            "reason": event.kind.reason(),
            "action": "CheckHealth",
            "note": bounded(&escaped(&event.note), MAX_NOTE),
            "reportingController": CONTROLLER,
            "reportingInstance": bounded(instance, MAX_INSTANCE),
            // kubectl describe finds the kubelet's own Events about a Node by this UID, and ours.
            "regarding": {
                "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.node,
            },
        });
        if event.count > 1 {
            object["series"] = series(event, now);
        }
        object
    }

    /// A name that no other Event has.
    fn name(&self, number: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let node = self.node[..self.node.len().min(MAX_PREFIX)].trim_end_matches(['.', '-']);
        format!("{node}.{now:x}{number:x}")
    }
}

fn series(event: &PendingEvent, now: &str) -> Value {
    let count = i32::try_from(event.count).unwrap_or(i32::MAX);
    json!({"count": count, "lastObservedTime": now})
}

/// Writes what happens as Events, for good.
pub async fn write_events(
    api: Arc<ApiServer>,
    reporter: Reporter,
    mut view: watch::Receiver<View>,
) {
    let mut queue = EventQueue::default();
    let mut before: Option<Arc<Status>> = None;
    let mut retry = Retry::new("Events about the Node");
    let mut not_before = Instant::now();
    for number in 0_u64.. {
        let now = Instant::now();
        if let Some(event) = queue.next(now).filter(|_| now >= not_before) {
            let written = write(&api, &reporter, &event, number).await;
            let now = Instant::now();
            match written {
                Ok(Some(name)) => {
                    retry.succeeded();
                    queue.written(now, &event, name);
                }
                Ok(None) => queue.gone(now, &event),
                Err(error) if error.code() == Some(422) => {
                    warn!(%error, "an Event is not written");
                    queue.refused(now, &event);
                }
                Err(error) => {
                    queue.attempted(now);
                    not_before = now + retry.failed(&error.into());
                }
            }
        }
        let due = queue.due(Instant::now()).map(|due| due.max(not_before));
        tokio::select! {
            changed = view.changed() => match changed {
                Ok(()) => observe(&mut queue, &mut before, &mut view),
                // The process is ending.
                Err(_) => std::future::pending().await,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

fn observe(
    queue: &mut EventQueue,
    before: &mut Option<Arc<Status>>,
    view: &mut watch::Receiver<View>,
) {
    let Some(after) = view.borrow_and_update().status.clone() else { return };
    for notice in notices(before.as_deref(), &after) {
        debug!(reason = notice.kind.reason(), note = %escaped(&notice.note), "noticed");
        queue.add(Instant::now(), notice);
    }
    let dropped = queue.take_dropped();
    if dropped > 0 {
        warn!(dropped, "Events were dropped, since none could be written for long");
    }
    *before = Some(after);
}

/// Writes an Event, or the growth of its series. The name that it has in the cluster; `None`: it
/// was there and is not any more.
async fn write(
    api: &ApiServer,
    reporter: &Reporter,
    event: &PendingEvent,
    number: u64,
) -> Result<Option<String>, ApiError> {
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let events = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
    let Some((name, _)) = &event.written else {
        let name = reporter.name(number);
        api.send(&ApiRequest::post(events, &reporter.event(event, &name, &now))).await?;
        return Ok(Some(name));
    };
    let change = json!({"series": series(event, &now)});
    match api.send(&ApiRequest::merge(format!("{events}/{name}"), &change)).await {
        Ok(_) => Ok(Some(name.clone())),
        // Events last an hour.
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use fake_apiserver::FakeApiServer;

    use super::*;
    use crate::events::NoticeKind;

    fn xids(count: u64, written: Option<(String, u64)>) -> PendingEvent {
        let mut queue = EventQueue::default();
        let (now, note) = (Instant::now(), "GPU 0: Xid 13\u{1b}".to_owned() + &"ü".repeat(2_000));
        queue.add(now, crate::events::Notice { kind: NoticeKind::XidError, note, times: count });
        let mut event = queue.next(now).unwrap();
        event.written = written;
        event
    }

    #[tokio::test]
    async fn a_series_grows_and_is_made_again_once_it_has_expired() {
        let node = format!("a.{}", "b".repeat(240));
        let server = FakeApiServer::start(&["create events", "patch events"], &node).await;
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        let api = ApiServer::new(Some(kubeconfig));
        let reporter = Reporter { node, instance: String::new() };
        let name = write(&api, &reporter, &xids(1, None), 1).await.unwrap().unwrap();
        assert!(server.events()[0].get("series").is_none());
        let grown = xids(1_000_000, Some((name.clone(), 1)));
        assert_eq!(write(&api, &reporter, &grown, 2).await, Ok(Some(name)));
        let events = server.events();
        assert_eq!((events.len(), &events[0]["series"]["count"]), (1, &json!(1_000_000)));
        let note = events[0]["note"].as_str().unwrap();
        assert!(note.len() <= 1024 && note.starts_with("GPU 0: Xid 13\\u{1b}ü"), "{note}");
        server.expire_events();
        assert_eq!(write(&api, &reporter, &grown, 3).await, Ok(None));
        write(&api, &reporter, &xids(u64::MAX, None), 4).await.unwrap();
        assert_eq!(server.events()[0]["series"]["count"], json!(i32::MAX));
    }
}
