//! What the contract permits a kubelet, and a kind one does not do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use simnode::kubelet::{AdmissionError, Containers, KubeletVersion, ViolationKind};
use simnode::proto::{AllocateResponse, CdiDevice, ContainerAllocateResponse};

use crate::support::{
    Behaviour, GPU, Home, SOON, TestPlugin, devices, kubelet, kubelet_with, on_nodes, visible_in,
    with_health,
};

fn kinds(home: &Home) -> Vec<ViolationKind> {
    home.kubelet.violations().into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test]
async fn a_stream_follows_its_registration_when_it_is_told_to() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let delay = Duration::from_millis(300);
    home.kubelet.delay_streams(delay);
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
    let registered = Instant::now();
    assert_eq!(plugin.streams_opened(), 0);
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    assert!(registered.elapsed() > delay / 2);
}

#[tokio::test]
async fn what_comes_between_the_clean_up_and_the_listening_stays() {
    let home = kubelet(KubeletVersion::V1_32).await;
    home.kubelet.clean_up().expect_err("it is running");
    home.kubelet.stop().await;
    home.kubelet.clean_up().expect("cleaned");
    assert!(!home.kubelet.socket().exists());
    let plugin = TestPlugin::serve(&home.kubelet, "early.sock", Behaviour::default());
    home.kubelet.listen().await.expect("it listens");
    assert!(plugin.socket.exists());
    plugin.register().await.expect("registered");
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
}

#[tokio::test]
async fn pods_without_containers_have_to_find_their_devices_healthy() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    let one = home.kubelet.allocate("one", "main", GPU, 1).await.expect("allocated");
    home.kubelet.allocate("other", "main", GPU, 1).await.expect("allocated");
    home.kubelet.restart().await.expect("restarted");
    plugin.stop().await;
    let broken = visible_in(&one).remove(0);
    let list = ["a", "b", "c", "d"]
        .map(|id| with_health(id, if id == broken { "Unhealthy" } else { "Healthy" }));
    let _plugin =
        TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default().list(list.into())).await;
    home.kubelet.wait_allocatable(GPU, 3, SOON).await.expect("listed");
    assert_eq!(home.kubelet.readmit_pods(Containers::Running), []);
    let failed = home.kubelet.readmit_pods(Containers::Gone);
    let why = AdmissionError::PreviouslyAllocatedUnhealthy(GPU.to_owned());
    assert_eq!(failed, [("one".to_owned(), why)]);
    // It has failed for good: its device is free for others.
    home.kubelet.allocate("next", "main", GPU, 1).await.expect("allocated");
    assert!(home.kubelet.pod_devices().iter().all(|held| held.pod != "one"));
}

#[tokio::test]
async fn pods_that_come_before_the_plugin_fail() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let _plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default()).await;
    home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
    home.kubelet.allocate("one", "main", GPU, 1).await.expect("allocated");
    home.kubelet.restart().await.expect("restarted");
    let failed = home.kubelet.readmit_pods(Containers::Gone);
    assert_eq!(failed[0].1, AdmissionError::NoHealthyDevices(GPU.to_owned()));
}

#[tokio::test]
async fn a_device_with_topology_that_a_pod_holds_and_the_next_list_lacks_is_a_panic() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let two = vec![on_nodes("a", &[0]), on_nodes("b", &[0])];
    let plugin =
        TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default().list(two.clone())).await;
    home.kubelet.wait_allocatable(GPU, 2, SOON).await.expect("listed");
    let answer = home.kubelet.allocate("one", "main", GPU, 1).await.expect("allocated");
    home.kubelet.restart().await.expect("restarted");
    plugin.stop().await;
    let lost = visible_in(&answer).remove(0);
    let left = two.into_iter().filter(|device| device.id != lost).collect();
    let _plugin = TestPlugin::start(&home.kubelet, "b.sock", Behaviour::default().list(left)).await;
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("listed");
    assert!(kinds(&home).contains(&ViolationKind::KubeletPanic));
}

#[tokio::test]
async fn a_kubelet_before_1_29_gives_no_cdi_names_to_the_runtime() {
    for (version, names) in [(KubeletVersion::V1_26, 0), (KubeletVersion::V1_32, 1)] {
        let home = kubelet(version).await;
        let cdi_devices = vec![CdiDevice { name: "nvidia.com/gpu=0".to_owned() }];
        let answer = ContainerAllocateResponse { cdi_devices, ..Default::default() };
        let allocate =
            Arc::new(move |_| Ok(AllocateResponse { container_responses: vec![answer.clone()] }));
        let behaviour = Behaviour { allocate, ..Behaviour::default() };
        let _plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
        home.kubelet.wait_allocatable(GPU, 4, SOON).await.expect("listed");
        let answer = home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
        assert_eq!(answer.cdi_devices.len(), names);
    }
}

/// A guarded kubelet that has received a list with an id twice.
async fn with_a_violation() -> Home {
    let home = kubelet_with(|config| config.guarded()).await;
    let twice = Behaviour::default().list(devices(&["a", "a"]));
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", twice).await;
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("listed");
    plugin.stop().await;
    home
}

#[tokio::test]
#[should_panic(expected = "against the contract")]
async fn a_violation_fails_the_test_of_a_guarded_kubelet() {
    drop(with_a_violation().await);
}

#[tokio::test]
async fn a_violation_that_is_forgiven_fails_no_test() {
    let home = with_a_violation().await;
    home.kubelet.forgive(ViolationKind::DuplicateId);
}
