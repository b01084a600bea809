use std::fs;

use super::*;

fn read(text: &str) -> Result<Container, HookError> {
    Container::read(StateSource::Input, &mut text.as_bytes())
}

#[test]
fn the_root_is_that_of_the_bundle() {
    let bundle = tempfile::tempdir().unwrap();
    let state =
        format!(r#"{{"ociVersion":"1.2.0","id":"a","pid":7,"bundle":{:?}}}"#, bundle.path());
    let container = read(&state).unwrap();
    assert_eq!(container.pid().unwrap(), 7);
    for (config, expected) in [
        (r#"{"root":{"path":"rootfs","readonly":true}}"#, Some(bundle.path().join("rootfs"))),
        (r#"{"root":{"path":"/a/b"},"process":{"env":["A=b"]}}"#, Some("/a/b".into())),
        (r#"{"root":{"path":""}}"#, None),
        (r#"{"process":{}}"#, None),
        ("{", None),
    ] {
        fs::write(bundle.path().join("config.json"), config).unwrap();
        assert_eq!(container.root().ok(), expected, "{config}");
    }
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    assert!(container.root().is_err());
}

#[test]
fn a_state_that_is_none_is_refused() {
    for text in ["", "{}", "[]", r#"{"bundle":1}"#, "{\"bundle\":\"/a\"", r#"{"pid":1}"#] {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(read(r#"{"bundle":"a"}"#).unwrap().root().is_err(), "a relative bundle");
    assert!(read(r#"{"bundle":"/a","pid":0}"#).unwrap().pid().is_err());
    let endless = Container::read(StateSource::Input, &mut io::repeat(b' '));
    assert!(endless.unwrap_err().to_string().contains("more than"));
}
