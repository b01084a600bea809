//! Tests of files that other versions of the plugin have written.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::contents::SET_ASIDE;
use super::document::{Document, MEMBERS};
use super::stored::{Stored, Written};
use super::tests::remembered;
use super::*;

fn as_value(state: &PersistedState) -> Value {
    serde_json::to_value(Document::from(state)).unwrap()
}

fn put(directory: &Path, document: &Value) {
    fs::write(directory.join(FILE), document.to_string()).unwrap();
}

fn file(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join(FILE)).unwrap()).unwrap()
}

/// What a plugin of this version does that finds the file and has this to keep.
fn starts(directory: &Path, state: impl Fn(PersistedState) -> PersistedState) -> PersistedState {
    let mut stored = Stored::in_directory(directory);
    let found = stored.load().unwrap().unwrap();
    stored.restored(found.clone());
    assert_eq!(stored.write(&state(found.clone())).unwrap(), Written::AsGiven);
    found
}

/// With the first GPU's causes gone, so that the file has to be written.
fn repaired(mut state: PersistedState) -> PersistedState {
    state.health.gpus.clear();
    state
}

#[test]
fn the_members_that_are_known_are_those_that_are_written() {
    let written = as_value(&remembered());
    assert!(written.as_object().unwrap().keys().eq(MEMBERS));
}

#[test]
fn causes_that_are_not_known_stay_in_the_file_until_the_next_boot() {
    let later = json!({"cause": "overheated", "celsius": 104, "repaired": false});
    let place = tempfile::tempdir().unwrap();
    let mut newer = as_value(&remembered());
    newer["gpus"]["GPU-1"].as_array_mut().unwrap().push(later.clone());
    newer["gpus"]["GPU-9"] = json!([later]);
    put(place.path(), &newer);
    let found = starts(place.path(), repaired);
    assert_eq!(found.health.gpus.len(), 2);
    let gpus = json!({"GPU-1": [later], "GPU-9": [later]});
    assert_eq!(file(place.path())["gpus"], gpus, "and the known ones have ended");
    // Over one more start, and a change of what is known.
    starts(place.path(), |_| remembered());
    let there = file(place.path());
    assert_eq!(there["gpus"]["GPU-1"].as_array().unwrap().len(), 4);
    assert_eq!(there["gpus"]["GPU-9"], json!([later]));
    starts(place.path(), |mut state| {
        state.health.epoch.boot = "b".to_owned();
        repaired(state)
    });
    assert_eq!(file(place.path())["gpus"], json!({}));
}

#[test]
fn a_file_in_a_newer_format_is_read_as_far_as_it_is_understood_and_kept_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mut newer = as_value(&remembered());
    newer["version"] = json!(2);
    newer["gpus"]["GPU-1"][0]["certainty"] = json!(0.9);
    newer["fleet"] = json!({"what": [1, 2]});
    put(place.path(), &newer);
    assert_eq!(StateFile::peek(place.path()).unwrap(), Some(remembered()));
    assert_eq!(starts(place.path(), |state| state), remembered());
    assert_eq!(file(place.path()), as_value(&remembered()), "in the format of this version");
    let kept = place.path().join("health.json.newer-1");
    assert_eq!(fs::read_to_string(&kept).unwrap(), newer.to_string());
    // The same file once more, as after a stop before the file was replaced.
    put(place.path(), &newer);
    starts(place.path(), |state| state);
    assert!(!place.path().join("health.json.newer-2").exists());
    newer["version"] = json!(3);
    put(place.path(), &newer);
    starts(place.path(), |state| state);
    let second = fs::read_to_string(place.path().join("health.json.newer-2")).unwrap();
    assert_eq!(second, newer.to_string());
}

#[test]
fn a_file_in_a_newer_format_that_cannot_be_kept_is_not_replaced() {
    let place = tempfile::tempdir().unwrap();
    let mut newer = as_value(&remembered());
    newer["version"] = json!(2);
    put(place.path(), &newer);
    for number in 1..=SET_ASIDE {
        fs::create_dir(place.path().join(format!("health.json.newer-{number}"))).unwrap();
    }
    let mut stored = Stored::in_directory(place.path());
    let found = stored.load().unwrap().unwrap();
    assert_eq!(found, remembered(), "it counts all the same");
    stored.restored(found.clone());
    stored.write(&found).unwrap_err();
    assert_eq!(file(place.path()), newer);
    fs::remove_dir(place.path().join("health.json.newer-1")).unwrap();
    assert_eq!(stored.write(&found).unwrap(), Written::AsGiven);
    assert_eq!(file(place.path()), as_value(&remembered()));
}

#[test]
fn of_too_much_that_is_not_known_nothing_that_is_known_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let mut newer = as_value(&remembered());
    newer["small"] = json!("kept");
    newer["large"] = json!("x".repeat(100_000));
    put(place.path(), &newer);
    starts(place.path(), repaired);
    let there = file(place.path());
    assert_eq!((&there["small"], there.get("large")), (&json!("kept"), None));
    assert_eq!(there["knownGpus"], newer["knownGpus"]);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a newer version adds, an older one neither trips over it nor loses it.
    #[test]
    fn what_a_newer_version_adds_comes_back(
        members in prop::collection::btree_map("[a-zA-Z]{1,8}", json_value(), 0..4),
        in_cause in prop::collection::btree_map("later[a-z]{1,4}", json_value(), 0..3),
    ) {
        let place = tempfile::tempdir().unwrap();
        let mut newer = as_value(&remembered());
        let added: Map<String, Value> =
            members.into_iter().filter(|(name, _)| !MEMBERS.contains(&name.as_str())).collect();
        newer.as_object_mut().unwrap().extend(added.clone());
        let mut cause = json!({"cause": "of tomorrow", "repaired": false});
        cause.as_object_mut().unwrap().extend(in_cause);
        newer["gpus"]["GPU-7"] = json!([cause]);
        put(place.path(), &newer);
        let mut found = starts(place.path(), repaired);
        found.health.gpus.remove("GPU-7");
        prop_assert_eq!(found, remembered());
        let there = file(place.path());
        for (name, value) in &added {
            prop_assert_eq!(&there[name], value);
        }
        prop_assert_eq!(&there["gpus"]["GPU-7"], &json!([cause]));
        // And a file of this version is an older one for the newer: all that it knows is there.
        prop_assert_eq!(&there["knownGpus"], &newer["knownGpus"]);
    }
}
