//! What of `/metrics` and `/status` is the same on every machine and in every run.

use serde_json::Value;

/// Metrics whose values are the machine's or the moment's; a prefix of the name is enough.
const VARIABLE: &[&str] = &[
    "gpu_device_plugin_health_check_duration_seconds",
    "gpu_device_plugin_last_event_timestamp_seconds",
    "gpu_device_plugin_rpc_duration_seconds_bucket",
    "gpu_device_plugin_rpc_duration_seconds_sum",
    "process_",
];
/// Labels whose values are the build's.
const OF_THE_BUILD: &[&str] = &["version", "revision", "rustc"];

/// Fields of the status whose values are replaced, and by what.
const FIELDS: &[(&[&str], &str)] = &[
    (&["generatedAt", "startedAt", "since", "at", "lastEvent", "releasedUntil"], "<time>"),
    (&["uptimeSeconds"], "<n>"),
    (&["version", "commit", "hostname"], "<build>"),
    (&["file"], "<path>"),
    (&["endpoint"], "<socket>"),
    (
        &["summary", "message", "remedy", "meaning", "problem", "refused", "reserved", "notReady"],
        "<text>",
    ),
];

/// Types, names, labels, and values where they are certain; without the words of HELP.
pub(crate) fn metrics(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("# HELP "));
    lines.map(|line| metric(line) + "\n").collect()
}

fn metric(line: &str) -> String {
    if line.starts_with('#') {
        return line.to_owned();
    }
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    if name == "gpu_device_plugin_build_info" {
        let labels = labels.trim_end_matches('}').split(',');
        let names: Vec<&str> = labels.map(|label| label.split_once('=').unwrap().0).collect();
        assert_eq!(names, OF_THE_BUILD);
        return format!("{name}{{version,revision,rustc}} {value}");
    }
    // The rest of its labels are words for people.
    if let Some((kept, _)) = series.split_once(",message=") {
        return format!("{kept},message,remedy}} <n>");
    }
    let variable = VARIABLE.iter().any(|prefix| name.starts_with(prefix));
    format!("{series} {}", if variable { "<n>" } else { value })
}

/// Fields and values, but for times, the build, paths and words for people. Events are sorted: some
/// happen at the same time.
pub(crate) fn status(mut status: Value) -> String {
    let events = status["events"].as_array_mut().unwrap();
    let times: Vec<String> = events.iter().map(|event| event["at"].to_string()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "the newest first: {times:?}");
    replace(&mut status);
    status["events"].as_array_mut().unwrap().sort_by_cached_key(Value::to_string);
    serde_json::to_string_pretty(&status).unwrap() + "\n"
}

fn replace(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(replace),
        Value::Object(fields) => {
            for (name, value) in fields {
                match FIELDS.iter().find(|(names, _)| names.contains(&name.as_str())) {
                    Some((_, by)) => placeholder(value, by),
                    None => replace(value),
                }
            }
        }
        _ => {}
    }
}

/// Replaces a value, or each item of a list of values.
fn placeholder(value: &mut Value, by: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| placeholder(item, by)),
        Value::Null | Value::Object(_) => panic!("{value} was to be replaced by {by}"),
        _ => *value = Value::from(by),
    }
}
