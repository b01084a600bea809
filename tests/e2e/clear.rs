//! An operator says that a GPU is repaired: by the subcommand, over the control socket, and by a
//! file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use fake_nvml::profiles;
use simnode::node::{Node, Plugin, PluginOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::health::{QUICK, configured, quick};
use crate::look::{Printed, run};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, plugin};

/// The last driver branch without a recovery action, with a quick policy.
async fn r550() -> (Rig, PluginOptions) {
    let node = Node::of_branch(profiles::h100x8(), "R550").unwrap();
    let text = QUICK.replace("relapses", "releaseFor: 1s, relapses");
    let options = configured(&node, &text);
    let config = node.kubelet();
    (Rig::on(node, config, &options, 8).await, options)
}

impl Rig {
    async fn clear(&self, arguments: &[&str]) -> Printed {
        let arguments: Vec<&str> = ["clear"].into_iter().chain(arguments.iter().copied()).collect();
        run(&self.node, &plugin(), &arguments).await
    }

    fn control_socket(&self) -> PathBuf {
        self.node.state_directory().join("control.sock")
    }

    /// Another GPU fails and recovers, which takes more polls than a recovery does.
    async fn polls_go_by(&self) {
        let rule = fake_nvml::state::Rule::answer("nvmlDeviceGetMemoryInfo", 999);
        self.node.edit_gpu(5, |gpu| gpu.rules.push(rule)).unwrap();
        self.until_healthy(5, false).await;
        self.node.restore(5).unwrap();
        self.until_healthy(5, true).await;
    }

    fn is_healthy(&self, index: usize) -> bool {
        self.kubelet.view().healthy(GPU, &self.node.uuid(index)) == Some(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_old_driver_a_reset_that_its_energy_counter_shows_needs_no_operator() {
    const ENERGY: &str = "nvmlDeviceGetTotalEnergyConsumption";
    let (rig, _) = r550().await;
    rig.xid_until_heard(1, 95).await;
    rig.polls_go_by().await;
    // A release without a reset proves nothing.
    rig.plugin.signal(10).unwrap();
    rig.logged("taking up NVML again").await;
    rig.polls_go_by().await;
    assert!(!rig.is_healthy(1));
    let seen = rig.plugin.log().len();
    rig.plugin.signal(10).unwrap();
    rig.plugin.wait_for_log_after(seen, "NVML is released", PATIENCE).await.unwrap();
    let reset = fake_nvml::state::Rule::value(ENERGY, 5);
    rig.node.edit_gpu(1, |gpu| gpu.rules.push(reset)).unwrap();
    rig.until_healthy(1, true).await;
    rig.logged("the GPU was reset while NVML was released").await;
    rig.assert_flawless();
}

/// What docs/health.md says of drivers before 565, step by step.
#[tokio::test(flavor = "multi_thread")]
async fn on_an_old_driver_a_gpu_is_healthy_again_once_an_operator_has_reset_and_cleared_it() {
    let (rig, _) = r550().await;
    rig.xid_until_heard(4, 95).await;
    rig.polls_go_by().await;
    assert!(!rig.is_healthy(4), "nothing says that it is repaired");
    rig.plugin.signal(10).unwrap();
    rig.logged("NVML is released").await;
    rig.node.restore(4).unwrap();
    rig.logged("taking up NVML again").await;
    let uuid = rig.node.uuid(4);
    let printed = rig.clear(&[&uuid]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    assert!(
        printed.text.contains(&uuid) && printed.text.contains("Xid 95 (memory error"),
        "{}",
        printed.text
    );
    rig.until_healthy(4, true).await;
    let line = rig.logged("a person says that the GPU is repaired").await;
    assert!(line.contains(&uuid), "{line}");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_latched_before_a_restart_is_cleared_after_it() {
    let (rig, options) = r550().await;
    rig.xid_until_heard(4, 95).await;
    rig.state_file_has("\"xid\"").await;
    let rig = rig.restarted(&options, 15).await;
    rig.until("the next plugin", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 7
    })
    .await;
    rig.polls_go_by().await;
    assert!(!rig.is_healthy(4));
    let printed = rig.clear(&["4", "--cause", "xid"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    rig.until_healthy(4, true).await;
    // The list is sent before it is written. A restart afterwards does not take it back.
    rig.state_file_lacks("\"xid\"").await;
    let rig = rig.restarted(&options, 9).await;
    rig.until("another plugin", |view| {
        view.accepted(GPU).count() == 3 && view.allocatable(GPU) == 8
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_made_fatal_stands_until_it_is_cleared() {
    let node = eight_h100s();
    let text = QUICK.replace("relapses", "xids: {94: unhealthy}, relapses");
    let options = configured(&node, &text);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.xid_until_heard(2, 94).await;
    rig.polls_go_by().await;
    assert!(!rig.is_healthy(2));
    let address = rig.node.state().gpus[2].pci_bus_id.clone();
    let printed = rig.clear(&[&address]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    rig.until_healthy(2, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_has_left_the_machine_leaves_the_list_when_it_is_cleared() {
    let rig = quick().await;
    // Any pod at all: an answer without one counts for nothing.
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    let held: Vec<_> = rig.kubelet.pod_devices().into_iter().map(|held| held.id).collect();
    let index = (0..8).find(|index| !held.contains(&rig.node.uuid(*index))).unwrap();
    let uuid = rig.node.uuid(index);
    rig.node.unbind(index).unwrap();
    rig.until_healthy(index, false).await;
    rig.logged("kind=\"not_enumerated\"").await;
    let printed = rig.clear(&[&uuid]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    assert!(printed.text.contains("is forgotten"), "{}", printed.text);
    rig.until("it is not listed", |view| view.healthy(GPU, &uuid).is_none()).await;
    assert_eq!(rig.kubelet.view().capacity(GPU), 7);
    let printed = rig.clear(&[&uuid]).await;
    assert_eq!(printed.code, Some(1), "{}", printed.text);
    // It comes back as any new GPU does.
    rig.node.bind(index).unwrap();
    rig.until_healthy(index, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_what_there_is() {
    let rig = quick().await;
    for (arguments, says) in [
        (&["GPU-none"][..], rig.node.uuid(7)),
        (&["9"], rig.node.uuid(0)),
        (&["0"], "it is Healthy".to_owned()),
        (&["0", "--cause", "bad luck"], "xid, reset_required, recovery_action".to_owned()),
    ] {
        let printed = rig.clear(arguments).await;
        assert_eq!(printed.code, Some(1), "{}", printed.text);
        assert!(
            printed.text.contains("nothing was changed") && printed.text.contains(&says),
            "{}",
            printed.text
        );
    }
    let node = eight_h100s();
    let printed = run(&node, &plugin(), &["clear", "0"]).await;
    assert_eq!(printed.code, Some(2), "{}", printed.text);
    assert!(
        printed.text.contains("control.sock: there is no such socket")
            && printed.text.contains("kubectl -n kube-system exec POD"),
        "{}",
        printed.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_clears_once_and_is_removed() {
    let (rig, _) = r550().await;
    let directory = rig.node.quarantine_directory();
    for (name, text) in [(rig.node.uuid(3), ""), ("3".to_owned(), "xid\n")] {
        rig.xid_until_heard(3, 95).await;
        let file = directory.join(format!("clear-{name}"));
        fs::write(&file, text).unwrap();
        rig.until_healthy(3, true).await;
        rig.eventually("it is removed", async || (!file.exists()).then_some(())).await;
    }
    let file = directory.join("clear-9");
    fs::write(&file, "").unwrap();
    let line = rig.logged("a file that clears a GPU has no effect").await;
    assert!(line.contains(&rig.node.uuid(0)), "{line}");
    rig.eventually("it is removed", async || (!file.exists()).then_some(())).await;
    // It is no quarantine at any time.
    assert!(!rig.plugin.log().iter().any(|line| line.contains("quarantined from outside")));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_there_before_the_plugin_counts_too() {
    let (rig, options) = r550().await;
    rig.xid_until_heard(3, 95).await;
    rig.state_file_has("\"xid\"").await;
    let file = rig.node.quarantine_directory().join("clear-3");
    let rig = rig.restarted(&options, 15).await;
    fs::write(&file, "").unwrap();
    rig.until("the next plugin", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    rig.eventually("it is removed", async || (!file.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_its_user_alone_and_made_again_when_it_is_removed() {
    let rig = quick().await;
    let socket = rig.control_socket();
    let made = || fs::symlink_metadata(&socket).ok();
    let file = rig.eventually("the socket", async || made()).await;
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o600);
    fs::remove_file(&socket).unwrap();
    rig.eventually("the socket again", async || made()).await;
    assert_eq!(rig.clear(&["0"]).await.code, Some(1), "it answers");
    rig.plugin.signal(9).unwrap();
    // The next process replaces what a killed one left.
    let rig = rig.restarted(&plugin(), 9).await;
    rig.until("the next plugin", |view| view.accepted(GPU).count() == 2).await;
    rig.logged("serving the control socket").await;
    assert_eq!(rig.clear(&["0"]).await.code, Some(1));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_leaves_the_socket_of_the_first_alone() {
    let rig = quick().await;
    rig.logged("serving the control socket").await;
    let inode = || fs::symlink_metadata(rig.control_socket()).unwrap().ino();
    let before = inode();
    let node = eight_h100s();
    let second = kubelet(node.kubelet()).await;
    let options = plugin().arg("--state-dir").arg(rig.node.state_directory());
    let plugin = Plugin::start(&node, &options).unwrap();
    plugin.wait_for_log("another process serves the control socket", PATIENCE).await.unwrap();
    second.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    assert_eq!(inode(), before);
    assert_eq!(rig.clear(&["0"]).await.code, Some(1), "the first one answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_slow_peers_hold_up_nobody() {
    let (rig, _) = r550().await;
    rig.xid_until_heard(6, 95).await;
    let socket = rig.control_socket();
    for garbage in [&b"\0\xff\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[b'{'; 4096], &[b'x'; 65536]] {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        // Once it has refused it reads no more.
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.contains("\"answer\":\"refused\""), "{answer}");
    }
    let mut slow = Vec::new();
    for _ in 0..40 {
        // More than wait to be accepted are turned away at once.
        slow.extend(UnixStream::connect(&socket).await.ok());
    }
    // Pods are served, and health moves.
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    rig.polls_go_by().await;
    for mut stream in slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
    }
    assert_eq!(rig.clear(&["6"]).await.code, Some(0));
    rig.until_healthy(6, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_directory_there_is_no_socket_and_a_file_does_it() {
    let node = Node::of_branch(profiles::h100x8(), "R550").unwrap();
    let options = configured(&node, QUICK).arg("--state-dir=");
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.logged("there is no state directory, and so no control socket").await;
    rig.xid_until_heard(1, 95).await;
    fs::write(rig.node.quarantine_directory().join("clear-1"), "").unwrap();
    rig.until_healthy(1, true).await;
}
