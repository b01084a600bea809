//! What is wrong with a list although the real kubelet takes it.

use simnode::kubelet::{KubeletVersion, Violation, ViolationKind};
use simnode::proto::{Device, TopologyInfo};

use crate::support::{
    Behaviour, GPU, SOON, TestPlugin, device, devices, kubelet, kubelet_with, on_nodes, with_health,
};

/// The violations after these lists in a row.
async fn found(lists: Vec<Vec<Device>>) -> Vec<Violation> {
    let home = kubelet_with(|config| config.numa_nodes([0, 1])).await;
    let behaviour = Behaviour { list: None, ..Behaviour::default() };
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
    let open =
        |view: &simnode::View| view.resource(GPU).is_some_and(|resource| resource.stream_open);
    home.kubelet.wait_until("the stream is open", SOON, open).await.expect("open");
    let count = lists.len() as u64;
    for list in lists {
        plugin.send(list);
    }
    let all = |view: &simnode::View| {
        view.resource(GPU).is_some_and(|resource| resource.lists_received == count)
    };
    home.kubelet.wait_until("every list has come", SOON, all).await.expect("received");
    home.kubelet.violations()
}

async fn kinds(lists: Vec<Vec<Device>>) -> Vec<ViolationKind> {
    found(lists).await.into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test]
async fn good_lists_are_not_complained_of() {
    let replicas = devices(&["GPU-1::0", "GPU-1::1", "GPU-1::2", "GPU-1::10", "GPU-2::0"]);
    let longest = "x".repeat(63);
    let lists = vec![
        Vec::new(),
        vec![on_nodes("a", &[0]), on_nodes("b", &[0, 1]), with_health("c", "Unhealthy")],
        vec![on_nodes("a", &[0]), on_nodes("b", &[0, 1]), device("c")],
        vec![on_nodes("a", &[0]), on_nodes("b", &[0, 1]), device("c"), device(&longest)],
    ];
    assert_eq!(found(lists).await, []);
    assert_eq!(found(vec![replicas]).await, []);
}

#[tokio::test]
async fn ids_are_watched() {
    assert_eq!(kinds(vec![devices(&["a", "a"])]).await, [ViolationKind::DuplicateId]);
    assert_eq!(kinds(vec![devices(&[""])]).await, [ViolationKind::EmptyId]);
    assert_eq!(kinds(vec![devices(&[&"x".repeat(64)])]).await, [ViolationKind::LongId]);
    assert_eq!(kinds(vec![devices(&["b", "a"])]).await, [ViolationKind::UnsortedList]);
}

#[tokio::test]
async fn the_same_list_twice_in_a_row_is_watched() {
    assert_eq!(kinds(vec![devices(&["a"]), devices(&["a"])]).await, [ViolationKind::RepeatedList]);
    let between = vec![with_health("a", "Unhealthy")];
    assert_eq!(kinds(vec![devices(&["a"]), between, devices(&["a"])]).await, []);
}

#[tokio::test]
async fn health_and_topology_are_watched() {
    assert_eq!(kinds(vec![vec![with_health("a", "")]]).await, [ViolationKind::OddHealth]);
    assert_eq!(kinds(vec![vec![with_health("a", "healthy")]]).await, [ViolationKind::OddHealth]);
    assert_eq!(kinds(vec![vec![on_nodes("a", &[-1])]]).await, [ViolationKind::NegativeNuma]);
    assert_eq!(kinds(vec![vec![on_nodes("a", &[2])]]).await, [ViolationKind::UnknownNuma]);
    let empty = Device { topology: Some(TopologyInfo::default()), ..device("a") };
    assert_eq!(kinds(vec![vec![empty]]).await, [ViolationKind::EmptyTopology]);
}

#[tokio::test]
async fn an_id_that_was_advertised_must_stay() {
    let found = found(vec![devices(&["a", "b"]), devices(&["a"]), devices(&["a", "b"])]).await;
    let found: Vec<_> =
        found.iter().map(|violation| (violation.kind, violation.detail.as_str())).collect();
    assert_eq!(found, [(ViolationKind::Vanished, "b")]);
}

#[tokio::test]
async fn an_id_of_another_resource_is_watched() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let _gpu =
        TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default().list(devices(&["a"])))
            .await;
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("listed");
    let other = Behaviour { resource: "nvidia.com/other".to_owned(), ..Behaviour::default() };
    let _other = TestPlugin::start(&home.kubelet, "b.sock", other.list(devices(&["a"]))).await;
    home.kubelet.wait_allocatable("nvidia.com/other", 1, SOON).await.expect("listed");
    let kinds: Vec<_> =
        home.kubelet.violations().into_iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::IdOfTwoResources]);
}

#[tokio::test]
async fn an_id_that_a_pod_holds_must_stay() {
    let home = kubelet(KubeletVersion::V1_36).await;
    let plugin =
        TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default().list(devices(&["a"])))
            .await;
    home.kubelet.wait_allocatable(GPU, 1, SOON).await.expect("listed");
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    plugin.send(Vec::new());
    home.kubelet.wait_allocatable(GPU, 0, SOON).await.expect("vanished");
    let kinds: Vec<_> =
        home.kubelet.violations().into_iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::VanishedInUse, ViolationKind::Vanished]);
}
