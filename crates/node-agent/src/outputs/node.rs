//! Labels of the Node, by server-side apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tracing::info;

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::args::ConflictPolicy;
use crate::keep::Target;
use crate::labels::Labels;
use crate::retry::Failure;

/// Who owns the labels, for the API server.
pub const LABEL_MANAGER: &str = "gpu-node-agent-labels";
/// How a field of a conflict begins that is a label.
const FIELD: &str = ".metadata.labels.";

/// The labels of a Node.
pub struct NodeLabels {
    api: Arc<ApiServer>,
    path: String,
    node: String,
    policy: ConflictPolicy,
    /// Those that are left to others, and who these are.
    left: BTreeMap<String, String>,
}

impl NodeLabels {
    /// The labels of this node.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, node: &str, policy: ConflictPolicy) -> Self {
        let path = format!("/api/v1/nodes/{node}");
        Self { api, path, node: node.to_owned(), policy, left: BTreeMap::new() }
    }

    async fn apply(&self, labels: &Labels) -> Result<(), ApiError> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.node, "labels": labels},
        });
        let force = self.policy == ConflictPolicy::Take;
        let request = ApiRequest::apply(&self.path, LABEL_MANAGER, force, &node);
        self.api.send(&request).await.map(drop)
    }

    fn set_left(&mut self, left: BTreeMap<String, String>) {
        if left != self.left {
            for (label, owner) in &left {
                info!(
                    label,
                    owner,
                    "this label has another value and another owner, and is left; \
                    --labels-conflict take takes it"
                );
            }
            self.left = left;
        }
    }
}

impl Target for NodeLabels {
    type Wanted = Labels;
    const WHAT: &'static str = "the labels of the Node";

    async fn is_there(&mut self, wanted: &Labels) -> Result<bool, Failure> {
        // From the API server's cache: no read of its store.
        let path = format!("{}?resourceVersion=0", self.path);
        let node = self.api.send(&ApiRequest::get(path)).await?;
        let there = &node["metadata"]["labels"];
        let is = |(name, value): (&String, &String)| match there[name.as_str()].as_str() {
            Some(other) => other == value || self.left.contains_key(name),
            None => false,
        };
        Ok(wanted.iter().all(is))
    }

    async fn write(&mut self, wanted: &Labels) -> Result<(), Failure> {
        let (mut labels, mut left) = (wanted.clone(), BTreeMap::new());
        loop {
            let error = match self.apply(&labels).await {
                Ok(()) => break,
                Err(error) => error,
            };
            let before = labels.len();
            for conflict in error.conflicts() {
                let name = conflict.field.strip_prefix(FIELD).unwrap_or_default();
                if labels.remove(name).is_some() {
                    left.insert(name.to_owned(), conflict.owner.clone());
                }
            }
            // Fewer each time, so that this ends.
            if labels.len() == before {
                return Err(error.into());
            }
        }
        self.set_left(left);
        Ok(())
    }
}
