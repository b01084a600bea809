//! MPS while the configuration changes, and over restarts of the plugin.

use simnode::eventually;
use simnode::kubelet::ViolationKind;

use crate::dropin::config;
use crate::mps::logged;
use crate::mps_node::{MpsNode, shared, two_resources};
use crate::rig::{GPU, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_resources_a_reload_touches_the_one_that_it_concerns() {
    let mps = MpsNode::of_two_resources().await;
    let supervisor = mps.supervise();
    mps.allocatable("nvidia.com/one", 2, &supervisor).await;
    mps.allocatable("nvidia.com/two", 3, &supervisor).await;
    let (one, daemon) = (mps.changes("nvidia.com/one"), mps.daemon("nvidia.com/one"));
    config(&mps.rig.node, &two_resources(2, 4));
    mps.allocatable("nvidia.com/two", 4, &supervisor).await;
    let limited = async || {
        let last = mps.changes("nvidia.com/two").pop();
        (last.as_deref() == Some("set_default_active_thread_percentage 25")).then_some(())
    };
    eventually("the other one has new limits", PATIENCE, limited).await.unwrap();
    assert_eq!((mps.changes("nvidia.com/one"), mps.daemon("nvidia.com/one")), (one, daemon));
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_and_an_oversubscription_are_limits_of_the_daemon() {
    let (mps, _supervisor) = MpsNode::served(4).await;
    let flags = "flags: {mpsMemoryReserve: 8000, mpsThreadPercentage: 200}\n";
    config(&mps.rig.node, &(shared(4, "") + flags));
    let memory = (mps.rig.node.state().gpus[0].memory_mib - 8000) / 4;
    let expected = [
        format!("set_default_device_pinned_mem_limit 0 {memory}M"),
        format!("set_default_device_pinned_mem_limit 1 {memory}M"),
        "set_default_active_thread_percentage 50".to_owned(),
    ];
    let limited = async || mps.changes(GPU).ends_with(&expected).then_some(());
    eventually("the daemon has these limits", PATIENCE, limited).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sharing_that_begins_with_a_reload_and_ends_over_a_restart_is_heard_of() {
    let mut mps = MpsNode::new("version: v1\n").await;
    let supervisor = mps.supervise();
    mps.allocatable(GPU, 2, &supervisor).await;
    config(&mps.rig.node, &shared(2, ""));
    mps.allocatable(GPU, 4, &supervisor).await;
    assert!(mps.daemon(GPU).is_some());
    // The ids of replicas are no more after it.
    mps.rig.kubelet.forgive(ViolationKind::Vanished);
    // The plugin that comes shares nothing by MPS, and the supervisor of before runs.
    mps.restart_plugin(Some("version: v1\n")).await;
    logged(&supervisor, "no longer shared by MPS").await;
    assert_eq!((mps.daemon(GPU), mps.mode(0)), (None, "Default".to_owned()));
    mps.allocatable(GPU, 2, &supervisor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_end_no_client_and_the_end_of_sharing_waits_for_the_last_one() {
    let (mps, supervisor) = MpsNode::served(2).await;
    let daemon = mps.daemon(GPU);
    let client = mps.client(4711, 0, &[]);
    assert_eq!(client.granted().unwrap().unwrap().threads, 50.0);
    config(&mps.rig.node, &shared(4, ""));
    mps.allocatable(GPU, 8, &supervisor).await;
    let later = mps.client(4712, 0, &[]);
    let servers = async || {
        let trace = mps.trace();
        trace
            .iter()
            .any(|line| line.starts_with("command set_active_thread_percentage"))
            .then_some(())
    };
    eventually("what runs has the new limits", PATIENCE, servers).await.unwrap();
    assert_eq!(mps.daemon(GPU), daemon);
    drop(later);
    config(&mps.rig.node, "version: v1\n");
    mps.rig.until("GPUs are whole again", |view| view.allocatable(GPU) == 2).await;
    logged(&supervisor, "waits until no client runs").await;
    assert_eq!(mps.daemon(GPU), daemon);
    // Others can use a GPU at once.
    let restored = async || (mps.mode(0) == "Default" && mps.mode(1) == "Default").then_some(());
    eventually("the compute modes are restored", PATIENCE, restored).await.unwrap();
    drop(client);
    logged(&supervisor, "no longer shared by MPS").await;
    assert_eq!(mps.daemon(GPU), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_outlives_a_restart_of_the_plugin_also_without_clients() {
    let (mut mps, supervisor) = MpsNode::served(2).await;
    let daemon = mps.daemon(GPU);
    mps.restart_plugin(None).await;
    mps.rig.logged("the MPS control daemon answers").await;
    mps.allocatable(GPU, 4, &supervisor).await;
    // It follows the new plugin.
    config(&mps.rig.node, &shared(4, ""));
    mps.allocatable(GPU, 8, &supervisor).await;
    let limit = "command set_default_active_thread_percentage 25";
    let limited = async || mps.trace().iter().any(|line| line == limit).then_some(());
    eventually("it has the new limits", PATIENCE, limited).await.unwrap();
    assert_eq!(mps.daemon(GPU), daemon);
}
