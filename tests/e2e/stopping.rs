//! The end: asked for, asked for twice, and with a driver that hangs.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use fake_nvml::state::Rule;
use simnode::eventually;
use simnode::kubelet::KubeletVersion;
use simnode::node::Plugin;

use crate::journal::Journal;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin};

/// What the manifest gives a pod to end in.
const TERMINATION: Duration = Duration::from_secs(10);

/// How often a stop is tried again that was over before the second signal came.
pub(crate) const ATTEMPTS: usize = 10;

/// Asks the plugin to stop until it has, and says whether that aborted it: on a busy machine its
/// stop may be over first.
pub(crate) async fn is_aborted(rig: &mut Rig) -> bool {
    const ABORTED: i32 = 6;
    // A kubelet that does not close its connection keeps the first stop busy for its grace.
    let _frozen = rig.kubelet.freeze().unwrap();
    // The first ones can still pass for echoes of the first.
    let status = loop {
        let _ = rig.plugin.terminate();
        if let Ok(status) = rig.plugin.wait_exit(Duration::from_millis(50)).await {
            break status;
        }
    };
    match (status.signal(), status.code()) {
        (Some(ABORTED), _) => true,
        (None, Some(0)) => false,
        other => panic!("{other:?}: {:?}", rig.plugin.log()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stop_signal_ends_the_streams_removes_the_socket_and_exits_0() {
    for signal in [15, 2, 3] {
        let mut rig = Rig::of(KubeletVersion::V1_36).await;
        rig.plugin.signal(signal).unwrap();
        let status = rig.plugin.wait_exit(TERMINATION).await.unwrap();
        assert_eq!(status.code(), Some(0), "{:?}", rig.plugin.log());
        assert!(rig.node.plugin_sockets().is_empty());
        rig.until("the stream has ended", |view| !view.resource(GPU).unwrap().stream_open).await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_driver_holds_up_no_stop() {
    // At work already, and before the first answer.
    let function = "nvmlDeviceGetFieldValues";
    let node = eight_h100s();
    let journal = Journal::of(&node);
    let options = journal.kept_by(plugin().arg("--health-poll-interval").arg("1s"));
    let config = node.kubelet();
    let mut rig = Rig::on(node, config, &options, 8).await;
    rig.node.edit(|state| state.rules = vec![Rule::hang(function)]).unwrap();
    let before = journal.count(function);
    called(&journal, function, before + 1).await;
    rig.plugin.terminate().unwrap();
    assert_eq!(rig.plugin.wait_exit(TERMINATION).await.unwrap().code(), Some(0));

    for function in ["nvmlInit_v2", "nvmlDeviceGetUUID"] {
        let node = eight_h100s();
        let journal = Journal::of(&node);
        node.edit(|state| state.rules = vec![Rule::hang(function)]).unwrap();
        let mut plugin = Plugin::start(&node, &journal.kept_by(plugin())).unwrap();
        called(&journal, function, 1).await;
        plugin.terminate().unwrap();
        assert_eq!(plugin.wait_exit(TERMINATION).await.unwrap().code(), Some(0), "{function}");
    }
}

/// Waits until a function has been called so many times; a call that hangs counts.
async fn called(journal: &Journal, function: &str, times: usize) {
    let enough = || (journal.count(function) >= times).then_some(());
    eventually(function, PATIENCE, async || enough()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_holds_up_no_stop_and_no_restart() {
    let mut rig = Rig::of(KubeletVersion::V1_36).await;
    let socket = rig.node.plugin_sockets().remove(0);
    let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::fs::remove_file(&socket).unwrap();
    rig.until("registered again", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    let _silent = std::os::unix::net::UnixStream::connect(&rig.node.plugin_sockets()[0]).unwrap();
    rig.plugin.terminate().unwrap();
    assert_eq!(rig.plugin.wait_exit(TERMINATION).await.unwrap().code(), Some(0));
    assert!(rig.node.plugin_sockets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_restart_leaves_no_socket() {
    let mut rig = Rig::of(KubeletVersion::V1_36).await;
    let _silent = std::os::unix::net::UnixStream::connect(&rig.node.plugin_sockets()[0]).unwrap();
    let frozen = rig.kubelet.freeze().unwrap();
    // Another kubelet, which never accepts: the server is restarted.
    let socket = rig.node.kubelet_socket();
    let beside = socket.with_extension("other");
    let other = std::os::unix::net::UnixListener::bind(&beside).unwrap();
    std::fs::rename(&beside, &socket).unwrap();
    rig.logged("restarting the server").await;
    rig.plugin.terminate().unwrap();
    assert_eq!(rig.plugin.wait_exit(TERMINATION).await.unwrap().code(), Some(0));
    assert!(rig.node.plugin_sockets().is_empty(), "{:?}", rig.node.plugin_sockets());
    drop((frozen, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_driver_hangs_allocations_and_lists_go_on() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.node
        .edit(|state| {
            state.rules = ["nvmlDeviceGetCount_v2", "nvmlEventSetWait_v2"].map(Rule::hang).into()
        })
        .unwrap();
    let started = Instant::now();
    rig.kubelet.allocate("pod", "main", GPU, 4).await.unwrap();
    rig.kubelet.restart().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 8).await;
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts() {
    for _ in 0..ATTEMPTS {
        let mut rig = Rig::of(KubeletVersion::V1_36).await;
        if is_aborted(&mut rig).await {
            return;
        }
    }
    panic!("each stop was over before the second signal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_twice_at_once_is_one() {
    let mut rig = Rig::of(KubeletVersion::V1_36).await;
    // Different ones, which the operating system does not merge.
    for signal in [15, 2, 3] {
        rig.plugin.signal(signal).unwrap();
    }
    let status = rig.plugin.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{:?}", rig.plugin.log());
    assert!(rig.node.plugin_sockets().is_empty());
}
