//! Watches of Nodes: what there is, then each change, with bookmarks, until the server ends them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::respond::{Answer, Call, Objects, refusal};
use crate::server::State;

/// How often a watch is told where it is.
const BETWEEN_BOOKMARKS: Duration = Duration::from_secs(60);
/// Where Nodes are.
const NODES: &str = "/api/v1/nodes/";

/// The changes of Nodes since the start.
#[derive(Default)]
pub(crate) struct History {
    /// Version, path, and the type of the event with the object.
    changes: Vec<(u64, String, &'static str, Value)>,
    /// How often each Node has been written.
    seen: BTreeMap<String, u64>,
    version: u64,
    /// Before it nothing is known any more.
    oldest: u64,
    /// Watches that began before this number was counted up are over.
    ended: u64,
}

impl History {
    /// Notes what has changed.
    pub(crate) fn record(&mut self, objects: &Objects) {
        for (path, object) in objects.iter().filter(|(path, _)| path.starts_with(NODES)) {
            let writes = object.writes + 1;
            let before = self.seen.insert(path.clone(), writes);
            if before == Some(writes) {
                continue;
            }
            self.version += 1;
            let kind = if before.is_none() { "ADDED" } else { "MODIFIED" };
            let mut object = object.served();
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.changes.push((self.version, path.clone(), kind, object));
        }
    }

    pub(crate) fn end_watches(&mut self) {
        self.ended += 1;
    }

    /// Forgets the way to the present.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        self.oldest = self.version;
    }

    /// Whether a watch may begin where it wants to.
    pub(crate) fn begin_watch(&self, call: &Call<'_>) -> Answer {
        let from = call.query.get("resourceVersion").map(|version| version.parse::<u64>());
        match from {
            Some(Ok(from)) if from < self.oldest && from != 0 => {
                refusal(410, "Expired", "too old resource version")
            }
            Some(Err(_)) => refusal(400, "BadRequest", "the resourceVersion is no number"),
            _ => (200, Value::Null),
        }
    }
}

/// A watch of one Node.
pub(crate) struct Watched {
    path: String,
    metadata_only: bool,
    /// The last version that was sent; `None`: what there is comes first.
    sent: Option<u64>,
    ended: u64,
    deadline: Duration,
}

impl Watched {
    pub(crate) fn new(call: &Call<'_>, history: &History) -> Self {
        let text = |key: &str| call.query.get(key).map(String::as_str).unwrap_or_default();
        let node = text("fieldSelector").strip_prefix("metadata.name%3D").unwrap_or_default();
        let seconds = text("timeoutSeconds").parse().unwrap_or(1_800);
        Self {
            path: format!("{NODES}{node}"),
            metadata_only: call.metadata_only,
            sent: text("resourceVersion").parse().ok().filter(|version| *version != 0),
            ended: history.ended,
            deadline: Duration::from_secs(seconds),
        }
    }

    /// The events that are to be sent now.
    fn next(&mut self, history: &History) -> Vec<Value> {
        let mut of_node = history.changes.iter().filter(|(_, path, ..)| *path == self.path);
        let event = |kind: &str, object: &Value| {
            let mut object = object.clone();
            if self.metadata_only {
                object.as_object_mut().unwrap().retain(|key, _| key == "metadata");
            }
            json!({"type": kind, "object": object})
        };
        let events = match self.sent {
            None => {
                of_node.next_back().map(|(.., object)| event("ADDED", object)).into_iter().collect()
            }
            Some(sent) => {
                let new = of_node.filter(|(version, ..)| *version > sent);
                new.map(|(_, _, kind, object)| event(kind, object)).collect()
            }
        };
        self.sent = Some(history.version);
        events
    }
}

/// Sends events until the watch is over, or nobody reads them.
pub(crate) async fn send_events(
    state: Arc<Mutex<State>>,
    mut watched: Watched,
    mut sender: Sender<Bytes, Infallible>,
) {
    let deadline = watched.deadline;
    let sending = async {
        let changed = state.lock().unwrap().changed.clone();
        loop {
            let notified = changed.notified();
            tokio::pin!(notified);
            // From here on a change is not missed.
            notified.as_mut().enable();
            let (events, is_over) = {
                let state = state.lock().unwrap();
                (watched.next(&state.history), state.history.ended != watched.ended)
            };
            for event in events {
                if sender.send_data(format!("{event}\n").into()).await.is_err() {
                    return;
                }
            }
            if is_over {
                return;
            }
            if timeout(BETWEEN_BOOKMARKS, notified).await.is_err() {
                let version = watched.sent.unwrap_or_default().to_string();
                let object = json!({"kind": "Node", "metadata": {"resourceVersion": version}});
                let bookmark = json!({"type": "BOOKMARK", "object": object});
                if sender.send_data(format!("{bookmark}\n").into()).await.is_err() {
                    return;
                }
            }
        }
    };
    let _ = timeout(deadline, sending).await;
}
