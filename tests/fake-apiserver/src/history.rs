//! The changes of Nodes, by which watches go on where an earlier one ended.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::respond::{Answer, Call, Objects, refusal};

/// How many changes are known, of all Nodes together.
const CAPACITY: usize = 4_096;
/// Where Nodes are.
pub(crate) const NODES: &str = "/api/v1/nodes/";

/// The changes of Nodes since the start.
#[derive(Default)]
pub(crate) struct History {
    /// Version, path, and the type of the event with the object.
    pub(crate) changes: VecDeque<(u64, String, &'static str, Value)>,
    /// How often each Node has been written.
    seen: BTreeMap<String, u64>,
    pub(crate) version: u64,
    /// Before it nothing is known any more.
    oldest: u64,
    /// Whether a watch that wants to begin before that is told so in its first event.
    tells_by_event: bool,
    /// Watches that began before this number was counted up are over.
    pub(crate) ended: u64,
    /// Whether they are told so by an error.
    pub(crate) with_error: bool,
}

impl History {
    /// Notes what has changed.
    pub(crate) fn record(&mut self, objects: &Objects) {
        let nodes = objects.range(NODES.to_owned()..);
        for (path, object) in nodes.take_while(|(path, _)| path.starts_with(NODES)) {
            let writes = object.writes + 1;
            let before = self.seen.get(path).copied();
            if before == Some(writes) {
                continue;
            }
            self.seen.insert(path.clone(), writes);
            self.version += 1;
            let kind = if before.is_none() { "ADDED" } else { "MODIFIED" };
            let mut object = object.served();
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.changes.push_back((self.version, path.clone(), kind, object));
            if self.changes.len() > CAPACITY {
                self.oldest = self.changes.pop_front().map_or(0, |(version, ..)| version);
            }
        }
        let gone = |path: &&String| !objects.contains_key(*path);
        let gone: Vec<String> = self.seen.keys().filter(gone).cloned().collect();
        for path in gone {
            self.seen.remove(&path);
            self.version += 1;
            let mut of_path = self.changes.iter().rev().filter(|(_, of, ..)| *of == path);
            let mut object = of_path.next().map(|(.., object)| object.clone()).unwrap_or_default();
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.changes.push_back((self.version, path, "DELETED", object));
        }
    }

    /// The object at this path after each change that is known.
    pub(crate) fn revisions(&self, path: &str) -> Vec<Value> {
        let changes = self.changes.iter().filter(|(_, of, _, _)| of == path);
        changes.map(|(_, _, _, object)| object.clone()).collect()
    }

    pub(crate) fn end_watches(&mut self) {
        self.ended += 1;
        self.with_error = false;
    }

    pub(crate) fn end_watches_with_error(&mut self) {
        self.ended += 1;
        self.with_error = true;
    }

    /// Forgets the way to the present. A watch that was at an earlier version is told so in one of
    /// the two forms of the real server, which take turns.
    pub(crate) fn forget(&mut self) {
        self.tells_by_event = !self.tells_by_event;
        self.version += 1;
        self.oldest = self.version;
    }

    /// Whether a watch may begin where it wants to.
    pub(crate) fn begin_watch(&self, call: &Call<'_>) -> Answer {
        let from = call.query.get("resourceVersion").map(|version| version.parse::<u64>());
        match from {
            Some(Ok(from)) if self.is_expired(from) && !self.tells_by_event => expired(),
            Some(Err(_)) => refusal(400, "BadRequest", "the resourceVersion is no number"),
            _ => (200, Value::Null),
        }
    }

    pub(crate) fn is_expired(&self, version: u64) -> bool {
        version < self.oldest && version != 0
    }
}

/// What is said of a version that is not known any more.
pub(crate) fn expired() -> Answer {
    refusal(410, "Expired", "too old resource version")
}
