//! Validation of Events of events.k8s.io/v1 (pkg/apis/core/validation/events.go).

use serde_json::Value;

use crate::labels::{is_subdomain, is_value};

/// What is wrong with a new Event in this namespace.
pub(crate) fn problem(event: &Value, namespace: &str) -> Option<String> {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    if event["metadata"]["namespace"] != *namespace {
        return Some("metadata.namespace: does not match the path".to_owned());
    }
    if !event["metadata"]["name"].as_str().is_some_and(is_subdomain) {
        return Some(format!("metadata.name: {}", event["metadata"]["name"]));
    }
    if !is_micro_time(&event["eventTime"]) {
        return Some(format!("eventTime: {}", event["eventTime"]));
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        return Some(format!("type: {}", text("type")));
    }
    for key in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(key).is_empty() || text(key).len() > 128 {
            return Some(format!("{key}: {:?} is empty or longer than 128", text(key)));
        }
    }
    let controller = text("reportingController");
    if !is_value(controller.rsplit('/').next().unwrap_or_default()) {
        return Some(format!("reportingController: {controller} is not a qualified name"));
    }
    if text("note").len() > 1024 {
        return Some("note: can have at most 1024 bytes".to_owned());
    }
    let deprecated = [
        "deprecatedSource",
        "deprecatedFirstTimestamp",
        "deprecatedLastTimestamp",
        "deprecatedCount",
    ];
    if let Some(key) = deprecated.iter().find(|key| !event[**key].is_null()) {
        return Some(format!("{key}: needs to be unset"));
    }
    let known = [
        "apiVersion",
        "kind",
        "metadata",
        "eventTime",
        "type",
        "reason",
        "action",
        "note",
        "reportingController",
        "reportingInstance",
        "regarding",
        "related",
        "series",
    ];
    if let Some(key) = event.as_object()?.keys().find(|key| !known.contains(&key.as_str())) {
        return Some(format!("strict decoding error: unknown field {key:?}"));
    }
    // About something without a namespace, Events are in one of these.
    let matches = match event["regarding"]["namespace"].as_str() {
        None => matches!(namespace, "default" | "kube-system"),
        Some(of) => of == namespace,
    };
    if !matches {
        return Some("namespace: does not match regarding".to_owned());
    }
    series_problem(&event["series"])
}

/// What is wrong with an Event that was changed.
pub(crate) fn update_problem(before: &Value, after: &Value) -> Option<String> {
    let keys = after.as_object()?.keys().chain(before.as_object()?.keys());
    let changed = |key: &&String| {
        !matches!(key.as_str(), "series" | "metadata")
            && before[key.as_str()] != after[key.as_str()]
    };
    let mut immutable = keys.filter(changed);
    match immutable.next() {
        Some(key) => Some(format!("{key}: field is immutable")),
        None => series_problem(&after["series"]),
    }
}

fn series_problem(series: &Value) -> Option<String> {
    if series.is_null() {
        return None;
    }
    if !series["count"].as_i64().is_some_and(|count| (2..=i64::from(i32::MAX)).contains(&count)) {
        return Some(format!("series.count: {} should be at least 2", series["count"]));
    }
    let time = &series["lastObservedTime"];
    (!is_micro_time(time)).then(|| format!("series.lastObservedTime: {time}"))
}

/// Six digits of the second, as MicroTime is read.
fn is_micro_time(time: &Value) -> bool {
    time.as_str().is_some_and(|time| {
        humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-01-01T00:00:00.000000Z".len()
    })
}
