//! Watches of Nodes: what there is, then each change, with bookmarks, until the server ends them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::history::{History, NODES, expired};
use crate::respond::Call;
use crate::state::State;

/// How often a watch is told where it is.
const BETWEEN_BOOKMARKS: Duration = Duration::from_secs(60);

/// A watch of one Node.
pub(crate) struct Watched {
    path: String,
    metadata_only: bool,
    /// The last version that was sent; `None`: what there is comes first.
    sent: Option<u64>,
    is_expired: bool,
    ended: u64,
    deadline: Duration,
}

impl Watched {
    pub(crate) fn new(call: &Call<'_>, history: &History) -> Self {
        let text = |key: &str| call.query.get(key).map(String::as_str).unwrap_or_default();
        let node = text("fieldSelector").strip_prefix("metadata.name%3D").unwrap_or_default();
        let seconds = text("timeoutSeconds").parse().unwrap_or(1_800);
        let sent = text("resourceVersion").parse().ok().filter(|version| *version != 0);
        Self {
            path: format!("{NODES}{node}"),
            metadata_only: call.metadata_only,
            is_expired: sent.is_some_and(|version| history.is_expired(version)),
            sent,
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
    if watched.is_expired {
        let event = json!({"type": "ERROR", "object": expired().1});
        let _ = sender.send_data(format!("{event}\n").into()).await;
        return;
    }
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
