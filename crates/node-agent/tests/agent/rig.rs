//! A plugin's status socket, an API server and the agent's program.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_apiserver::FakeApiServer;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Long enough that only a failure takes it, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the plugin waits for the next status.
const MAX_WAIT: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "node-a";
pub(crate) const NODE_PATH: &str = "/api/v1/nodes/node-a";
/// All rights that the functions of the agent need.
pub(crate) const RIGHTS: &[&str] = &[
    "get nodes",
    "patch nodes",
    "patch nodes/status",
    "create events",
    "patch events",
    "get nodefeatures",
    "create nodefeatures",
    "patch nodefeatures",
];

/// The status of a node with one H200, as the plugin gave it on a real one.
pub(crate) fn h200() -> Value {
    let text = include_str!("../../../../tests/e2e/recorded/h200/held.status.json");
    let text = text.replace("\"<time>\"", "\"2026-11-28T00:00:00Z\"");
    let text = text.replace("\"uptimeSeconds\": \"<n>\"", "\"uptimeSeconds\": 1");
    let mut status: Value = serde_json::from_str(&text).unwrap();
    status["gpuCounts"]["reserved"] = 0.into();
    status
}

/// The same with a second one.
pub(crate) fn two_h200s() -> Value {
    let mut status = h200();
    let mut second = status["gpus"][0].clone();
    second["uuid"] = "GPU-2".into();
    status["gpus"].as_array_mut().unwrap().push(second);
    status
}

/// One, with an Xid 79.
pub(crate) fn xid_79() -> Value {
    let mut status = h200();
    let gpu = &mut status["gpus"][0];
    gpu["healthy"] = false.into();
    gpu["reasons"] = serde_json::json!([{
        "kind": "xid", "xid": 79, "message": "Xid 79 (GPU has fallen off the bus)",
        "remedy": "restart the node", "since": "2026-11-28T00:00:00Z",
    }]);
    gpu["xids"] = serde_json::json!([{"xid": 79, "count": 3}]);
    status
}

/// The status socket of a plugin. Its token is the number of the status.
pub(crate) struct FakePlugin {
    pub(crate) socket: PathBuf,
    status: watch::Sender<(u64, Value)>,
    /// The last token that somebody came back with.
    read: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    serving: JoinHandle<Infallible>,
}

impl FakePlugin {
    pub(crate) fn start(socket: PathBuf, status: Value) -> Self {
        // Another process has other tokens.
        static STARTS: AtomicU64 = AtomicU64::new(1);
        let first = STARTS.fetch_add(1, Ordering::Relaxed) * 1_000_000;
        // That of one before is still there.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (status, seen) = watch::channel((first, status));
        let (read, asked) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let serving = tokio::spawn(serve(listener, seen, read.clone(), asked.clone()));
        Self { socket, status, read, asked, serving }
    }

    pub(crate) fn set(&self, status: Value) {
        self.status.send_modify(|(number, known)| (*number, *known) = (*number + 1, status));
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until the agent has read the status, and waits for the next.
    pub(crate) async fn until_read(&self) {
        until("the status is read", || {
            let (read, number) = (self.read.load(Ordering::Relaxed), self.status.borrow().0);
            if read == number { Ok(()) } else { Err(format!("{read} of {number}")) }
        })
        .await;
    }
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: UnixListener,
    seen: watch::Receiver<(u64, Value)>,
    read: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
) -> Infallible {
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((io, _)) = accepted else { continue };
        asked.fetch_add(1, Ordering::Relaxed);
        let (seen, read) = (seen.clone(), read.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut seen, read) = (seen.clone(), read.clone());
            async move {
                let after = request.uri().query().and_then(|query| query.strip_prefix("after="));
                let after: Option<u64> = after.and_then(|after| after.parse().ok());
                read.store(after.unwrap_or(0), Ordering::Relaxed);
                let next = seen.wait_for(|(number, _)| Some(*number) != after);
                drop(tokio::time::timeout(MAX_WAIT, next).await);
                let (number, status) = seen.borrow().clone();
                let response = Response::builder().header("status-token", number);
                let body = Full::new(Bytes::from(status.to_string()));
                response.body(body).map_err(|error| error.to_string())
            }
        });
        connections.spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(io), service).await);
        });
    }
}

/// The agent's program.
pub(crate) struct Agent {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        for reader in self.readers {
            reader.await.unwrap();
        }
        let lines = self.lines.lock().unwrap().clone();
        (status, lines)
    }

    pub(crate) async fn stop(self) -> (ExitStatus, Vec<String>) {
        let id = i32::try_from(self.pid()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.wait().await
    }

    pub(crate) async fn logged(&self, text: &str) {
        until(&format!("the log says {text:?}"), || {
            let lines = self.lines.lock().unwrap();
            if lines.iter().any(|line| line.contains(text)) {
                Ok(())
            } else {
                Err(lines.join("\n"))
            }
        })
        .await;
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// A node with a plugin, an API server and a directory.
pub(crate) struct Rig {
    pub(crate) api: FakeApiServer,
    pub(crate) plugin: FakePlugin,
    directory: TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(RIGHTS, h200()).await
    }

    pub(crate) async fn with(rights: &[&str], status: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let api = FakeApiServer::start(rights, NODE).await;
        let plugin = FakePlugin::start(directory.path().join("status.sock"), status);
        let rig = Self { api, plugin, directory };
        rig.write_kubeconfig();
        rig
    }

    /// Writes how the API server is reached, with the token that it knows now.
    pub(crate) fn write_kubeconfig(&self) {
        std::fs::write(self.path("kubeconfig"), self.api.kubeconfig()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn agent(&self, arguments: &[impl AsRef<str>]) -> Agent {
        let kubeconfig = self.path("kubeconfig");
        start(&self.plugin.socket, &kubeconfig, arguments)
    }

    /// With these variables beside those that every agent has.
    pub(crate) fn agent_with(&self, variables: &BTreeMap<&str, &str>, arguments: &[&str]) -> Agent {
        let kubeconfig = self.path("kubeconfig");
        let mut command = command(&self.plugin.socket, &kubeconfig);
        command.envs(variables).args(arguments);
        spawn(command)
    }

    /// Waits until the labels that begin so are these.
    pub(crate) async fn until_labels(&self, prefix: &str, expected: &[(&str, &str)]) {
        let expected: Vec<String> =
            expected.iter().map(|(name, value)| format!("{name}={value}")).collect();
        until("the labels", || {
            let labels = self.api.labels(NODE, prefix).into_iter();
            let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
            if labels == expected { Ok(()) } else { Err(labels.join("\n")) }
        })
        .await;
    }

    /// Waits until the condition has this status and reason.
    pub(crate) async fn until_condition(&self, status: &str, reason: &str) -> Value {
        until("the condition", || {
            let condition = self.api.condition(NODE, "GPUUnhealthy").unwrap_or_default();
            let is = condition["status"] == *status && condition["reason"] == *reason;
            if is { Ok(condition) } else { Err(condition.to_string()) }
        })
        .await
    }
}

pub(crate) fn start(socket: &Path, kubeconfig: &Path, arguments: &[impl AsRef<str>]) -> Agent {
    let mut command = command(socket, kubeconfig);
    command.args(arguments.iter().map(AsRef::as_ref));
    spawn(command)
}

fn command(socket: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-node-agent"));
    command
        .env_clear()
        .env("STATUS_SOCKET", socket)
        .env("KUBECONFIG", kubeconfig)
        .env("NODE_NAME", NODE)
        .env("POD_NAME", "agent-x7k2p");
    command
}

fn spawn(mut command: Command) -> Agent {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let readers = [
        collect(child.stdout.take().unwrap(), lines.clone()),
        collect(child.stderr.take().unwrap(), lines.clone()),
    ];
    Agent { child, lines, readers }
}

fn collect(
    from: impl AsyncRead + Unpin + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut read = BufReader::new(from).lines();
        while let Ok(Some(line)) = read.next_line().await {
            lines.lock().unwrap().push(line);
        }
    })
}

/// Looks until it holds; a failure shows what there was at last.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if Instant::now() > end => panic!("{what}: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
