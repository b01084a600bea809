//! Pods: lists by labels and by node, and the proxy to a port of one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::labels;
use crate::respond::{Answer, Call, Objects, not_found, refusal};

/// What answers at a port of a pod, by `NAMESPACE/NAME:PORT`.
pub(crate) type Proxied = BTreeMap<String, Answer>;

/// Pods of a namespace, or of all.
pub(crate) fn list(objects: &Objects, call: &Call<'_>, namespace: Option<&str>) -> Answer {
    let known = ["labelSelector", "fieldSelector", "limit"];
    if let Some(key) = call.query.keys().find(|key| !known.contains(&key.as_str())) {
        return refusal(400, "BadRequest", format!("the fake knows no {key}"));
    }
    let field = call.query.get("fieldSelector").map(|field| field.split_once('='));
    let node = match field {
        None => None,
        Some(Some(("spec.nodeName", node))) => Some(node),
        Some(_) => return refusal(400, "BadRequest", "field label not supported"),
    };
    let pods = objects.iter().filter(|(path, _)| path.contains("/pods/"));
    let pods = pods.map(|(_, object)| object).filter(|pod| {
        let metadata = &pod.value["metadata"];
        namespace.is_none_or(|namespace| metadata["namespace"] == *namespace)
            && node.is_none_or(|node| pod.value["spec"]["nodeName"] == *node)
            && labels::selects(&call.query, &pod.value)
    });
    let items: Vec<Value> = pods.map(|pod| pod.served()).collect();
    (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// Asks at a port of a pod, as the API server does.
pub(crate) fn proxy(objects: &Objects, proxied: &Proxied, call: &Call<'_>) -> Answer {
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    let ["api", "v1", "namespaces", namespace, "pods", pod, "proxy", path @ ..] = &parts[..] else {
        return not_found(call.path);
    };
    let name = pod.split(':').next().unwrap_or_default();
    if !objects.contains_key(&format!("/api/v1/namespaces/{namespace}/pods/{name}")) {
        return not_found(call.path);
    }
    match proxied.get(&format!("{namespace}/{pod}")) {
        Some(answer) if *path == ["status"] => answer.clone(),
        Some(_) => (404, json!("404 page not found")),
        None => {
            let why = "error trying to reach service: dial tcp 10.0.0.7: connection refused";
            refusal(503, "ServiceUnavailable", why)
        }
    }
}
