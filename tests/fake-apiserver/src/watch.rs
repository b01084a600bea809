//! Watches of Nodes: what there is, then each change, with bookmarks, until the server ends them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::history::{History, NODES, expired};
use crate::labels;
use crate::respond::Call;
use crate::state::State;
use crate::table;

/// How often a watch is told where it is.
const BETWEEN_BOOKMARKS: Duration = Duration::from_secs(60);

/// A watch of one Node, or of all that a selector takes.
pub(crate) struct Watched {
    path: Option<String>,
    query: BTreeMap<String, String>,
    metadata_only: bool,
    as_table: bool,
    has_sent_columns: bool,
    /// The last version that was sent; `None`: what there is comes first.
    sent: Option<u64>,
    is_expired: bool,
    ended: u64,
    deadline: Duration,
}

impl Watched {
    pub(crate) fn new(call: &Call<'_>, history: &History) -> Self {
        let text = |key: &str| call.query.get(key).map(String::as_str).unwrap_or_default();
        let node = text("fieldSelector").strip_prefix("metadata.name=");
        let seconds = text("timeoutSeconds").parse().unwrap_or(1_800);
        let sent = text("resourceVersion").parse().ok().filter(|version| *version != 0);
        Self {
            path: node.map(|node| format!("{NODES}{node}")),
            query: call.query.clone(),
            metadata_only: call.metadata_only,
            as_table: call.as_table,
            has_sent_columns: false,
            is_expired: sent.is_some_and(|version| history.is_expired(version)),
            sent,
            ended: history.ended,
            deadline: Duration::from_secs(seconds),
        }
    }

    /// The events that are to be sent now.
    fn next(&mut self, history: &History) -> Vec<Value> {
        let is_watched = |path: &String| self.path.as_ref().is_none_or(|only| only == path);
        let mut watched = history.changes.iter().filter(|(_, path, ..)| is_watched(path));
        let changes: Vec<(&str, &Value)> = match self.sent {
            // Of all Nodes a watch begins where a list was.
            None => watched.next_back().map(|(.., object)| ("ADDED", object)).into_iter().collect(),
            Some(sent) => {
                let new = watched.filter(|(version, ..)| *version > sent);
                new.map(|(_, _, kind, object)| (*kind, object)).collect()
            }
        };
        self.sent = Some(history.version);
        changes.into_iter().map(|(kind, object)| self.event(kind, object)).collect()
    }

    fn event(&mut self, kind: &str, object: &Value) -> Value {
        // One that leaves what is selected is gone, for this watch.
        let kind = if labels::selects(&self.query, object) { kind } else { "DELETED" };
        let mut object = object.clone();
        if self.as_table {
            object = table::table(&[object], !self.has_sent_columns);
            self.has_sent_columns = true;
        }
        if self.metadata_only {
            object.as_object_mut().unwrap().retain(|key, _| key == "metadata");
        }
        json!({"type": kind, "object": object})
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
                if state.lock().unwrap().history.with_error {
                    let event = json!({"type": "ERROR", "object": expired().1});
                    let _ = sender.send_data(format!("{event}\n").into()).await;
                }
                return;
            }
            if timeout(BETWEEN_BOOKMARKS, notified).await.is_err() {
                let version = watched.sent.unwrap_or_default().to_string();
                let mut object = json!({"kind": "Node", "metadata": {"resourceVersion": version}});
                if watched.as_table {
                    object = table::table(&[object], false);
                }
                let bookmark = json!({"type": "BOOKMARK", "object": object});
                if sender.send_data(format!("{bookmark}\n").into()).await.is_err() {
                    return;
                }
            }
        }
    };
    let _ = timeout(deadline, sending).await;
}
