//! What each request does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::apply;
use crate::store::{BY_UPDATE, Object};
use crate::{events, labels, pods, table};

/// The content type of a change of some fields.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A request without what HTTP adds.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: &'a str,
    pub(crate) metadata_only: bool,
    /// Whether a table is asked for.
    pub(crate) as_table: bool,
    pub(crate) body: Value,
}

/// A status code and an object.
pub(crate) type Answer = (u16, Value);

/// What a path leads to.
pub(crate) struct Resource<'a> {
    /// The plural name, with the subresource: `nodes/status`.
    pub(crate) name: String,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) object: Option<&'a str>,
}

/// The resource of a path; `None`: there is no such.
pub(crate) fn resource(path: &str) -> Option<Resource<'_>> {
    let of = |name: &str, namespace, object| Resource { name: name.to_owned(), namespace, object };
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Some(match parts[..] {
        ["api", "v1", "nodes"] => of("nodes", None, None),
        ["api", "v1", "nodes", node] => of("nodes", None, Some(node)),
        ["api", "v1", "nodes", node, "status"] => of("nodes/status", None, Some(node)),
        ["api", "v1", "pods"] => of("pods", None, None),
        ["api", "v1", "namespaces", namespace, "pods"] => of("pods", Some(namespace), None),
        ["api", "v1", "namespaces", namespace, "pods", pod] => {
            of("pods", Some(namespace), Some(pod))
        }
        ["api", "v1", "namespaces", namespace, "pods", pod, "proxy", ..] => {
            of("pods/proxy", Some(namespace), Some(pod))
        }
        ["apis", "events.k8s.io", "v1", "namespaces", namespace, "events"] => {
            of("events", Some(namespace), None)
        }
        ["apis", "events.k8s.io", "v1", "namespaces", namespace, "events", event] => {
            of("events", Some(namespace), Some(event))
        }
        ["apis", "nfd.k8s-sigs.io", "v1alpha1", "namespaces", namespace, "nodefeatures", name] => {
            of("nodefeatures", Some(namespace), Some(name))
        }
        _ => return None,
    })
}

/// The right that a request needs.
pub(crate) fn verb(call: &Call<'_>, resource: &Resource<'_>) -> &'static str {
    match (call.method, resource.object) {
        ("GET", Some(_)) => "get",
        ("GET", None) if is_watch(call) => "watch",
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    }
}

/// Whether a list is to be watched.
pub(crate) fn is_watch(call: &Call<'_>) -> bool {
    call.query.get("watch").is_some_and(|watch| watch == "true")
}

/// A Status object that says no.
pub(crate) fn refusal(code: u16, reason: &str, message: impl Into<String>) -> Answer {
    let message = message.into();
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message}),
    )
}

fn invalid(problem: String) -> Answer {
    refusal(422, "Invalid", problem)
}

pub(crate) fn not_found(path: &str) -> Answer {
    refusal(404, "NotFound", format!("{path} not found"))
}

/// The objects by the path that they are served at.
pub(crate) type Objects = BTreeMap<String, Object>;

/// Does what a request asks for. `may_create`: whether an apply may make an object.
pub(crate) fn respond(
    objects: &mut Objects,
    call: &Call<'_>,
    resource: &Resource<'_>,
    may_create: bool,
) -> Answer {
    match (call.method, resource.name.as_str(), resource.object) {
        ("GET", _, Some(_)) => match objects.get(object_path(call.path)) {
            Some(object) if call.as_table => (200, table::table(&[object.served()], true)),
            Some(object) => (200, object.served()),
            None => not_found(call.path),
        },
        ("GET", "nodes", None) => list(objects, call),
        ("GET", "pods", None) => pods::list(objects, call, resource.namespace),
        ("DELETE", "nodefeatures", Some(_)) => match objects.remove(call.path) {
            Some(object) => (200, object.served()),
            None => not_found(call.path),
        },
        ("POST", "events", None) => create_event(objects, call, resource),
        ("PATCH", "events", Some(_)) => merge_event(objects, call),
        ("PATCH", "nodes", Some(_)) if call.content_type == MERGE_PATCH => {
            merge_node(objects, call)
        }
        ("PATCH", _, Some(_)) => apply(objects, call, resource, may_create),
        _ => refusal(405, "MethodNotAllowed", format!("{} {}", call.method, call.path)),
    }
}

fn object_path(path: &str) -> &str {
    path.strip_suffix("/status").unwrap_or(path)
}

fn list(objects: &Objects, call: &Call<'_>) -> Answer {
    let number = |key: &str| call.query.get(key).filter(|text| !text.is_empty());
    let start: usize = match number("continue").map(|token| token.parse()) {
        None => 0,
        Some(Ok(start)) => start,
        Some(Err(_)) => return refusal(410, "Expired", "the continue parameter is too old"),
    };
    let limit = number("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let nodes: Vec<&Object> = objects
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1/nodes/"))
        .map(|(_, object)| object)
        .filter(|object| labels::selects(&call.query, &object.value))
        .collect();
    let item = |object: &&Object| {
        let mut served = object.served();
        if call.metadata_only {
            served.as_object_mut().unwrap().retain(|key, _| key == "metadata");
        }
        served
    };
    let page: Vec<Value> = nodes.iter().skip(start).take(limit).map(item).collect();
    let next = start + page.len();
    let token = if next < nodes.len() { next.to_string() } else { String::new() };
    if call.as_table {
        let mut table = table::table(&page, true);
        table["metadata"]["continue"] = token.into();
        return (200, table);
    }
    (200, json!({"kind": "NodeList", "metadata": {"continue": token}, "items": page}))
}

fn create_event(objects: &mut Objects, call: &Call<'_>, resource: &Resource<'_>) -> Answer {
    if let Some(problem) = events::problem(&call.body, resource.namespace.unwrap_or_default()) {
        return invalid(problem);
    }
    let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{}/{name}", call.path);
    if objects.contains_key(&path) {
        return refusal(409, "AlreadyExists", path);
    }
    objects.insert(path, Object::new(call.body.clone()));
    (201, call.body.clone())
}

fn merge_event(objects: &mut Objects, call: &Call<'_>) -> Answer {
    if call.content_type != MERGE_PATCH {
        return refusal(415, "UnsupportedMediaType", call.content_type);
    }
    let Some(object) = objects.get_mut(call.path) else { return not_found(call.path) };
    let mut after = object.value.clone();
    merge(&mut after, &call.body);
    if let Some(problem) = events::update_problem(&object.value, &after) {
        return invalid(problem);
    }
    let before = std::mem::replace(&mut object.value, after);
    object.changed(&before);
    (200, object.served())
}

/// Changes the specification of a Node, if it is of the version that the request names.
fn merge_node(objects: &mut Objects, call: &Call<'_>) -> Answer {
    let Some(object) = objects.get_mut(call.path) else { return not_found(call.path) };
    let expected = &call.body["metadata"]["resourceVersion"];
    if !expected.is_null() && *expected != *object.version.to_string() {
        return refusal(409, "Conflict", "the object has been modified");
    }
    let taints = call.body["spec"]["taints"].as_array().into_iter().flatten();
    let is_right = |taint: &Value| {
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        let effect = taint["effect"].as_str().is_some_and(|effect| effects.contains(&effect));
        effect && taint["key"].as_str().is_some_and(|key| !key.is_empty())
    };
    if let Some(wrong) = taints.clone().find(|taint| !is_right(taint)) {
        return invalid(format!("spec.taints: {wrong}"));
    }
    let before = object.value.clone();
    merge(&mut object.value, &json!({"spec": call.body["spec"]}));
    let manager = call.query.get("fieldManager").cloned().unwrap_or_default();
    let leaf = ["spec", "taints"].map(|name| apply::Step::Field(name.to_owned()));
    object.owners.insert(leaf.to_vec(), [manager].into());
    object.changed(&before);
    (200, object.served())
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}

fn apply(
    objects: &mut Objects,
    call: &Call<'_>,
    resource: &Resource<'_>,
    may_create: bool,
) -> Answer {
    if call.content_type != "application/apply-patch+yaml" {
        return refusal(415, "UnsupportedMediaType", call.content_type);
    }
    let Some(manager) = call.query.get("fieldManager").filter(|name| !name.is_empty()) else {
        return refusal(400, "BadRequest", "fieldManager is required for apply patch");
    };
    let force = call.query.get("force").is_some_and(|force| force == "true");
    let mut wanted = call.body.clone();
    let named = wanted["apiVersion"].is_string() && wanted["kind"].is_string();
    if !named || wanted["metadata"]["name"].as_str() != resource.object {
        return refusal(400, "BadRequest", "apiVersion, kind and the name of the path are needed");
    }
    if !wanted["metadata"]["managedFields"].is_null() {
        return refusal(400, "BadRequest", "metadata.managedFields must be nil");
    }
    // Each endpoint takes its own part.
    let part: &[&str] = match resource.name.as_str() {
        "nodes/status" => &["status"],
        "nodes" => &["metadata", "spec"],
        _ => &["metadata", "spec", "status"],
    };
    wanted.as_object_mut().unwrap().retain(|key, _| part.contains(&key.as_str()));
    if let Some(problem) = labels::problem(&wanted).or_else(|| condition_problem(&wanted)) {
        return invalid(problem);
    }
    let path = object_path(call.path);
    if !objects.contains_key(path) {
        if !may_create {
            return refusal(403, "Forbidden", "cannot create what is not there");
        }
        let kind = &call.body["kind"];
        let new = json!({"kind": kind, "metadata": {"name": resource.object}});
        objects.insert(path.to_owned(), Object::new(new));
    }
    let object = objects.get_mut(path).unwrap();
    let Err(conflicts) = object.apply(manager, force, &wanted) else {
        return (200, object.served());
    };
    let cause = |(leaf, owner): &(_, String)| {
        let owner = owner.trim_end_matches(BY_UPDATE);
        json!({"reason": "FieldManagerConflict", "field": apply::display(leaf),
            "message": format!("conflict with {owner:?}")})
    };
    // Some versions tell some conflicts twice and others not at all (kubernetes issue 119141).
    let first = || conflicts.iter().take(1);
    let causes: Vec<Value> = first().chain(first()).map(cause).collect();
    let (code, mut status) = refusal(409, "Conflict", "Apply failed with conflicts");
    status["details"] = json!({"causes": causes});
    (code, status)
}

fn condition_problem(object: &Value) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find_map(|condition| {
        let is_time = |key: &str| {
            condition[key].as_str().is_some_and(|time| humantime::parse_rfc3339(time).is_ok())
        };
        let right = matches!(condition["status"].as_str(), Some("True" | "False" | "Unknown"))
            && is_time("lastTransitionTime")
            && is_time("lastHeartbeatTime");
        (!right).then(|| format!("status.conditions: {condition}"))
    })
}
