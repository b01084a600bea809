//! What another process sees of the GPUs decides whether NVML is initialised again.

use fake_nvml::state::Rule;

use crate::health::quick;
use crate::look::run;
use crate::rig::{GPU, eight_h100s, plugin};

/// What the process asks of a GPU, last.
fn hang() -> Rule {
    Rule::hang("nvmlDeviceGetMemoryInfo")
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_that_hang_keep_no_other_from_being_listed_by_another_process() {
    let node = eight_h100s();
    let hanging = [0, 4];
    for index in hanging {
        node.edit_gpu(index, |gpu| gpu.rules = vec![hang()]).unwrap();
    }
    let (root, library) = (node.driver_root(), node.nvml_library());
    let arguments = ["list-gpus", root.to_str().unwrap(), library.to_str().unwrap()];
    let printed = run(&node, &plugin().bare(), &arguments).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    let mut listed: Vec<&str> = printed.text.lines().collect();
    listed.sort_unstable();
    let others = (0..8).filter(|index| !hanging.contains(index));
    let mut others: Vec<String> = others.map(|index| node.uuid(index)).collect();
    others.sort_unstable();
    assert_eq!(listed, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_back_behind_one_that_hangs_is_told_and_served_once_none_hangs() {
    let rig = quick().await;
    rig.node.edit_gpu(0, |gpu| gpu.rules = vec![hang()]).unwrap();
    rig.until_healthy(0, false).await;
    rig.node.lose(3).unwrap();
    rig.until_healthy(3, false).await;
    rig.node.restore(3).unwrap();
    let line = rig.logged("restart this pod to serve them").await;
    assert!(line.contains("WARN") && line.contains(&rig.node.uuid(3)), "{line}");
    assert_eq!(rig.kubelet.view().allocatable(GPU), 6);
    rig.node.restore(0).unwrap();
    rig.until("all are Healthy", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}
