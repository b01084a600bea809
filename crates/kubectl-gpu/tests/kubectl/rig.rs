//! An API server with nodes, and the program.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_apiserver::FakeApiServer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Long enough that only a failure takes it, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What a person who looks at nodes alone may do.
pub(crate) const RIGHTS: &[&str] = &["get nodes", "list nodes", "watch nodes"];

/// What the program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Printed {
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, parts: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part} in {}", self.err);
        }
    }
}

/// A summary as the agent writes it; each title begins with its GPU, in two words.
pub(crate) fn summary(healthy: usize, problems: &[(&str, &str)]) -> String {
    let problem = |(severity, title): &(&str, &str)| {
        let subject = title.split(' ').take(2).collect::<Vec<_>>().join(" ");
        json!({"severity": severity, "kind": "xid", "title": title, "subject": subject,
            "gpus": ["GPU-8f2a1c54-6d1e-4d2b-9f0c-3a7c5e1b2d90"],
            "since": "2026-11-28T03:12:00Z"})
    };
    let problems: Vec<Value> = problems.iter().map(problem).collect();
    json!({"version": 1, "gpus": 8, "healthy": healthy, "held": 3, "driver": "580.159.04",
        "plugin": "0.1.0", "problems": problems})
    .to_string()
}

/// A Node with such an annotation, and with what those of a cluster have besides.
pub(crate) fn node(name: &str, summary: Option<&str>) -> Value {
    let fields = |count: usize| -> Value {
        (0..count)
            .map(|n| (format!("f:example.com/label-{n}"), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut managed = vec![json!({
        "manager": "kubelet", "operation": "Update", "apiVersion": "v1",
        "time": "2026-11-01T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": fields(30), "f:annotations": fields(10)}},
    })];
    let mut annotations = json!({"node.alpha.kubernetes.io/ttl": "0"});
    if let Some(summary) = summary {
        annotations["nvidia.com/gpu.summary"] = summary.into();
        managed.push(json!({
            "manager": "gpu-node-agent-summary", "operation": "Apply", "apiVersion": "v1",
            "time": "2026-11-28T03:12:00Z", "fieldsType": "FieldsV1", "fieldsV1": {},
        }));
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "uid": "c0ffee", "labels": {"kubernetes.io/hostname": name},
            "annotations": annotations, "managedFields": managed,
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.33.1"},
        },
    })
}

/// A cluster and the program.
pub(crate) struct Rig {
    pub(crate) api: FakeApiServer,
    pub(crate) home: TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(RIGHTS).await
    }

    pub(crate) async fn with(rights: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let api = FakeApiServer::start(rights, "node-cpu").await;
        std::fs::create_dir(home.path().join(".kube")).unwrap();
        std::fs::write(home.path().join(".kube/config"), api.kubeconfig()).unwrap();
        Self { api, home }
    }

    pub(crate) fn put(&self, node: &Value) {
        let name = node["metadata"]["name"].as_str().unwrap();
        self.api.put(&format!("/api/v1/nodes/{name}"), node);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-gpu"));
        command.env_clear().env("HOME", self.home.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Printed {
        run(self.command(arguments)).await
    }

    /// How many requests of this verb and resource there were.
    pub(crate) fn count(&self, verb: &str, resource: &str) -> usize {
        let calls = self.api.received();
        calls.iter().filter(|call| call.verb == verb && call.resource == resource).count()
    }
}

pub(crate) async fn run(mut command: Command) -> Printed {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    Printed {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program while it runs.
pub(crate) struct Watching {
    _child: Child,
    pub(crate) out: Arc<Mutex<Vec<String>>>,
    pub(crate) err: Arc<Mutex<Vec<String>>>,
}

impl Watching {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Self { _child: child, out, err }
    }

    /// Waits for a line that has all of these words in this order.
    pub(crate) async fn printed(&self, words: &[&str]) {
        has_line(&self.out, words).await;
    }
}

async fn has_line(lines: &Mutex<Vec<String>>, words: &[&str]) {
    let fits = |line: &String| {
        let mut rest = line.as_str();
        words.iter().all(|word| {
            let Some(at) = rest.find(word) else { return false };
            rest = &rest[at + word.len()..];
            true
        })
    };
    let end = Instant::now() + PATIENCE;
    while !lines.lock().unwrap().iter().any(fits) {
        assert!(Instant::now() < end, "{words:?} in {:#?}", lines.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let kept = lines.clone();
    tokio::spawn(async move {
        let mut read = BufReader::new(from).lines();
        while let Ok(Some(line)) = read.next_line().await {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}
