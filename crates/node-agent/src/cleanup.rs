//! Removes what the agent has written.

use std::fs;
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{info, warn};

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::args::{Args, LabelOutput};
use crate::condition::CONDITION_MANAGER;
use crate::keep::Target;
use crate::outputs::{LABEL_MANAGER, node_feature_path};
use crate::summary::SUMMARY_MANAGER;
use crate::taint::{TAINT_MANAGER, TaintWriter};

/// Nodes in a page of the list of all.
const PAGE: usize = 500;

/// Removes labels, condition, summary and NodeFeature object of one node or, with `all_nodes`, of
/// each that has some, and the taint, if its key is given; and of this node the file, if labels go
/// there.
///
/// # Errors
/// Something could not be removed: each was logged, and all others were tried.
pub async fn run(args: &Args, all_nodes: bool) -> Result<(), String> {
    let api = Arc::new(ApiServer::new(args.gfd.kubeconfig.clone()));
    let mut failures = 0_u32;
    if args.label_output() == LabelOutput::File && !args.gfd.output_file.is_empty() {
        let removed = remove_file(&args.gfd.output_file);
        failures += u32::from(told("the file", &args.gfd.output_file, removed));
        if args.node_name.is_empty() && !all_nodes {
            return outcome(failures);
        }
    }
    let nodes = if all_nodes {
        written_nodes(&api).await.map_err(|error| error.to_string())?
    } else {
        vec![args.node()?.to_owned()]
    };
    for node in &nodes {
        let labels = apply_nothing(&api, node, "", LABEL_MANAGER).await;
        failures += u32::from(told("the labels", node, labels));
        let conditions = apply_nothing(&api, node, "/status", CONDITION_MANAGER).await;
        failures += u32::from(told("the condition", node, conditions));
        let summary = apply_nothing(&api, node, "", SUMMARY_MANAGER).await;
        failures += u32::from(told("the summary", node, summary));
        if !args.node_taint.is_empty() {
            let mut taint = TaintWriter::new(api.clone(), node, &args.node_taint);
            failures += u32::from(told("the taint", node, taint.write(&false).await));
        }
        let deleted =
            delete_node_feature(&api, &node_feature_path(&args.gfd.namespace, node)).await;
        failures += u32::from(told("the NodeFeature object", node, deleted));
    }
    outcome(failures)
}

fn outcome(failures: u32) -> Result<(), String> {
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} things could not be removed")),
    }
}

/// Logs what became of a removal; whether it failed.
fn told(what: &str, of: &str, removed: Result<(), impl std::fmt::Display>) -> bool {
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

fn absent_is_fine(answer: Result<Value, ApiError>) -> Result<(), ApiError> {
    match answer {
        Err(error) if error.code() != Some(404) => Err(error),
        _ => Ok(()),
    }
}

/// Applies nothing as this manager: what it alone owns goes, and what others own stays.
async fn apply_nothing(
    api: &ApiServer,
    node: &str,
    subresource: &str,
    manager: &str,
) -> Result<(), ApiError> {
    let nothing = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
    let path = format!("/api/v1/nodes/{node}{subresource}");
    absent_is_fine(api.send(&ApiRequest::apply(&path, manager, true, &nothing)).await)
}

/// Deletes a NodeFeature object, unless it is of GPU feature discovery alone: it has the same name.
async fn delete_node_feature(api: &ApiServer, path: &str) -> Result<(), ApiError> {
    let object = match api.send(&ApiRequest::get(path)).await {
        Err(error) if error.code() == Some(404) => return Ok(()),
        object => object?,
    };
    if managers(&object).any(|manager| manager == LABEL_MANAGER) {
        absent_is_fine(api.send(&ApiRequest::delete(path)).await)?;
    }
    Ok(())
}

fn managers(object: &Value) -> impl Iterator<Item = &str> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["manager"].as_str())
}

/// The nodes on which the agent owns something. A list that expires meanwhile begins again.
async fn written_nodes(api: &ApiServer) -> Result<Vec<String>, ApiError> {
    let mut nodes = Vec::new();
    let mut next = String::new();
    loop {
        let path = format!("/api/v1/nodes?limit={PAGE}&continue={next}");
        let page = match api.send(&ApiRequest::get_metadata(path)).await {
            Err(error) if error.code() == Some(410) && !next.is_empty() => {
                (nodes, next) = (Vec::new(), String::new());
                continue;
            }
            page => page?,
        };
        let items = page["items"].as_array().into_iter().flatten();
        let names = items.filter(|node| is_ours(node));
        nodes.extend(names.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)));
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            // It stands in a query; the API server's tokens are of this alphabet.
            Some(token) => next = token.chars().filter(|c| is_of_token(*c)).collect(),
            None => return Ok(nodes),
        }
    }
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.')
}

/// Whether a node has fields of ours, or may have a NodeFeature object of ours.
fn is_ours(node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let ours = [LABEL_MANAGER, CONDITION_MANAGER, SUMMARY_MANAGER, TAINT_MANAGER];
    managers(node).any(|manager| ours.contains(&manager))
        || labels["nvidia.com/gpu.present"].is_string()
}
