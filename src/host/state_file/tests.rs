//! Tests of the state file.

use std::collections::BTreeMap;

use device::gpu::MigMode;
use device::health::{Epoch, PersistedCause, PersistedHealth};
use device::identity::{GpuBinding, KnownGpus, MAX_GPUS};

use super::*;

fn remembered() -> PersistedState {
    let cause =
        PersistedCause { kind: "xid".to_owned(), number: Some(79), ..PersistedCause::default() };
    let slice = PersistedCause { gpu_instance: Some(3), repaired: true, ..cause.clone() };
    let configured = PersistedCause { configured: true, ..cause.clone() };
    let bound = |index, mig_mode| GpuBinding {
        index,
        pci_bus_id: index.map(|_| "0000:1b:00.0".parse().unwrap()),
        mig_mode,
    };
    let known = [
        ("GPU-1", bound(Some(0), MigMode::Off)),
        ("GPU-2", bound(Some(1), MigMode::On)),
        ("GPU-3", bound(None, MigMode::Unknown)),
    ];
    PersistedState {
        health: PersistedHealth {
            epoch: Epoch { boot: "a".to_owned(), driver: Some("8:1".to_owned()) },
            gpus: BTreeMap::from([("GPU-1".parse().unwrap(), vec![cause, slice, configured])]),
        },
        known_gpus: KnownGpus {
            boot: "a".to_owned(),
            gpus: known.map(|(uuid, binding)| (uuid.parse().unwrap(), binding)).into(),
        },
    }
}

/// The state file as text, with another list of known GPUs.
fn with_known_gpus(known: serde_json::Value) -> Vec<u8> {
    let mut text = serde_json::to_value(Document::from(&remembered())).unwrap();
    text["knownGpus"] = known;
    serde_json::to_vec(&text).unwrap()
}

#[test]
fn the_known_gpus_are_read_one_by_one_and_cost_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let memory = StateFile::open(Some(place.path()));
    let many: serde_json::Map<_, _> =
        (0..MAX_GPUS + 9).map(|n| (format!("GPU-{n}"), serde_json::json!({"index": n}))).collect();
    let one = serde_json::json!({"index": 0});
    for (known, expected) in [
        (serde_json::Value::Null, 0),
        (serde_json::json!([1, 2]), 0),
        (serde_json::json!("GPU-1"), 0),
        (serde_json::json!({"GPU-1": one, "all": one, "": one}), 1),
        (serde_json::json!({"GPU-1": one, "GPU-2": {"index": -1}, "GPU-3": 7}), 1),
        (serde_json::json!({"GPU-1": one, "GPU-2": {"pciBusId": "../.."}}), 1),
        (serde_json::json!({"GPU-1": {"index": 0, "later": true}}), 1),
        (serde_json::Value::Object(many), MAX_GPUS),
    ] {
        fs::write(place.path().join(FILE), with_known_gpus(known.clone())).unwrap();
        let state = memory.load().unwrap();
        assert_eq!(state.known_gpus.gpus.len(), expected, "{known}");
        assert_eq!(state.health, remembered().health, "{known}");
    }
}

/// As the plugins wrote it that did not know GPUs.
#[test]
fn an_older_file_is_read() {
    let place = tempfile::tempdir().unwrap();
    let text = r#"{"version": 1, "boot": "a", "driver": null,
        "gpus": {"GPU-1": [{"cause": "xid", "number": 79, "repaired": false}]}}"#;
    fs::write(place.path().join(FILE), text).unwrap();
    let state = StateFile::open(Some(place.path())).load().unwrap();
    assert_eq!((state.health.gpus.len(), state.known_gpus.gpus.len()), (1, 0));
    assert_eq!(state.known_gpus.boot, "a");
}

#[test]
fn what_is_written_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let memory = StateFile::open(Some(&place.path().join("created/here")));
    assert_eq!(memory.load(), None);
    for remembered in [remembered(), PersistedState::default(), remembered()] {
        memory.write(&remembered).unwrap();
        assert_eq!(memory.load(), Some(remembered));
    }
    assert_eq!(
        fs::read_dir(place.path().join("created/here")).unwrap().count(),
        1,
        "nothing is left behind"
    );
}

#[test]
fn what_cannot_be_read_is_set_aside_and_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let memory = StateFile::open(Some(place.path()));
    let whole = serde_json::to_vec(&Document::from(&remembered())).unwrap();
    let mut texts: Vec<Vec<u8>> =
        (0..whole.len()).step_by(7).map(|cut| whole[..cut].to_vec()).collect();
    texts.push(b"{\"version\": 2, \"boot\": \"\", \"driver\": null, \"gpus\": {}}".to_vec());
    texts.push(b"\xff\xfe\x00".to_vec());
    for text in texts {
        fs::write(place.path().join(FILE), text).unwrap();
        assert_eq!(memory.load(), None);
        assert!(!place.path().join(FILE).exists());
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), SET_ASIDE as usize);
}

#[test]
fn a_directory_in_its_place_is_set_aside() {
    let place = tempfile::tempdir().unwrap();
    let memory = StateFile::open(Some(place.path()));
    fs::create_dir(place.path().join(FILE)).unwrap();
    assert_eq!(memory.load(), None);
    memory.write(&remembered()).unwrap();
    assert_eq!(memory.load(), Some(remembered()));
}

#[test]
fn without_a_directory_nothing_is_kept_and_nothing_fails() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    for directory in [None, Some(place.path().join("file/below"))] {
        let memory = StateFile::open(directory.as_deref());
        memory.write(&remembered()).unwrap();
        assert_eq!(memory.load(), None);
    }
}

#[tokio::test]
async fn what_differs_from_the_present_at_the_start_is_written() {
    let place = tempfile::tempdir().unwrap();
    StateFile::open(Some(place.path())).write(&remembered()).unwrap();
    let file = StateFile::open(Some(place.path()));
    let mut present = file.load().unwrap();
    present.health.epoch.driver = Some("9".to_owned());
    let (_health_tx, health_rx) = watch::channel(present.clone());
    tokio::select! {
        never = file.run(health_rx) => match never {},
        () = async {
            while StateFile::peek(place.path()).unwrap() != Some(present.clone()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
}
