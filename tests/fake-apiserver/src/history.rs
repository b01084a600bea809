//! The changes of Nodes, by which watches go on where an earlier one ended.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::respond::{Answer, Call, Objects, refusal};

/// Where Nodes are.
pub(crate) const NODES: &str = "/api/v1/nodes/";

/// The changes of Nodes since the start.
#[derive(Default)]
pub(crate) struct History {
    /// Version, path, and the type of the event with the object.
    pub(crate) changes: Vec<(u64, String, &'static str, Value)>,
    /// How often each Node has been written.
    seen: BTreeMap<String, u64>,
    pub(crate) version: u64,
    /// Before it nothing is known any more.
    oldest: u64,
    /// Watches that began before this number was counted up are over.
    pub(crate) ended: u64,
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
