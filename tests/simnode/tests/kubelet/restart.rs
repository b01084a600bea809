//! The kubelet's death, and what its next life knows.

use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{fs, io};

use simnode::kubelet::{
    AdmissionError, CHECKPOINT, KubeletVersion, Method, Outcome, ViolationKind,
};
use simnode::proto::{ContainerAllocateResponse, Empty};
use tokio::sync::watch;

use crate::support::{
    Behaviour, GPU, Home, SOON, TestPlugin, devices, kubelet, limited, visible_in,
};

/// A pod holds two of four devices.
async fn in_use(home: Home) -> (Home, TestPlugin, ContainerAllocateResponse) {
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    let answer = home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    (home, plugin, answer)
}

#[tokio::test]
async fn a_dead_kubelet_leaves_its_socket_and_cuts_every_connection() {
    let (home, plugin, _) = in_use(kubelet(KubeletVersion::V1_36).await).await;
    home.kubelet.stop().await;
    plugin.streams_closed().await;
    assert!(!home.kubelet.view().running);
    let refused = UnixStream::connect(home.kubelet.socket()).expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(
        home.kubelet.allocate("pod", "main", GPU, 2).await,
        Err(AdmissionError::KubeletStopped)
    );
    home.kubelet.stop().await;
}

#[tokio::test]
async fn an_admission_ends_with_the_kubelet() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let (_gate, options_gate) = watch::channel(false);
    let plugin = TestPlugin::serve(
        &home.kubelet,
        "a.sock",
        Behaviour { options_gate, ..Behaviour::default() },
    );
    let died = async {
        home.kubelet
            .wait_until("Register was received", SOON, |view| !view.registrations.is_empty())
            .await
            .expect("so");
        home.kubelet.stop().await;
    };
    let (registered, ()) = tokio::join!(plugin.register(), died);
    let cut = registered.expect_err("cut");
    assert!(
        !cut.message().contains("device plugin"),
        "a kubelet that has ended sends no error: {cut}"
    );
    // The dial-back and the call end together: a kubelet that has ended sees neither, and refuses
    // nothing.
    assert_eq!(home.kubelet.view().registrations[0].outcome, Outcome::Abandoned);
}

#[tokio::test]
async fn the_next_life_knows_the_resource_and_waits_for_its_plugin() {
    let (home, _plugin, _) = in_use(
        limited(KubeletVersion::V1_36, |limits| limits.grace = Duration::from_secs(2)).await,
    )
    .await;
    home.kubelet.restart().await.expect("restarted");
    let view = home.kubelet.view();
    assert_eq!((view.life, view.allocatable(GPU)), (2, 0));
    assert!(view.resource(GPU).expect("from the checkpoint").known);
    let admitted = home.kubelet.allocate("other", "main", GPU, 1).await;
    assert_eq!(admitted, Err(AdmissionError::NoHealthyDevices(GPU.to_owned())));

    let dropped = |view: &simnode::View| view.resource(GPU).is_some_and(|resource| !resource.known);
    home.kubelet.wait_until("the grace time is over", SOON, dropped).await.expect("dropped");
    let admitted = home.kubelet.allocate("other", "main", GPU, 1).await;
    assert_eq!(admitted, Err(AdmissionError::Unregistered(GPU.to_owned())));
}

#[tokio::test]
async fn pods_keep_their_devices_and_their_answer() {
    let (home, plugin, answer) = in_use(kubelet(KubeletVersion::V1_36).await).await;
    home.kubelet.restart().await.expect("restarted");
    assert!(!plugin.socket.exists(), "the clean-up removes the plugin's socket");
    let _plugin = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");

    assert_eq!(home.kubelet.allocate("pod", "main", GPU, 2).await.as_ref(), Ok(&answer));
    let allocations =
        home.kubelet.calls().into_iter().filter(|call| call.method == Method::Allocate);
    assert_eq!(allocations.count(), 1, "the kept answer is used again");
    let other = home.kubelet.allocate("other", "main", GPU, 2).await.expect("two are left");
    assert!(visible_in(&other).iter().all(|id| !visible_in(&answer).contains(id)));
    assert_eq!(home.kubelet.violations(), []);
}

#[tokio::test]
async fn a_device_that_is_missing_after_a_restart_fails_its_pod() {
    let (home, plugin, answer) = in_use(kubelet(KubeletVersion::V1_36).await).await;
    home.kubelet.restart().await.expect("restarted");
    plugin.stop().await;
    let lost = visible_in(&answer).remove(0);
    let left: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(|id| *id != lost).collect();
    let _plugin =
        TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default().list(devices(&left))).await;
    home.kubelet.wait_allocatable(GPU, 3, SOON).await.expect("listed");
    let error = home.kubelet.allocate("pod", "main", GPU, 2).await.expect_err("refused");
    let text = format!(
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices \
            {GPU}"
    );
    assert_eq!(error.to_string(), text);
    let kinds: Vec<_> =
        home.kubelet.violations().into_iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::VanishedInUse]);
}

#[tokio::test]
async fn a_corrupt_checkpoint_is_as_good_as_none() {
    let (home, _plugin, _) = in_use(kubelet(KubeletVersion::V1_36).await).await;
    home.kubelet.stop().await;
    fs::write(home.kubelet.directory().join(CHECKPOINT), "{").expect("written");
    home.kubelet.start_again().await.expect("started");
    assert!(home.kubelet.view().resources.is_empty() && home.kubelet.pod_devices().is_empty());
}

#[tokio::test]
async fn nobody_is_dialled_after_a_restart() {
    let (home, plugin, _) = in_use(
        limited(KubeletVersion::V1_36, |limits| limits.grace = Duration::from_secs(2)).await,
    )
    .await;
    home.kubelet.restart().await.expect("restarted");
    let dropped = |view: &simnode::View| view.resource(GPU).is_some_and(|resource| !resource.known);
    home.kubelet.wait_until("the grace time is over", SOON, dropped).await.expect("dropped");
    assert_eq!(plugin.streams_opened(), 1);
}

#[tokio::test]
async fn only_kubelet_1_32_removes_other_files() {
    for (version, stays) in [(KubeletVersion::V1_32, false), (KubeletVersion::V1_36, true)] {
        let home = kubelet(version).await;
        let lock = home.kubelet.directory().join("plugin.lock");
        fs::write(&lock, "").expect("written");
        home.kubelet.restart().await.expect("restarted");
        assert_eq!(lock.exists(), stays);
        let _plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
        let mut client = home.kubelet.client(GPU).await.expect("dialled");
        client.get_device_plugin_options(Empty {}).await.expect("answered");
    }
}
