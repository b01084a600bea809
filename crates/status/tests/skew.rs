//! Programs of two versions side by side, as while an update goes from node to node: each reads the
//! status of the other.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test with its place")]

use serde_json::{Value, json};
use status::read;

/// A status as a version wrote it that counted no GPUs and named no problems.
const OLDER: &str = include_str!("older.json");

#[test]
fn the_status_of_an_older_version_is_read() {
    let status = read(OLDER).unwrap();
    assert_eq!((status.gpus.len(), status.resources.len()), (8, 1));
    assert!(status.newer().is_none());
    assert_eq!(status.problems, [], "it names none");
}

/// Adds a member to every object.
fn with_more(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(with_more);
            members.insert("ofTomorrow".to_owned(), json!({"what": [1, "two", null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(with_more),
        _ => {}
    }
}

#[test]
fn what_a_newer_version_adds_to_the_status_is_passed_over() {
    let known = read(OLDER).unwrap();
    let mut newer: Value = serde_json::from_str(OLDER).unwrap();
    with_more(&mut newer);
    assert_eq!(read(&newer.to_string()).unwrap(), known);
    newer["schemaVersion"] = json!(2);
    let read = read(&newer.to_string()).unwrap();
    assert!(read.newer().unwrap().contains("is of version 2, newer than this program"));
    assert_eq!(read.gpus, known.gpus);
}
