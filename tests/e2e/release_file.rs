//! NVML is released for as long as a file says.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use simnode::node::{HttpAddress, Node};

use crate::dropin::rig;
use crate::rig::{GPU, Rig, eight_h100s, plugin, replace};

/// Replaces the file as the agent does.
fn write(node: &Node, text: &str) {
    let directory = node.root().join("agent");
    fs::create_dir_all(&directory).unwrap();
    replace(&directory.join("release"), text);
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!("{}\n", now + seconds)
}

async fn until_nvml(rig: &Rig, expected: &str) {
    let socket = HttpAddress::Unix(rig.node.state_directory().join("status.sock"));
    rig.eventually(expected, async || {
        let answer = socket.get("/status").await.ok()?;
        let status: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        (status["nvml"]["state"] == *expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nvml_is_released_while_the_file_says_so_and_not_for_longer() {
    let node = eight_h100s();
    write(&node, "0\n");
    let options = plugin().env("RELEASE_FILE", node.root().join("agent/release"));
    let rig = rig(node, &options, GPU, 8).await;
    until_nvml(&rig, "up").await;
    write(&rig.node, &in_seconds(600));
    until_nvml(&rig, "letGo").await;
    // A GPU stays as it was: nothing is known of it, and nothing is wrong.
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    write(&rig.node, "0\n");
    until_nvml(&rig, "up").await;
    // A writer that is gone holds nothing up.
    write(&rig.node, &in_seconds(3));
    until_nvml(&rig, "letGo").await;
    until_nvml(&rig, "up").await;
    // What is no time asks for nothing, and what follows is taken.
    for text in ["soon", "-1", "1", ""] {
        write(&rig.node, text);
    }
    // One without end is good for as long as the longest.
    write(&rig.node, &u64::MAX.to_string());
    until_nvml(&rig, "letGo").await;
    write(&rig.node, "0\n");
    until_nvml(&rig, "up").await;
    fs::remove_file(rig.node.root().join("agent/release")).unwrap();
    write(&rig.node, &in_seconds(60));
    until_nvml(&rig, "letGo").await;
}
