//! Tests of the state file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

use device::gpu::MigMode;
use device::health::{Epoch, PersistedAges, PersistedCause, PersistedHealth};
use device::identity::{GpuBinding, KnownGpus, MAX_GPUS};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::contents::SET_ASIDE;
use super::document::Document;
use super::*;

/// The file in this directory, of which this plugin has the lock.
fn stored(directory: &Path) -> Stored {
    Stored::in_directory(directory)
}

fn load(directory: &Path) -> Option<PersistedState> {
    stored(directory).load().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(super) fn remembered() -> PersistedState {
    let cause =
        PersistedCause { kind: "xid".to_owned(), number: Some(79), ..PersistedCause::default() };
    let slice = PersistedCause {
        gpu_instance: Some(3),
        repaired: true,
        since_boot: Some(1_004),
        ..cause.clone()
    };
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
            ages: PersistedAges {
                fault: Some(7),
                gpus: [("GPU-2".parse().unwrap(), [("external".to_owned(), 900)].into())].into(),
            },
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
        let state = load(place.path()).unwrap();
        assert_eq!(state.known_gpus.gpus.len(), expected, "{known}");
        assert_eq!(state.health, remembered().health, "{known}");
    }
}

#[test]
fn of_ages_that_make_no_sense_or_are_too_many_nothing_else_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let many: serde_json::Map<_, _> = (0..99).map(|n| (format!("word-{n}"), n.into())).collect();
    for (ages, kept) in [
        (serde_json::json!({"GPU-1": {"external": 5}, "GPU-2": {"external": -5}}), 1),
        (serde_json::json!({"GPU-1": 5, "GPU-2": ["external"], "all": {"external": 5}}), 0),
        (serde_json::json!({"GPU-1": {"x".repeat(65): 5}}), 0),
        (serde_json::json!({"GPU-1": many}), 32),
        (serde_json::json!([1]), 0),
    ] {
        let mut text = serde_json::to_value(Document::from(&remembered())).unwrap();
        text["statesSinceBoot"] = ages.clone();
        fs::write(place.path().join(FILE), text.to_string()).unwrap();
        let contents = contents::read(&place.path().join(FILE)).unwrap().unwrap();
        let health = contents.state.health;
        let words: usize = health.ages.gpus.values().map(BTreeMap::len).sum();
        assert_eq!((words, contents.dropped > 0), (kept, true), "{ages}");
        assert_eq!((health.ages.fault, health.gpus), (Some(7), remembered().health.gpus));
    }
}

/// As the plugins wrote it that did not know GPUs.
#[test]
fn an_older_file_is_read() {
    let place = tempfile::tempdir().unwrap();
    let text = r#"{"version": 1, "boot": "a", "driver": null,
        "gpus": {"GPU-1": [{"cause": "xid", "number": 79, "repaired": false}]}}"#;
    fs::write(place.path().join(FILE), text).unwrap();
    let state = load(place.path()).unwrap();
    assert_eq!((state.health.gpus.len(), state.known_gpus.gpus.len()), (1, 0));
    assert_eq!(state.known_gpus.boot, "a");
}

#[test]
fn what_is_written_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("created/here");
    let mut file = stored(&directory);
    assert_eq!(file.load().unwrap(), None);
    for remembered in [remembered(), PersistedState::default(), remembered()] {
        assert_eq!(file.write(&remembered).unwrap(), Written::AsGiven);
        assert_eq!(file.load().unwrap(), Some(remembered));
    }
    assert_eq!(names(&directory), [FILE], "nothing is left behind");
}

#[test]
fn what_cannot_be_used_is_set_aside_and_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let whole = serde_json::to_vec(&Document::from(&remembered())).unwrap();
    let mut texts: Vec<Vec<u8>> =
        (0..whole.len()).step_by(7).map(|cut| whole[..cut].to_vec()).collect();
    texts.push(b"\xff\xfe\x00".to_vec());
    texts.push(vec![b' '; contents::LONGEST + 1]);
    for text in texts {
        fs::write(place.path().join(FILE), text).unwrap();
        assert_eq!(load(place.path()), None);
        assert!(!place.path().join(FILE).exists());
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), SET_ASIDE as usize);
}

#[test]
fn a_file_of_a_newer_version_is_called_that_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let text = "{\"gpus\": [], \"version\": 2, \"more\": {}}";
    fs::write(place.path().join(FILE), text).unwrap();
    let error = StateFile::peek(place.path()).unwrap_err().to_string();
    assert_eq!(
        error,
        "it was written by a newer version of the plugin: it has format 2, and this version reads \
         format 1"
    );
    assert_eq!(load(place.path()), None);
    assert_eq!(fs::read_to_string(place.path().join("health.json.newer-1")).unwrap(), text);
}

#[test]
fn what_is_no_file_is_set_aside_unopened() {
    for kind in ["directory", "FIFO", "symbolic link"] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE);
        match kind {
            "directory" => fs::create_dir(&path).unwrap(),
            "FIFO" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            _ => symlink("/dev/zero", &path).unwrap(),
        }
        let error = StateFile::peek(place.path()).unwrap_err().to_string();
        assert_eq!(error, format!("it is a {kind}, not a regular file"));
        let mut file = stored(place.path());
        assert_eq!(file.load().unwrap(), None);
        assert_eq!(file.write(&remembered()).unwrap(), Written::AsGiven);
        assert_eq!(file.load().unwrap(), Some(remembered()));
        assert_eq!(names(place.path()), [FILE, "health.json.corrupt-1"]);
    }
}

#[test]
fn no_link_of_another_is_followed_and_what_a_killed_writer_left_is_removed() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("victim"), "untouched").unwrap();
    symlink("victim", place.path().join("health.json.next")).unwrap();
    fs::write(place.path().join("health.json.next-0123"), "half").unwrap();
    stored(place.path()).write(&remembered()).unwrap();
    assert_eq!(fs::read_to_string(place.path().join("victim")).unwrap(), "untouched");
    assert_eq!(names(place.path()), [FILE, "victim"]);
}

#[test]
fn of_too_much_the_first_is_kept_and_the_rest_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let gpus: Vec<_> =
        (0..10_000).map(|n| format!("\"GPU-{n}\":[{{\"cause\":\"lost\"}}]")).collect();
    let causes = vec!["{\"cause\":\"x\"}"; 2_000].join(",");
    let long = "y".repeat(5_000);
    for (gpus, kept, dropped) in [
        (gpus.join(","), MAX_GPUS, 10_000 - MAX_GPUS),
        (format!("\"GPU-1\":[{causes}]"), 1, 2_000 - 256),
        (format!("\"GPU-1\":[{{\"cause\":\"{long}\"}}],\"GPU-2\":7"), 1, 2),
    ] {
        let text = format!("{{\"version\":1,\"boot\":\"a\",\"driver\":null,\"gpus\":{{{gpus}}}}}");
        fs::write(place.path().join(FILE), text).unwrap();
        let contents = contents::read(&place.path().join(FILE)).unwrap().unwrap();
        assert_eq!((contents.state.health.gpus.len(), contents.dropped), (kept, dropped));
    }
}

#[test]
fn of_two_plugins_one_writes_and_the_other_takes_over_what_it_wrote() {
    let place = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (stored(place.path()), stored(place.path()));
    first.write(&PersistedState::default()).unwrap();
    let known = second.load().unwrap().unwrap();
    second.restored(known);
    first.write(&remembered()).unwrap();
    let error = second.write(&PersistedState::default()).unwrap_err().to_string();
    assert!(error.starts_with("another plugin has locked the state directory"), "{error}");
    drop(first);
    let Ok(Written::NotYet { found, news }) = second.write(&PersistedState::default()) else {
        panic!("what the first has written is lost");
    };
    assert_eq!((&*found, *news), (&remembered(), remembered()));
    assert_eq!(load(place.path()), Some(remembered()), "untouched");
    second.restored(*found);
    assert_eq!(second.write(&PersistedState::default()).unwrap(), Written::AsGiven);
    assert_eq!(load(place.path()), Some(PersistedState::default()));
}

#[test]
fn what_could_not_be_read_is_not_overwritten() {
    let place = tempfile::tempdir().unwrap();
    stored(place.path()).write(&remembered()).unwrap();
    // As after a load that came too late.
    let mut file = stored(place.path());
    let Ok(Written::NotYet { news, .. }) = file.write(&PersistedState::default()) else {
        panic!("it is overwritten");
    };
    assert_eq!(*news, remembered());
    let mut known = remembered();
    known.known_gpus.gpus.pop_first();
    file.restored(known);
    let Ok(Written::NotYet { news, .. }) = file.write(&PersistedState::default()) else {
        panic!("a GPU is forgotten");
    };
    assert_eq!((news.health.gpus.len(), news.known_gpus.gpus.len()), (0, 1));
}

#[test]
fn another_directory_in_the_place_of_the_first_is_locked_too() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("state");
    let mut file = stored(&directory);
    file.write(&remembered()).unwrap();
    fs::rename(&directory, place.path().join("elsewhere")).unwrap();
    fs::write(&directory, "no directory").unwrap();
    let error = file.write(&PersistedState::default()).unwrap_err().to_string();
    assert!(error.starts_with("the state directory cannot be created"), "{error}");
    fs::remove_file(&directory).unwrap();
    file.write(&remembered()).unwrap();
    let another = File::open(&directory).unwrap();
    assert!(another.try_lock().is_err(), "it is locked");
}

#[tokio::test]
async fn without_a_directory_nothing_is_kept_and_nothing_fails() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    for directory in [None, Some(place.path().join("file/below"))] {
        let file = StateFile::open(directory.as_deref());
        assert_eq!(file.load().await, None);
        file.flush(remembered()).await;
        assert_eq!(file.load().await, None);
    }
}

#[tokio::test]
async fn what_differs_from_the_present_at_the_start_is_written() {
    let place = tempfile::tempdir().unwrap();
    stored(place.path()).write(&remembered()).unwrap();
    let file = StateFile::open(Some(place.path()));
    let mut present = file.load().await.unwrap();
    present.health.epoch.driver = Some("9".to_owned());
    let (_health_tx, health_rx) = watch::channel(present.clone());
    tokio::select! {
        never = file.run(health_rx, async |news| panic!("{news:?}")) => match never {},
        () = async {
            while StateFile::peek(place.path()).unwrap() != Some(present.clone()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_up_neither_the_start_nor_the_exit() {
    let place = tempfile::tempdir().unwrap();
    stored(place.path()).write(&remembered()).unwrap();
    let file = StateFile::open(Some(place.path()));
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let inner = file.0.clone().unwrap();
    let hanging = inner.thread.submit(move |_| waits.recv().is_err());
    assert_eq!(file.load().await, None, "it goes on without");
    file.flush(PersistedState::default()).await;
    drop(go_on);
    hanging.await.unwrap();
    // What was waiting is done now, and has overwritten nothing that was not read.
    inner.thread.submit(|_| ()).await.unwrap();
    assert_eq!(load(place.path()), Some(remembered()));
}
