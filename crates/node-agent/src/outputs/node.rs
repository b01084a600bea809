//! Labels of the Node, by server-side apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tracing::info;

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::args::ConflictPolicy;
use crate::keep::Target;
use crate::labels::{DOMAIN, Labels};
use crate::retry::Failure;

/// Who owns the labels, for the API server.
pub const LABEL_MANAGER: &str = "gpu-node-agent-labels";
/// Who labels Nodes for node feature discovery.
const NFD_MASTER: &str = "nfd-master";
/// How the annotation ends in which that program keeps the names of its labels; an instance with a
/// name has it before.
const NFD_LABELS: &str = "nfd.node.kubernetes.io/feature-labels";
/// How a field of a conflict begins that is a label.
const FIELD: &str = ".metadata.labels.";

/// Gives up the labels of a Node, of which this is the metadata, but those that are kept: those
/// that nobody else owns go.
///
/// What node feature discovery counts among its own is left to it. It patches what differs alone,
/// so that the API server does not know it as an owner of what the agent had written alike before;
/// and it would miss such a label only with the next change, or an hour later.
///
/// # Errors
/// A request failed.
pub(crate) async fn give_up_labels(
    api: &ApiServer,
    object: &Value,
    node: &str,
    kept: &Labels,
) -> Result<(), ApiError> {
    let path = format!("/api/v1/nodes/{node}");
    let apply = async |manager: &str, labels: &Labels| {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels},
        });
        api.send(&ApiRequest::apply(&path, manager, manager == LABEL_MANAGER, &node)).await
    };
    let left = of_nfd(object);
    if !left.is_empty() {
        apply(NFD_MASTER, &left).await?;
    }
    apply(LABEL_MANAGER, kept).await.map(drop)
}

/// The labels of the kind of ours that node feature discovery counts among its own.
fn of_nfd(node: &Value) -> Labels {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let metadata = &node["metadata"];
    let annotations = metadata["annotations"].as_object().into_iter().flatten().filter_map(text);
    let listed: Vec<String> = annotations
        .filter(|(name, _)| name.ends_with(NFD_LABELS))
        .flat_map(|(_, names)| names.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let labels = metadata["labels"].as_object().into_iter().flatten().filter_map(text);
    labels.filter(|(name, _)| name.starts_with(DOMAIN) && listed.contains(name)).collect()
}

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
