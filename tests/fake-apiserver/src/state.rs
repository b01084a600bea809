//! What the server knows, and how it answers a request of which HTTP is taken away.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};

use tokio::sync::Notify;

use crate::history::History;
use crate::respond::{self, Answer, Call, Objects, refusal};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers 429, and wants no other for so many seconds.
    TooMany(u64),
    /// It answers this code without doing anything.
    Code(u16),
    /// The connection ends without an answer, after it was done.
    LostAnswer,
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
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
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
        let may = |verb: &str| self.rights.contains(&(verb.to_owned(), name.clone()));
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
            (_, Some(resource)) => {
                let may_create = may("create");
                respond::respond(&mut self.objects, call, resource, may_create)
            }
        };
        let manager = call.query.get("fieldManager").cloned().unwrap_or_default();
        self.received.push(Received { verb, resource: name, manager, code: answer.0 });
        answer
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
