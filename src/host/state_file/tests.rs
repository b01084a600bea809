//! Tests of the state file.

use std::collections::BTreeMap;

use device::health::{Epoch, PersistedCause};

use super::*;

fn remembered() -> PersistedHealth {
    let cause =
        PersistedCause { kind: "xid".to_owned(), number: Some(79), ..PersistedCause::default() };
    let slice = PersistedCause { gpu_instance: Some(3), repaired: true, ..cause.clone() };
    let configured = PersistedCause { configured: true, ..cause.clone() };
    PersistedHealth {
        epoch: Epoch { boot: "a".to_owned(), driver: Some("8:1".to_owned()) },
        gpus: BTreeMap::from([("GPU-1".parse().unwrap(), vec![cause, slice, configured])]),
    }
}

#[test]
fn what_is_written_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let memory = StateFile::open(Some(&place.path().join("created/here")));
    assert_eq!(memory.load(), None);
    for remembered in [remembered(), PersistedHealth::default(), remembered()] {
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
    present.epoch.driver = Some("9".to_owned());
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
