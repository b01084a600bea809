//! The plugin is replaced by another version of itself under running pods, and put back again.
//!
//! The files in `state_files/` are state files of other versions: of the first one, of one that
//! has added to it, and of one with a format of its own.

use std::fs;
use std::path::PathBuf;

use simnode::kubelet::KubeletVersion;
use simnode::node::{Node, Plugin, PluginOptions};

use crate::health::{QUICK, configured, old_driver};
use crate::rig::{GPU, PATIENCE, Rig, node};
use crate::swap::{Held, held, still_valid};

const OLDER: &str = include_str!("state_files/older.json");
const NEWER: &str = include_str!("state_files/newer.json");
const NEWER_FORMAT: &str = include_str!("state_files/newer-format.json");

/// The GPU of which the files say that it had an Xid 48.
const FAULTY: usize = 4;
const TERMINATE: i32 = 15;
const KILL: i32 = 9;

fn state_file(node: &Node) -> PathBuf {
    node.state_directory().join("health.json")
}

/// A state file as another version has left it on this node, on this boot.
fn left_by(node: &Node, version: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let uuid = format!("\"{}\"", node.uuid(FAULTY));
    version.replace("BOOT", boot.trim()).replace("\"GPU\"", &uuid)
}

/// A node whose driver cannot tell of a repair, so that what is kept stands, with two pods.
async fn with_pods(options: impl Fn(&Node) -> PluginOptions) -> (Rig, Vec<Held>) {
    let node = node(old_driver());
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = options(&node);
    let rig = Rig::on(node, config, &options, 8).await;
    rig.kubelet.allocate("train", "main", GPU, 2).await.unwrap();
    rig.kubelet.allocate("serve", "main", GPU, 1).await.unwrap();
    let held = held(&rig.kubelet);
    (rig, held)
}

/// Ends the plugin, and starts another version when the kubelet has seen it go.
async fn replaced(mut rig: Rig, signal: i32, next: &PluginOptions, left: Option<&str>) -> Rig {
    rig.plugin.signal(signal).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    rig.until("the kubelet sees it go", |view| view.allocatable(GPU) == 0).await;
    if let Some(text) = left {
        fs::write(state_file(&rig.node), text).unwrap();
    }
    rig.plugin = Plugin::start(&rig.node, next).unwrap();
    rig
}

/// The GPU with the fault is out, the others are offered, and pods have what they had.
async fn goes_on(rig: &Rig, held: &[Held]) {
    let uuid = rig.node.uuid(FAULTY);
    rig.until("seven, and the fault is not forgotten", |view| {
        view.allocatable(GPU) == 7 && view.healthy(GPU, &uuid) == Some(false)
    })
    .await;
    still_valid(rig, held).await;
    rig.kubelet.allocate("new", "main", GPU, 1).await.unwrap();
    rig.kubelet.release("new");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_file_of_an_older_version_counts_and_so_does_that_of_a_newer_one() {
    let quick = |node: &Node| configured(node, QUICK);
    let (rig, held) = with_pods(quick).await;
    let options = quick(&rig.node);
    // An upgrade from the first version.
    let older = left_by(&rig.node, OLDER);
    let rig = replaced(rig, TERMINATE, &options, Some(&older)).await;
    goes_on(&rig, &held).await;
    rig.state_file_has("\"knownGpus\"").await;
    // Back from one that has added to the file, which that one will find again.
    let newer = left_by(&rig.node, NEWER);
    let rig = replaced(rig, TERMINATE, &options, Some(&newer)).await;
    goes_on(&rig, &held).await;
    rig.logged("overheated").await;
    rig.state_file_has("\"pciBusId\"").await;
    for added in ["\"resets\"", "\"overheated\"", "\"celsius\": 104"] {
        rig.state_file_has(added).await;
    }
    // Back from one with another format.
    let format = left_by(&rig.node, NEWER_FORMAT);
    let rig = replaced(rig, TERMINATE, &options, Some(&format)).await;
    goes_on(&rig, &held).await;
    rig.logged("a newer version of the plugin has written the state file").await;
    rig.state_file_has("\"version\": 1").await;
    let kept = state_file(&rig.node).with_extension("json.newer-1");
    assert_eq!(fs::read_to_string(kept).unwrap(), format);
    // What was taken over from it is this version's own now.
    let rig = replaced(rig, KILL, &options, None).await;
    goes_on(&rig, &held).await;
    rig.assert_flawless();
}

/// With `OTHER_PLUGIN=PATH` another build takes part, such as that of the last release.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_a_rollback_leave_running_pods_and_known_faults_as_they_are() {
    let quick = |node: &Node| configured(node, QUICK);
    let (rig, held) = with_pods(quick).await;
    let this = quick(&rig.node);
    let other = std::env::var_os("OTHER_PLUGIN")
        .map_or(this.clone(), |binary| PluginOptions { binary: binary.into(), ..this.clone() });
    rig.node.xid(FAULTY, 48).unwrap();
    rig.until_healthy(FAULTY, false).await;
    rig.state_file_has("\"xid\"").await;
    let mut rig = rig;
    for (signal, next) in [(TERMINATE, &other), (TERMINATE, &this), (KILL, &other), (KILL, &this)] {
        rig = replaced(rig, signal, next, None).await;
        goes_on(&rig, &held).await;
        rig.state_file_has("\"xid\"").await;
    }
    rig.assert_flawless();
}
