//! Writes Events (`events.k8s.io/v1`) about the Node and about pods.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use status::{Status, bounded, escaped};
use status_stream::View;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::notice::{PodName, notices, pod_notices};
use super::queue::{EventQueue, PendingEvent};
use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::retry::Retry;

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

/// Who reports, and about what.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The name of the node.
    pub node: String,
    /// The pod, or the node, that this process runs on.
    pub instance: String,
    /// Whether what happens is told about the Node.
    pub about_node: bool,
    /// Whether it is told about the pods that hold a GPU.
    pub about_pods: bool,
}

/// What an Event is about.
struct Regarding {
    namespace: String,
    reference: Value,
}

impl Reporter {
    /// A new Event of this name.
    fn event(&self, event: &PendingEvent, regarding: &Regarding, name: &str, now: &str) -> Value {
        let instance = if self.instance.is_empty() { &self.node } else { &self.instance };
        let mut object = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": regarding.namespace},
            "eventTime": now,
            "type": if event.kind.is_normal() { "Normal" } else { "Warning" },
            "reason": event.kind.reason(),
            "action": "CheckHealth",
            "note": bounded(&escaped(&event.note), MAX_NOTE),
            "reportingController": CONTROLLER,
            "reportingInstance": bounded(instance, MAX_INSTANCE),
            "regarding": regarding.reference,
        });
        if event.count > 1 {
            object["series"] = series(event, now);
        }
        object
    }

    /// What an Event is about; `None`: a pod that is not there, or not on this node.
    async fn regarding(
        &self,
        api: &ApiServer,
        pod: Option<&PodName>,
    ) -> Result<Option<Regarding>, ApiError> {
        let Some(pod) = pod else {
            // kubectl describe finds the kubelet's own Events about a Node by this UID, and ours.
            let reference = json!({
                "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.node,
            });
            return Ok(Some(Regarding { namespace: NAMESPACE.to_owned(), reference }));
        };
        let PodName { namespace, name } = pod;
        if !is_name(namespace) || !is_name(name) {
            return Ok(None);
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let object = match api.send(&ApiRequest::get_one_metadata(path)).await {
            Err(error) if error.code() == Some(404) => return Ok(None),
            object => object?,
        };
        // By its UID the Event is shown with this pod, and not with a later one of the same name.
        let reference = json!({
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name,
            "uid": object["metadata"]["uid"],
        });
        Ok(Some(Regarding { namespace: namespace.clone(), reference }))
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
    let mut retry = Retry::new("Events");
    let mut not_before = Instant::now();
    for number in 0_u64.. {
        let now = Instant::now();
        if let Some(event) = queue.next(now).filter(|_| now >= not_before) {
            let written = write(&api, &reporter, &event, number).await;
            let now = Instant::now();
            match written {
                Ok(Written::As(name)) => {
                    retry.succeeded();
                    queue.written(now, &event, name);
                }
                Ok(Written::Expired) => queue.gone(now, &event),
                Ok(Written::Nowhere) => queue.refused(now, &event),
                Err(error) if error.code() == Some(422) => {
                    warn!(%error, "an Event is not written");
                    queue.refused(now, &event);
                }
                Err(error) => {
                    queue.attempted(now);
                    not_before = now + retry.failed(&error.into()).whole;
                }
            }
        }
        let due = queue.due(Instant::now()).map(|due| due.max(not_before));
        tokio::select! {
            changed = view.changed() => match changed {
                Ok(()) => observe(&reporter, &mut queue, &mut before, &mut view),
                // The process is ending.
                Err(_) => std::future::pending().await,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

fn observe(
    reporter: &Reporter,
    queue: &mut EventQueue,
    before: &mut Option<Arc<Status>>,
    view: &mut watch::Receiver<View>,
) {
    let Some(after) = view.borrow_and_update().status.clone() else { return };
    let of_node = reporter.about_node.then(|| notices(before.as_deref(), &after));
    let of_pods = reporter.about_pods.then(|| pod_notices(before.as_deref(), &after));
    for notice in of_node.into_iter().chain(of_pods).flatten() {
        debug!(reason = notice.kind.reason(), note = %escaped(&notice.note), "noticed");
        queue.add(Instant::now(), notice);
    }
    let dropped = queue.take_dropped();
    if dropped > 0 {
        warn!(dropped, "Events were dropped, since none could be written for long");
    }
    *before = Some(after);
}

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    /// The Event has this name in the cluster.
    As(String),
    /// It was there and is not any more: Events last an hour.
    Expired,
    /// There is nothing that it would be about.
    Nowhere,
}

/// Writes an Event, or the growth of its series.
async fn write(
    api: &ApiServer,
    reporter: &Reporter,
    event: &PendingEvent,
    number: u64,
) -> Result<Written, ApiError> {
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let events = |namespace: &str| format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let Some((name, _)) = &event.written else {
        let Some(regarding) = reporter.regarding(api, event.pod.as_ref()).await? else {
            return Ok(Written::Nowhere);
        };
        let name = reporter.name(number);
        let object = reporter.event(event, &regarding, &name, &now);
        api.send(&ApiRequest::post(events(&regarding.namespace), &object)).await?;
        return Ok(Written::As(name));
    };
    let namespace = event.pod.as_ref().map_or(NAMESPACE, |pod| &pod.namespace);
    let change = json!({"series": series(event, &now)});
    let path = format!("{}/{name}", events(namespace));
    match api.send(&ApiRequest::merge(path, &change)).await {
        Ok(_) => Ok(Written::As(name.clone())),
        Err(error) if error.code() == Some(404) => Ok(Written::Expired),
        Err(error) => Err(error),
    }
}

/// Whether a text is a name as it stands in a path: that of a DNS subdomain (RFC 1123).
fn is_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (1..=253).contains(&text.len()) && text.chars().all(inside) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use fake_apiserver::FakeApiServer;

    use super::*;
    use crate::events::NoticeKind;

    fn xids(count: u64, written: Option<(String, u64)>) -> PendingEvent {
        let mut queue = EventQueue::default();
        let (now, note) = (Instant::now(), "GPU 0: Xid 13\u{1b}".to_owned() + &"ü".repeat(2_000));
        queue.add(
            now,
            crate::events::Notice { kind: NoticeKind::XidError, note, times: count, pod: None },
        );
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
        let instance = String::new();
        let reporter = Reporter { node, instance, about_node: true, about_pods: false };
        let Written::As(name) = write(&api, &reporter, &xids(1, None), 1).await.unwrap() else {
            panic!("it is not written");
        };
        assert!(server.events()[0].get("series").is_none());
        let grown = xids(1_000_000, Some((name.clone(), 1)));
        assert_eq!(write(&api, &reporter, &grown, 2).await, Ok(Written::As(name)));
        let events = server.events();
        assert_eq!((events.len(), &events[0]["series"]["count"]), (1, &json!(1_000_000)));
        let note = events[0]["note"].as_str().unwrap();
        assert!(note.len() <= 1024 && note.starts_with("GPU 0: Xid 13\\u{1b}ü"), "{note}");
        server.expire_events();
        assert_eq!(write(&api, &reporter, &grown, 3).await, Ok(Written::Expired));
        write(&api, &reporter, &xids(u64::MAX, None), 4).await.unwrap();
        assert_eq!(server.events()[0]["series"]["count"], json!(i32::MAX));
    }
}
