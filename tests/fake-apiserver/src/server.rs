//! The server: connections, authentication, rights, faults, and what a test sees and does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::respond::{self, Answer, Call, Objects, refusal};
use crate::store::Object;
use crate::watch::{History, Watched, send_events};

/// The token that it knows.
const TOKEN: &str = "of-the-agent";

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
    /// The code of the answer.
    pub code: u16,
}

/// An answer: whole, or as it comes.
type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

#[derive(Default)]
pub(crate) struct State {
    objects: Objects,
    /// The changes of Nodes, for watches.
    pub(crate) history: History,
    /// Notified of them.
    pub(crate) changed: Arc<Notify>,
    /// Rights: verb and resource.
    rights: BTreeSet<(String, String)>,
    faults: VecDeque<Fault>,
    received: Vec<Received>,
}

/// The server. It ends when this is dropped.
pub struct FakeApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<Infallible>,
}

impl FakeApiServer {
    /// Starts with these rights, as `verb resource` each, and one Node.
    pub async fn start(rights: &[&str], node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let serving = tokio::spawn(serve(listener, state.clone()));
        let server = Self { address, state, serving };
        server.grant(rights);
        server.add_node(node);
        server
    }

    /// A kubeconfig for it.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "a", "user": {"token": TOKEN}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        })
        .to_string()
    }

    /// Adds a Node.
    pub fn add_node(&self, name: &str) {
        let ready = json!({"type": "Ready", "status": "True"});
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"conditions": [ready]}});
        self.lock().objects.insert(format!("/api/v1/nodes/{name}"), Object::new(node));
    }

    /// Adds a pod.
    pub fn add_pod(&self, namespace: &str, name: &str, uid: &str) {
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.lock().objects.insert(path, Object::new(pod));
    }

    /// Gives rights.
    pub fn grant(&self, rights: &[&str]) {
        let pairs = rights.iter().map(|right| right.split_once(' ').unwrap());
        let pairs = pairs.map(|(verb, resource)| (verb.to_owned(), resource.to_owned()));
        self.lock().rights.extend(pairs);
    }

    /// What goes wrong with the next requests, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Applies as another manager, by force.
    pub fn apply_as(&self, manager: &str, path: &str, configuration: &Value) {
        let mut state = self.lock();
        let new = || Object::new(json!({"metadata": {}}));
        let object = state.objects.entry(path.to_owned()).or_insert_with(new);
        object.apply(manager, true, configuration).unwrap();
    }

    /// The object at this path.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).map(Object::served)
    }

    /// The labels of a Node that begin so.
    #[must_use]
    pub fn labels(&self, node: &str, prefix: &str) -> BTreeMap<String, String> {
        let node = self.object(&format!("/api/v1/nodes/{node}")).unwrap();
        let labels = node["metadata"]["labels"].as_object().unwrap().clone().into_iter();
        let labels = labels.filter(|(name, _)| name.starts_with(prefix));
        labels.map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
    }

    /// An annotation of a Node.
    #[must_use]
    pub fn annotation(&self, node: &str, name: &str) -> Option<String> {
        let node = self.object(&format!("/api/v1/nodes/{node}"))?;
        node["metadata"]["annotations"][name].as_str().map(str::to_owned)
    }

    /// A condition of a Node.
    #[must_use]
    pub fn condition(&self, node: &str, kind: &str) -> Option<Value> {
        let node = self.object(&format!("/api/v1/nodes/{node}"))?;
        let conditions = node["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == *kind).cloned()
    }

    /// All Events.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let state = self.lock();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        events.map(|(_, object)| object.served()).collect()
    }

    /// Removes all Events, as the server does after an hour.
    pub fn expire_events(&self) {
        self.lock().objects.retain(|path, _| !path.contains("/events/"));
    }

    /// How often the object at this path has changed.
    #[must_use]
    pub fn writes(&self, path: &str) -> u64 {
        self.lock().objects.get(path).map_or(0, |object| object.writes)
    }

    /// What was received, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// Ends all watches, as the server does after some minutes or when it ends.
    pub fn end_watches(&self) {
        self.lock().history.end_watches();
    }

    /// Ends all watches, and forgets what they were at: 410.
    pub fn expire_watches(&self) {
        let mut state = self.lock();
        state.history.forget();
        state.history.end_watches();
    }

    fn lock(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap())
    }
}

/// The state while it may be changed. What has changed is told then.
struct Locked<'a>(MutexGuard<'a, State>);

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

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) -> Infallible {
    loop {
        let Ok((io, _)) = listener.accept().await else { continue };
        let state = state.clone();
        let service = service_fn(move |request| answer(request, state.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// The error ends the connection.
async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, String> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let call = Call {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: query(head.uri.query().unwrap_or_default()),
        content_type: header(CONTENT_TYPE).unwrap_or_default(),
        metadata_only: header(ACCEPT).is_some_and(|kind| kind.contains("PartialObjectMetadata")),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let shared = state.clone();
    let mut state = Locked(state.lock().map_err(|error| error.to_string())?);
    let fault = state.faults.pop_front();
    let known = header(AUTHORIZATION) == Some(&format!("Bearer {TOKEN}"));
    let (code, object) = state.respond(&call, known, fault);
    if code == 200 && respond::is_watch(&call) {
        let watched = Watched::new(&call, &state.history);
        let (sender, body) = Channel::new(16);
        tokio::spawn(send_events(shared, watched, sender));
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        return response.body(Either::Right(body)).map_err(|error| error.to_string());
    }
    if fault == Some(Fault::LostAnswer) {
        return Err("the answer is lost".to_owned());
    }
    let mut response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if let Some(Fault::TooMany(seconds)) = fault {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(Either::Left(Full::from(object.to_string()))).map_err(|error| error.to_string())
}

impl State {
    fn respond(&mut self, call: &Call<'_>, known: bool, fault: Option<Fault>) -> Answer {
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
        self.received.push(Received { verb, resource: name, code: answer.0 });
        answer
    }
}

/// The pairs of a query, which nothing is escaped in here.
fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
