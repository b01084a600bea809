//! Nodes as tables, as `kubectl get` asks for them: the columns of Kubernetes' printer, and of each
//! object the metadata.

use serde_json::{Value, json};

use crate::respond::{Answer, refusal};

/// The columns that are filled here; the real server has more between them.
const COLUMNS: [&str; 3] = ["Name", "Status", "Version"];

/// These Nodes as a table. Only the first event of a watch has the columns.
pub(crate) fn table(nodes: &[Value], with_columns: bool) -> Value {
    let column = |name: &&str| json!({"name": name, "type": "string", "priority": 0});
    let columns: Vec<Value> = COLUMNS.iter().filter(|_| with_columns).map(column).collect();
    let row = |node: &Value| {
        let version = node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
        json!({
            "cells": [node["metadata"]["name"].as_str().unwrap_or_default(), status(node), version],
            "object": {
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": node["metadata"],
            },
        })
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": columns,
        "rows": nodes.iter().map(row).collect::<Vec<_>>(),
    })
}

/// As pkg/printers/internalversion prints it.
fn status(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|of| of["type"] == "Ready"));
    let ready = match ready.map(|ready| &ready["status"]) {
        None => "Unknown",
        Some(status) if status == "True" => "Ready",
        Some(_) => "NotReady",
    };
    match node["spec"]["unschedulable"].as_bool() {
        Some(true) => format!("{ready},SchedulingDisabled"),
        _ => ready.to_owned(),
    }
}

/// Whether a table is asked for; or that this form of one is not known.
pub(crate) fn asked_for(accept: &str) -> Result<bool, Answer> {
    let words: Vec<&str> = accept.split([';', ',']).map(str::trim).collect();
    if !words.iter().any(|word| word.starts_with("as=Table")) {
        return Ok(false);
    }
    match ["application/json", "as=Table", "g=meta.k8s.io", "v=v1"].map(|of| words.contains(&of)) {
        [true, true, true, true] => Ok(true),
        _ => Err(refusal(406, "NotAcceptable", format!("only some media types: {accept}"))),
    }
}
