//! What the server knows, and how it answers a request of which HTTP is taken away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};

use tokio::sync::Notify;

use crate::history::History;
use crate::pods::{self, Proxied};
use crate::respond::{self, Answer, Call, Objects, refusal};
use serde_json::json;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers 429, and wants no other for so many seconds.
    TooMany(u64),
    /// It answers this code without doing anything.
    Code(u16),
    /// The connection ends without an answer, after it was done.
    LostAnswer,
    /// Nothing, with this one.
    None,
}

/// A request that it received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The verb of its right: `get`, `patch`.
    pub verb: &'static str,
    /// The resource: `nodes/status`.
    pub resource: String,
    /// The field manager, of a change.
    pub manager: String,
    /// The code of the answer.
    pub code: u16,
    /// Its query.
    pub query: BTreeMap<String, String>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    /// What answers behind the proxy.
    pub(crate) proxied: Proxied,
    /// The changes of Nodes, for watches.
    pub(crate) history: History,
    /// Notified of them.
    pub(crate) changed: Arc<Notify>,
    /// Rights: verb and resource.
    pub(crate) rights: BTreeSet<(String, String)>,
    /// The token that it knows.
    pub(crate) token: String,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) received: Vec<Received>,
}

impl State {
    pub(crate) fn respond(&mut self, call: &Call<'_>, known: bool, fault: Option<Fault>) -> Answer {
        let resource = respond::resource(call.path);
        let verb = resource.as_ref().map_or("other", |resource| respond::verb(call, resource));
        let name = resource.as_ref().map_or(call.path, |resource| &resource.name).to_owned();
        let namespace = resource.as_ref().and_then(|resource| resource.namespace);
        let may = |verb: &str| {
            let of = |name: String| self.rights.contains(&(verb.to_owned(), name));
            of(name.clone())
                || namespace.is_some_and(|namespace| of(format!("{name} in {namespace}")))
        };
        let answer = match (fault, &resource) {
            (Some(Fault::TooMany(_)), _) => refusal(429, "TooManyRequests", "too many"),
            (Some(Fault::Code(code)), _) => refusal(code, "InternalError", "a fault"),
            _ if !known => refusal(401, "Unauthorized", "Unauthorized"),
            (_, None) => refusal(404, "NotFound", "the server could not find the resource"),
            _ if !may(verb) => {
                let message = format!("User \"agent\" cannot {verb} resource {name:?}");
                refusal(403, "Forbidden", message)
            }
            (_, Some(resource)) if verb == "watch" && resource.name == "nodes" => {
                self.history.begin_watch(call)
            }
            (_, Some(resource)) if resource.name == "pods/proxy" => {
                pods::proxy(&self.objects, &self.proxied, call)
            }
            (_, Some(resource)) => {
                let may_create = may("create");
                respond::respond(&mut self.objects, call, resource, may_create)
            }
        };
        let manager = call.query.get("fieldManager").cloned().unwrap_or_default();
        let (code, mut object) = answer;
        if verb == "list" && code == 200 {
            object["metadata"]["resourceVersion"] = json!(self.history.version.to_string());
        }
        let query = call.query.clone();
        self.received.push(Received { verb, resource: name, manager, code, query });
        (code, object)
    }
}

/// The state while it may be changed. What has changed is told then.
pub(crate) struct Locked<'a>(pub(crate) MutexGuard<'a, State>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let State { objects, history, changed, .. } = &mut *self.0;
        history.record(objects);
        changed.notify_waiters();
    }
}
