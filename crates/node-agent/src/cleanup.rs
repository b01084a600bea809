//! Removes what the agent has written.

use std::fs;
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{info, warn};

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::args::{Args, CleanupArgs, Function, LabelOutput};
use crate::condition::CONDITION_MANAGER;
use crate::labels::Labels;
use crate::outputs::{LABEL_MANAGER, give_up_labels, node_feature_path};
use crate::summary::SUMMARY_MANAGER;
use crate::taint::TaintWriter;

/// Nodes in a page of the list of all, and in one of whole Nodes.
const PAGE: usize = 500;
const PAGE_OF_WHOLE: usize = 100;
/// The label by which DaemonSets find the nodes with GPUs.
const PRESENT: &str = "nvidia.com/gpu.present";

/// Removes what all functions or some have written, from one node or, with `--all-nodes`, from each
/// that has something of it.
///
/// # Errors
/// Something could not be removed: each was logged, and all others were tried.
pub async fn run(args: &Args, cleanup: &CleanupArgs) -> Result<(), String> {
    let functions = functions(args, cleanup);
    if functions.contains(&Function::Taint) && args.node_taint.is_empty() {
        return Err("--functions taint: which one is said by --node-taint=KEY".to_owned());
    }
    let removal = Removal {
        api: Arc::new(ApiServer::new(args.gfd.kubeconfig.clone())),
        namespace: args.gfd.namespace.clone(),
        taint: args.node_taint.clone(),
        keeps_present: !cleanup.functions.is_empty(),
    };
    let mut failures = 0_u32;
    if functions.contains(&Function::File) {
        let removed = remove_file(&args.gfd.output_file);
        failures += u32::from(told(Function::File, &args.gfd.output_file, removed));
        if args.node_name.is_empty() && !cleanup.all_nodes {
            return outcome(failures);
        }
    }
    let nodes = if cleanup.all_nodes {
        removal.nodes(&functions).await.map_err(|error| error.to_string())?
    } else {
        vec![(args.node()?.to_owned(), functions)]
    };
    for (node, functions) in nodes {
        for function in functions.into_iter().filter(|&function| function != Function::File) {
            let removed = removal.remove(function, &node).await;
            failures += u32::from(told(function, &node, removed));
        }
    }
    outcome(failures)
}

/// Of which functions something is removed.
fn functions(args: &Args, cleanup: &CleanupArgs) -> Vec<Function> {
    if !cleanup.functions.is_empty() {
        return cleanup.functions.clone();
    }
    let mut all =
        vec![Function::Labels, Function::Condition, Function::Summary, Function::NodeFeature];
    if !args.node_taint.is_empty() {
        all.push(Function::Taint);
    }
    if args.label_output() == LabelOutput::File && !args.gfd.output_file.is_empty() {
        all.push(Function::File);
    }
    all
}

fn outcome(failures: u32) -> Result<(), String> {
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} things could not be removed")),
    }
}

/// Logs what became of a removal; whether it failed.
fn told(function: Function, of: &str, removed: Result<(), impl std::fmt::Display>) -> bool {
    let what = function.what();
    match &removed {
        Ok(()) => info!(of, "{what}: removed, or not there"),
        Err(error) => warn!(of, %error, "{what}: not removed"),
    }
    removed.is_err()
}

fn remove_file(path: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How what functions wrote is found and removed.
pub(crate) struct Removal {
    pub(crate) api: Arc<ApiServer>,
    /// The namespace of NodeFeature objects.
    pub(crate) namespace: String,
    /// The key of the taint.
    pub(crate) taint: String,
    /// Whether the label stays that DaemonSets, that of the plugin among them, may go by: where it
    /// is of this agent alone, the plugin would leave the node with it.
    pub(crate) keeps_present: bool,
}

impl Removal {
    /// Whether a Node has, or may have, something of a function.
    pub(crate) fn is_there(&self, function: Function, node: &Value) -> bool {
        match function {
            Function::Labels if self.keeps_present => {
                owned_labels(node).any(|label| label != PRESENT)
            }
            Function::Labels => managers(node).any(|manager| manager == LABEL_MANAGER),
            Function::Condition => managers(node).any(|manager| manager == CONDITION_MANAGER),
            Function::Summary => managers(node).any(|manager| manager == SUMMARY_MANAGER),
            // Taints are one list, which has the manager that wrote it last.
            Function::Taint => {
                let taints = node["spec"]["taints"].as_array().into_iter().flatten();
                taints.into_iter().any(|taint| taint["key"] == *self.taint)
            }
            Function::NodeFeature => node["metadata"]["labels"][PRESENT].is_string(),
            Function::File => false,
        }
    }

    /// Removes what a function wrote about a node. What others own stays.
    ///
    /// # Errors
    /// The API server refuses, or is not reached.
    pub(crate) async fn remove(&self, function: Function, node: &str) -> Result<(), ApiError> {
        match function {
            Function::Labels => self.remove_labels(node).await,
            Function::Condition => self.apply_nothing(node, "/status", CONDITION_MANAGER).await,
            Function::Summary => self.apply_nothing(node, "", SUMMARY_MANAGER).await,
            Function::NodeFeature => self.delete_node_feature(node).await,
            Function::Taint => {
                TaintWriter::new(self.api.clone(), node, &self.taint).set(false).await
            }
            Function::File => Ok(()),
        }
    }

    /// Applies nothing as this manager: what it alone owns goes, and what others own stays.
    async fn apply_nothing(
        &self,
        node: &str,
        subresource: &str,
        manager: &str,
    ) -> Result<(), ApiError> {
        let path = format!("/api/v1/nodes/{node}{subresource}");
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        absent_is_fine(self.api.send(&ApiRequest::apply(&path, manager, true, &object)).await)
    }

    async fn remove_labels(&self, node: &str) -> Result<(), ApiError> {
        let path = format!("/api/v1/nodes/{node}");
        let object = match self.api.send(&ApiRequest::get_one_metadata(&path)).await {
            Err(error) if error.code() == Some(404) => return Ok(()),
            object => object?,
        };
        let mut kept = Labels::new();
        if self.keeps_present
            && owned_labels(&object).any(|label| label == PRESENT)
            && let Some(value) = object["metadata"]["labels"][PRESENT].as_str()
        {
            kept.insert(PRESENT.to_owned(), value.to_owned());
        }
        absent_is_fine(give_up_labels(&self.api, &object, node, &kept).await)
    }

    /// Deletes a NodeFeature object, unless another program alone has written it.
    async fn delete_node_feature(&self, node: &str) -> Result<(), ApiError> {
        let path = node_feature_path(&self.namespace, node);
        let object = match self.api.send(&ApiRequest::get(&path)).await {
            Err(error) if error.code() == Some(404) => return Ok(()),
            object => object?,
        };
        if managers(&object).any(|manager| manager == LABEL_MANAGER) {
            absent_is_fine(self.api.send(&ApiRequest::delete(&path)).await)?;
        }
        Ok(())
    }

    /// The nodes with something of these functions, and of which. A list that expires meanwhile
    /// begins again.
    async fn nodes(
        &self,
        functions: &[Function],
    ) -> Result<Vec<(String, Vec<Function>)>, ApiError> {
        let mut nodes = Vec::new();
        let mut next = String::new();
        let ours = |node: &Value| {
            let there = functions.iter().copied().filter(|&of| self.is_there(of, node));
            Some((node["metadata"]["name"].as_str()?.to_owned(), there.collect::<Vec<_>>()))
        };
        loop {
            let page = match self.api.send(&page(functions, &next)).await {
                Err(error) if error.code() == Some(410) && !next.is_empty() => {
                    (nodes, next) = (Vec::new(), String::new());
                    continue;
                }
                page => page?,
            };
            let items = page["items"].as_array().into_iter().flatten();
            nodes.extend(items.filter_map(ours).filter(|(_, there)| !there.is_empty()));
            match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
                // It stands in a query; the API server's tokens are of this alphabet.
                Some(token) => next = token.chars().filter(|c| is_of_token(*c)).collect(),
                None => return Ok(nodes),
            }
        }
    }
}

/// A page of the list of all nodes, no more of each than what is looked at.
fn page(functions: &[Function], next: &str) -> ApiRequest {
    let path = |limit| format!("/api/v1/nodes?limit={limit}&continue={next}");
    if functions.contains(&Function::Taint) {
        ApiRequest::get(path(PAGE_OF_WHOLE))
    } else {
        ApiRequest::get_metadata(path(PAGE))
    }
}

fn absent_is_fine<T>(answer: Result<T, ApiError>) -> Result<(), ApiError> {
    match answer {
        Err(error) if error.code() != Some(404) => Err(error),
        _ => Ok(()),
    }
}

fn managed_fields(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// Who owns fields of an object.
pub(crate) fn managers(object: &Value) -> impl Iterator<Item = &str> {
    managed_fields(object).filter_map(|entry| entry["manager"].as_str())
}

/// The labels that the agent owns, as managedFields says.
fn owned_labels(node: &Value) -> impl Iterator<Item = &str> {
    let ours = managed_fields(node).filter(|entry| entry["manager"] == LABEL_MANAGER);
    let labels = ours.filter_map(|of| of["fieldsV1"]["f:metadata"]["f:labels"].as_object());
    labels.flat_map(|labels| labels.keys().filter_map(|field| field.strip_prefix("f:")))
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.')
}
