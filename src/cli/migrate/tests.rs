//! What NVIDIA's documented values and manifests become: each input lies in `tests/`, with what is
//! printed for it beside it.

use std::path::Path;

use expect_test::expect_file;

use super::{documents, migrated, read_all};
use crate::config;

fn printed(text: &str) -> Result<String, String> {
    migrated(&documents("the input", text)?)
}

#[test]
fn documented_values_and_manifests_become_values_of_our_chart() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/migrate/tests");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&directory).expect("the inputs") {
        let path = entry.expect("an input").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("an input");
            let printed = printed(&text).unwrap_or_else(|error| format!("refused: {error}\n"));
            expect_file![path.with_extension("txt")].assert_eq(&printed);
            inputs += 1;
        }
    }
    assert!(inputs >= 9, "only {inputs} inputs");
}

#[test]
fn what_is_printed_is_taken_for_values_again() {
    let text = include_str!("tests/rendered-chart.yaml");
    let once = printed(text).expect("values");
    let again = printed(&once).expect("values of values");
    let values = |text: &str| config::yaml(text).expect("YAML");
    let (once, again) = (values(&once), values(&again));
    assert_eq!(once["config"], again["config"]);
    assert_eq!(once["affinity"], again["affinity"]);
}

#[test]
fn what_is_neither_values_nor_the_plugins_manifest_is_refused() {
    let both = "a: 1\n---\nkind: DaemonSet\n";
    let two = "kind: DaemonSet\nspec: {template: {spec: {containers: [{command: \
               [nvidia-device-plugin]}]}}}\n";
    for (text, says) in [
        ("", "there is nothing to read"),
        ("# nothing\n---\n", "there is nothing to read"),
        ("- a\n", "not a mapping"),
        ("{}", "no values"),
        (both, "either the values or the manifests"),
        ("kind: ConfigMap\n", "no DaemonSet"),
        (&format!("{two}---\n{two}"), "one by one"),
        ("a: [", "line 1"),
    ] {
        let error = printed(text).expect_err(text);
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn an_input_that_cannot_be_read_is_named_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("values.yaml");
    let error = read_all(std::slice::from_ref(&file)).expect_err("there is no file");
    assert!(error.contains("values.yaml"), "{error}");
    std::fs::write(&file, "a: 1\n---\nb: [\n").expect("a file");
    let error = read_all(std::slice::from_ref(&file)).expect_err("it is not YAML");
    assert!(error.contains("begins on line 2"), "{error}");
    std::fs::write(&file, "a: 1\n".repeat(1 << 19)).expect("a file");
    let error = read_all(&[file]).expect_err("it is too large");
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn odd_objects_end_in_no_panic() {
    for text in [
        "kind: DaemonSet\nspec: []\n",
        "kind: DaemonSet\nspec: {template: {spec: {containers: [nvidia-device-plugin, 1, {command: \
         nvidia-device-plugin}]}}}\n",
        "kind: DaemonSet\nspec: {template: {spec: {volumes: 1, containers: [{args: [1, -], \
         command: [nvidia-device-plugin], env: [1, {name: A}, {name: []}], volumeMounts: [{}, \
         {name: 1, mountPath: 2}]}]}}}\n",
        "kind: List\nitems: [1, {kind: DaemonSet}]\n",
        "config: 1\nimage: []\ndevicePlugin: {containers: {main: {env: [1]}}}\nmps: 1\ngfd: 1\n\
         securityContext: {privileged: 1}\n",
    ] {
        let _ = printed(text);
    }
}
