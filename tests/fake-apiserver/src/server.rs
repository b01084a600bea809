//! The server as a test sees it: what it does to it, and what it finds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::serve::serve;
use crate::state::{Fault, Locked, Received, State};
use crate::store::Object;

/// The server. It ends when this is dropped.
pub struct FakeApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<Infallible>,
    /// Keeps the port from others while nothing listens on it.
    _reserved: TcpSocket,
}

impl FakeApiServer {
    /// Starts with these rights, as `verb resource` each, and one Node.
    pub async fn start(rights: &[&str], node: &str) -> Self {
        let reserved = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reserved.local_addr().unwrap();
        let token = "of-the-agent".to_owned();
        let state = Arc::new(Mutex::new(State { token, ..State::default() }));
        let serving = tokio::spawn(serve(listen(address), state.clone()));
        let server = Self { address, state, serving, _reserved: reserved };
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
            "users": [{"name": "a", "user": {"token": self.look().token}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        })
        .to_string()
    }

    /// Nothing goes wrong any more.
    pub fn forget_faults(&self) {
        self.lock().faults.clear();
    }

    /// Adds a Node.
    pub fn add_node(&self, name: &str) {
        self.add_nodes([name.to_owned()]);
    }

    /// Adds many Nodes. Each change of the state looks at all of them, and this is one.
    pub fn add_nodes(&self, names: impl IntoIterator<Item = String>) {
        let ready = json!({"type": "Ready", "status": "True"});
        let mut state = self.lock();
        for name in names {
            let node = json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {"conditions": [ready]}});
            state.objects.insert(format!("/api/v1/nodes/{name}"), Object::new(node));
        }
    }

    /// Adds a pod.
    pub fn add_pod(&self, namespace: &str, name: &str, uid: &str) {
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.lock().objects.insert(path, Object::new(pod));
    }

    /// Adds an object, or replaces it, as it would be read.
    pub fn put(&self, path: &str, object: &Value) {
        let mut state = self.lock();
        let mut new = Object::new(object.clone());
        if let Some(before) = state.objects.get(path) {
            (new.version, new.writes) = (before.version + 1, before.writes + 1);
        }
        state.objects.insert(path.to_owned(), new);
    }

    /// What answers at a port of a pod (`NAMESPACE/NAME:PORT`).
    pub fn set_proxied(&self, port_of_pod: &str, code: u16, body: Value) {
        self.lock().proxied.insert(port_of_pod.to_owned(), (code, body));
    }

    /// Gives rights; `list pods in gpus` is of one namespace.
    pub fn grant(&self, rights: &[&str]) {
        let pairs = rights.iter().map(|right| right.split_once(' ').unwrap());
        let pairs = pairs.map(|(verb, resource)| (verb.to_owned(), resource.to_owned()));
        self.lock().rights.extend(pairs);
    }

    /// Takes rights away.
    pub fn revoke(&self, rights: &[&str]) {
        let is_taken =
            |verb: &str, resource: &str| rights.contains(&format!("{verb} {resource}").as_str());
        self.lock().rights.retain(|(verb, resource)| !is_taken(verb, resource));
    }

    /// Knows this token from now on, and no other.
    pub fn set_token(&self, token: &str) {
        token.clone_into(&mut self.lock().token);
    }

    /// Stops: connections end, and what watches were at is forgotten.
    pub async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.expire_watches();
    }

    /// Starts again at the same address, with the same objects.
    pub async fn start_again(&mut self) {
        self.serving = tokio::spawn(serve(listen(self.address), self.state.clone()));
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

    /// Changes the object at this path as an update or a patch of another manager does, without
    /// server-side apply.
    pub fn update_as(&self, manager: &str, path: &str, change: impl FnOnce(&mut Value)) {
        self.lock().objects.get_mut(path).unwrap().update(manager, change);
    }

    /// Removes the object at this path.
    pub fn remove(&self, path: &str) {
        self.lock().objects.remove(path).unwrap();
    }

    /// What a Node was after each write, in order.
    #[must_use]
    pub fn revisions(&self, node: &str) -> Vec<Value> {
        self.lock().history.revisions(&format!("/api/v1/nodes/{node}"))
    }

    /// The object at this path.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        self.look().objects.get(path).map(Object::served)
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
        let state = self.look();
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
        self.look().objects.get(path).map_or(0, |object| object.writes)
    }

    /// How many requests were received.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.look().received.len()
    }

    /// What was received, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.look().received.clone()
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

    /// Tells all watches within what they send that what they were at is forgotten, and ends them.
    pub fn expire_watches_midway(&self) {
        let mut state = self.lock();
        state.history.forget();
        state.history.end_watches_with_error();
    }

    /// The state to look at: nobody is told of a change.
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The state to change.
    fn lock(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap())
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A socket at this address, which others of this process's user may share if they ask for that.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bound(address).listen(1024).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_else_gets_its_address_while_it_is_stopped() {
        let mut server = FakeApiServer::start(&[], "node").await;
        server.stop().await;
        let taken = std::net::TcpListener::bind(server.address);
        assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        let refused = std::net::TcpStream::connect(server.address);
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        server.start_again().await;
        std::net::TcpStream::connect(server.address).unwrap();
    }
}
