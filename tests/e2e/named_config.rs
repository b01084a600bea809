//! The configuration is one of a directory, which another program names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use simnode::node::{HttpAddress, Node, Plugin, PluginOptions};

use crate::dropin::{SLICED, rig};
use crate::look::run;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin, replace};

/// Lays a ConfigMap out as the kubelet does.
fn config_map(node: &Node, generation: u32, configs: &[(&str, &str)]) {
    let directory = node.root().join("configs");
    let data = directory.join(format!("..{generation}"));
    fs::create_dir_all(&data).unwrap();
    for (name, text) in configs {
        fs::write(data.join(name), text).unwrap();
        if !directory.join(name).is_symlink() {
            symlink(format!("..data/{name}"), directory.join(name)).unwrap();
        }
    }
    symlink(format!("..{generation}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

/// Replaces the name as the agent does.
fn choose(node: &Node, name: &str) {
    replace(&node.root().join("chosen/name"), &format!("{name}\n"));
}

fn options(node: &Node) -> PluginOptions {
    fs::create_dir_all(node.root().join("chosen")).unwrap();
    plugin()
        .env("CONFIG_DIR", node.root().join("configs"))
        .env("CONFIG_NAME_FILE", node.root().join("chosen/name"))
}

async fn status(rig: &Rig) -> Value {
    rig.logged("serving the status socket").await;
    let socket = HttpAddress::Unix(rig.node.state_directory().join("status.sock"));
    serde_json::from_str(&socket.get("/status").await.unwrap().body).unwrap()
}

fn replicas(count: u32) -> String {
    SLICED.replace('4', &count.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_an_edit_and_another_name_are_applied_without_a_restart() {
    let node = eight_h100s();
    config_map(&node, 1, &[("whole", "version: v1"), ("shared", SLICED)]);
    let options = options(&node);
    let mut rig = rig(node, &options, GPU, 8).await;
    choose(&rig.node, "shared");
    rig.until("the named one", |view| view.allocatable(GPU) == 32).await;
    let file = rig.node.root().join("configs/shared");
    assert_eq!(status(&rig).await["configuration"]["file"], *file.to_str().unwrap());
    config_map(&rig.node, 2, &[("whole", "version: v1"), ("shared", &replicas(2))]);
    rig.until("its edit", |view| view.allocatable(GPU) == 16).await;
    choose(&rig.node, "whole");
    rig.until("another", |view| view.allocatable(GPU) == 8).await;
    choose(&rig.node, "shared");
    rig.until("and back", |view| view.allocatable(GPU) == 16).await;
    assert_eq!(rig.kubelet.view().accepted(GPU).count(), 1);
    rig.assert_flawless();
    let shown = run(&rig.node, &options, &["config", "show"]).await;
    let chosen = format!("# chosen by name: {}\n", file.display());
    assert!(shown.text.contains(&chosen) && shown.text.contains("replicas: 2"), "{}", shown.text);
    // The next process has it from its first list on, though nobody has chosen yet.
    rig.plugin.signal(15).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    fs::remove_file(rig.node.root().join("chosen/name")).unwrap();
    let lists = rig.kubelet.view().resource(GPU).unwrap().lists_received;
    rig.plugin = Plugin::start(&rig.node, &options).unwrap();
    rig.until("the kept one", |view| {
        view.allocatable(GPU) == 16 && view.resource(GPU).unwrap().lists_received > lists
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_that_is_refused_changes_nothing_and_is_in_the_status() {
    let node = eight_h100s();
    let directory = node.root().join("configs");
    config_map(&node, 1, &[("shared", SLICED), ("broken", "version: v9")]);
    fs::write(node.root().join("outside"), "version: v1").unwrap();
    symlink(node.root().join("outside"), directory.join("link")).unwrap();
    let options = options(&node);
    choose(&node, "shared");
    let rig = rig(node, &options, GPU, 32).await;
    for (name, why) in [
        ("absent", "there is none of that name in"),
        ("../outside", "is not the name of a configuration"),
        ("link", "there is none of that name in"),
        ("broken", "is not v1"),
    ] {
        choose(&rig.node, name);
        let refused = rig.eventually(name, async || {
            let status = status(&rig).await;
            let refused = status["configuration"]["lastReload"]["refused"].as_str()?.to_owned();
            refused.contains(why).then_some(refused)
        });
        let refused = refused.await;
        assert!(refused.starts_with("1 mistake: "), "{refused}");
    }
    assert_eq!(rig.kubelet.view().allocatable(GPU), 32);
    assert_eq!(rig.kubelet.view().resource(GPU).unwrap().lists_received, 1);
    choose(&rig.node, "shared");
    rig.logged("the configuration has not changed").await;
    let status = status(&rig).await;
    assert!(status["configuration"]["lastReload"]["refused"].is_null(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_file_that_is_something_else_holds_nothing_up() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let node = eight_h100s();
    config_map(&node, 1, &[("shared", SLICED)]);
    let options = options(&node);
    let name = node.root().join("chosen/name");
    let place = |put: &dyn Fn(&Path)| {
        let next = name.with_file_name(".next");
        put(&next);
        fs::rename(&next, &name).unwrap();
    };
    place(&|next| mknodat(CWD, next, FileType::Fifo, Mode::RUSR, 0).unwrap());
    let rig = rig(node, &options, GPU, 8).await;
    rig.logged("that was chosen by name is refused").await;
    place(&|next| symlink("/etc/hostname", next).unwrap());
    rig.logged("it is a symbolic link, not a regular file").await;
    place(&|next| fs::File::create(next).unwrap().set_len(1 << 40).unwrap());
    rig.logged("it has more than 254 bytes").await;
    place(&|next| fs::write(next, "shared").unwrap());
    rig.until("a name", |view| view.allocatable(GPU) == 32).await;
    rig.assert_flawless();
}
