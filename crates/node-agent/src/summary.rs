//! An annotation of the Node with its GPUs in brief, for readers who may see Nodes and nothing
//! else.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use status::NodeBrief;
use tokio::time::Instant;

use crate::api::{ApiRequest, ApiServer};
use crate::keep::Target;
use crate::retry::Failure;
use status_stream::View;

/// Who owns the annotation, for the API server.
pub const SUMMARY_MANAGER: &str = "gpu-node-agent-summary";
/// Its name.
pub const SUMMARY: &str = "nvidia.com/gpu.summary";
/// The shortest time between two writes, but for what is wrong and was not before.
const BETWEEN_WRITES: Duration = Duration::from_secs(60);

/// How often it changes. Pods come and go all the time, and each write is read by all that watch
/// Nodes.
#[derive(Debug, Default)]
pub struct SummaryPace {
    /// What it was last to be, and since when.
    last: RefCell<Option<(Instant, NodeBrief)>>,
}

impl SummaryPace {
    /// What the annotation is to be now; `None`: it is not known yet.
    #[must_use]
    pub fn wanted(&self, view: &View) -> Option<NodeBrief> {
        let brief = NodeBrief::of(view.status.as_deref()?);
        let mut last = self.last.borrow_mut();
        if let Some((at, before)) = &*last {
            let is_due = at.elapsed() >= BETWEEN_WRITES || brief.is_worse_than(before);
            if !is_due || brief == *before {
                return Some(before.clone());
            }
        }
        *last = Some((Instant::now(), brief.clone()));
        Some(brief)
    }
}

/// Writes the annotation.
pub struct SummaryWriter {
    api: Arc<ApiServer>,
    path: String,
    node: String,
}

impl SummaryWriter {
    /// The annotation of this node.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, node: &str) -> Self {
        Self { api, path: format!("/api/v1/nodes/{node}"), node: node.to_owned() }
    }
}

impl Target for SummaryWriter {
    type Wanted = NodeBrief;
    const WHAT: &'static str = "the annotations of the Node";

    async fn is_there(&mut self, wanted: &NodeBrief) -> Result<bool, Failure> {
        let path = format!("{}?resourceVersion=0", self.path);
        let node: Value = self.api.send(&ApiRequest::get(path)).await?;
        Ok(node["metadata"]["annotations"][SUMMARY] == *wanted.text())
    }

    async fn write(&mut self, wanted: &NodeBrief) -> Result<(), Failure> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.node, "annotations": {SUMMARY: wanted.text()}},
        });
        let request = ApiRequest::apply(&self.path, SUMMARY_MANAGER, true, &node);
        self.api.send(&request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use status::{MAX_BRIEF, Problem, Severity, Status};

    use super::*;
    use crate::labels::testing::{at, gpu, status};

    fn view(status: &Status) -> View {
        View { status: Some(Arc::new(status.clone())), silent: false }
    }

    fn problem(subject: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            kind: "xid".to_owned(),
            subject: subject.to_owned(),
            short: "Xid 79".to_owned(),
            message: "it fell off the bus".to_owned(),
            remedy: None,
            since: Some(at(0)),
            remembered: false,
            gpus: Vec::new(),
            holders: Vec::new(),
        }
    }

    #[test]
    fn it_says_what_there_is_and_what_is_wrong_within_its_bound() {
        let mut node = status(&[gpu(0, "NVIDIA H200"), gpu(1, "NVIDIA H200")]);
        node.gpus[1].healthy = false;
        node.problems = vec![Problem { gpus: vec!["GPU-1".to_owned()], ..problem("GPU 1") }];
        let expected = json!({
            "version": 1, "gpus": 2, "healthy": 1, "held": 0, "driver": "580.159.04",
            "plugin": "0.1.0",
            "problems": [{
                "severity": "error", "kind": "xid", "title": "GPU 1 Xid 79", "subject": "GPU 1",
                "gpus": ["GPU-1"], "since": at(0),
            }],
        });
        let text = NodeBrief::of(&node).text();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        let all = Problem { gpus: vec!["GPU-".repeat(500); 100], ..problem("GPUs 0 to 99") };
        node.problems = vec![all; 3];
        assert_eq!(NodeBrief::of(&node).problems[0].gpus.len(), 8, "one of all GPUs has room");
        node.problems = (0..200).map(|_| problem(&"ü\u{1b}".repeat(500))).collect();
        let brief = NodeBrief::of(&node);
        assert!(brief.text().len() <= MAX_BRIEF, "{}", brief.text().len());
        assert_eq!(brief.problems.len() + brief.more_problems, 200);
        assert!(!brief.text().contains('\u{1b}'));
        let read: NodeBrief = serde_json::from_str(&brief.text()).unwrap();
        assert_eq!(read, brief);
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_once_a_minute_and_at_once_for_a_new_problem() {
        let pace = SummaryPace::default();
        let mut node = status(&[gpu(0, "NVIDIA H200")]);
        let wanted = |node: &Status| pace.wanted(&view(node)).unwrap();
        assert_eq!(pace.wanted(&View::default()), None);
        let first = wanted(&node);
        node.plugin.version = "0.2.0".to_owned();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(wanted(&node), first);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(wanted(&node).plugin, "0.2.0");
        node.problems = vec![problem("GPU 0")];
        assert_eq!(wanted(&node).problems.len(), 1, "it is new");
        node.problems.clear();
        assert_eq!(wanted(&node).problems.len(), 1, "that it is over can wait");
        tokio::time::advance(BETWEEN_WRITES).await;
        assert_eq!(wanted(&node).problems.len(), 0);
    }
}
