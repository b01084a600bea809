//! The configuration that the node's label names.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::in_process::start;
use crate::rig::{NODE_PATH, Rig, h200, until};

const RIGHT: &[&str] = &["watch nodes"];
const LABEL: &str = "nvidia.com/device-plugin.config";

/// Labels the node, or takes the label away.
pub(crate) fn label(rig: &Rig, value: Option<&str>) {
    let labels = match value {
        Some(value) => json!({LABEL: value}),
        None => json!({}),
    };
    rig.api.apply_as("admin", NODE_PATH, &json!({"metadata": {"labels": labels}}));
}

/// A directory with configurations of these names, as the kubelet mounts a ConfigMap.
pub(crate) fn config_map(directory: &Path, names: &[&str]) {
    fs::create_dir_all(directory.join("..2026")).unwrap();
    if !directory.join("..data").exists() {
        std::os::unix::fs::symlink("..2026", directory.join("..data")).unwrap();
    }
    for name in names {
        fs::write(directory.join("..2026").join(name), "version: v1").unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), directory.join(name)).unwrap();
    }
}

fn flags(rig: &Rig, more: &[&str]) -> Vec<String> {
    let file = format!("--config-name-file={}", rig.path("config-name").display());
    let fixed = [file, "--sleep-interval=1s".to_owned()];
    fixed.into_iter().chain(more.iter().map(|&flag| flag.to_owned())).collect()
}

async fn until_name(rig: &Rig, name: &str) {
    let file = rig.path("config-name");
    until("the name", || match fs::read_to_string(&file) {
        Ok(text) if text == format!("{name}\n") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn the_name_follows_the_label_over_lost_and_expired_watches_and_restarts() {
    let rig = Rig::with(RIGHT, h200()).await;
    let running = start(&rig, &flags(&rig, &["--default-config", "usual"]));
    until_name(&rig, "usual").await;
    label(&rig, Some("a100-40gb"));
    until_name(&rig, "a100-40gb").await;
    rig.api.end_watches();
    label(&rig, Some("mixed"));
    until_name(&rig, "mixed").await;
    rig.api.expire_watches();
    label(&rig, Some("after"));
    until_name(&rig, "after").await;
    // What others change in the file is set right.
    fs::write(rig.path("config-name"), "other\n").unwrap();
    until_name(&rig, "after").await;
    drop(running);
    until_name(&rig, "after").await;
    label(&rig, None);
    let running = start(&rig, &flags(&rig, &["--default-config", "usual"]));
    until_name(&rig, "usual").await;
    drop(running);
    let other = |call: &fake_apiserver::Received| call.verb != "watch" || call.resource != "nodes";
    assert_eq!(rig.api.received().into_iter().find(other), None, "it needs no other right");
}

#[tokio::test(flavor = "local")]
async fn without_label_and_default_the_fallbacks_choose_among_the_names_there_are() {
    let rig = Rig::with(RIGHT, h200()).await;
    let directory = rig.path("configs");
    config_map(&directory, &["only"]);
    let source = directory.to_str().unwrap();
    let more = ["--config-file-srcdir", source, "--fallback-strategies", "named,single"];
    let _running = start(&rig, &flags(&rig, &more));
    until_name(&rig, "only").await;
    // The ConfigMap gets another key.
    config_map(&directory, &["default"]);
    until_name(&rig, "default").await;
    fs::remove_file(directory.join("default")).unwrap();
    config_map(&directory, &["other"]);
    // None of them is chosen: the plugin has its own.
    until_name(&rig, "").await;
    label(&rig, Some("other"));
    until_name(&rig, "other").await;
}

#[tokio::test]
async fn without_the_right_it_says_so_and_leaves_the_name_and_goes_on_once_it_has_it() {
    let rig = Rig::with(&[], h200()).await;
    fs::write(rig.path("config-name"), "before\n").unwrap();
    label(&rig, Some("new"));
    let agent = rig.agent(&flags(&rig, &[]));
    agent.logged("cannot watch resource \"nodes\"").await;
    agent.logged("the labels of this node are not read, will retry for good").await;
    assert_eq!(fs::read_to_string(rig.path("config-name")).unwrap(), "before\n");
    rig.api.grant(RIGHT);
    until_name(&rig, "new").await;
}

#[tokio::test]
async fn the_plugin_is_asked_to_release_nvml_while_a_label_says_so() {
    let rig = Rig::with(RIGHT, h200()).await;
    let file = rig.path("release");
    let text = || fs::read_to_string(&file).unwrap_or_default().trim().parse::<u64>();
    let deploy = |value: &str| {
        let labels = json!({"nvidia.com/gpu.deploy.device-plugin": value});
        rig.api.apply_as("mig-manager", NODE_PATH, &json!({"metadata": {"labels": labels}}));
    };
    let until_time = async |is: fn(u64) -> bool| {
        until("the time", || match text() {
            Ok(time) if is(time) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    deploy("true");
    let _agent = rig.agent(&["--release-file", file.to_str().unwrap()]);
    until_time(|time| time == 0).await;
    deploy("paused-for-mig-change");
    until_time(|time| time > 1_700_000_000).await;
    deploy("true");
    until_time(|time| time == 0).await;
}
