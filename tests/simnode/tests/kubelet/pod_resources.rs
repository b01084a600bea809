//! The podresources server: which container holds which device.

use std::path::Path;

use simnode::kubelet::{
    AllocationRequest, ContainerKind, KubeletVersion, NAMESPACE, Trouble, ViolationKind,
};
use simnode::pod_resources_proto::pod_resources_lister_client::PodResourcesListerClient;
use simnode::pod_resources_proto::{
    AllocatableResourcesRequest, ContainerDevices, GetPodResourcesRequest, ListPodResourcesRequest,
};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Behaviour, GPU, Home, SOON, TestPlugin, kubelet_with, on_nodes, with_health};

type Client = PodResourcesListerClient<Channel>;

/// A kubelet of this version with a plugin of four devices, one of them unhealthy, and a client.
async fn lister(version: KubeletVersion) -> (Home, TestPlugin, Client) {
    let home = kubelet_with(|config| {
        let socket = config.directory.with_file_name("pod-resources").join("kubelet.sock");
        config.version(version).pod_resources(socket)
    })
    .await;
    let list = vec![
        on_nodes("a", &[0]),
        on_nodes("b", &[1]),
        on_nodes("c", &[]),
        with_health("d", "Unhealthy"),
    ];
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", Behaviour::default().list(list)).await;
    home.kubelet.wait_allocatable(GPU, 3, SOON).await.expect("listed");
    let socket = home.kubelet.directory().with_file_name("pod-resources").join("kubelet.sock");
    let client = dial(&socket).await;
    (home, plugin, client)
}

async fn dial(socket: &Path) -> Client {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("a path");
    PodResourcesListerClient::new(endpoint.connect().await.expect("it listens"))
}

/// "pod/container: ids" of every container that List shows.
async fn listed(client: &mut Client) -> Vec<String> {
    let pods =
        client.list(ListPodResourcesRequest {}).await.expect("answered").into_inner().pod_resources;
    let mut listed = Vec::new();
    for pod in pods {
        assert_eq!(pod.namespace, NAMESPACE);
        for container in pod.containers {
            let ids: Vec<_> =
                container.devices.iter().flat_map(|devices| devices.device_ids.clone()).collect();
            listed.push(format!("{}/{}: {}", pod.name, container.name, ids.join(" ")));
        }
    }
    listed
}

fn one(devices: &[ContainerDevices], id: &str) -> Option<Vec<i64>> {
    let device = devices.iter().find(|devices| devices.device_ids == [id])?;
    Some(
        device
            .topology
            .iter()
            .flat_map(|topology| topology.nodes.iter().map(|node| node.id))
            .collect(),
    )
}

#[tokio::test]
async fn each_container_has_its_devices_and_init_containers_are_not_shown() {
    let (home, _plugin, mut client) = lister(KubeletVersion::V1_36).await;
    let init = AllocationRequest::new("p", "init", GPU, 2).kind(ContainerKind::Init);
    home.kubelet.admit(init).await.expect("admitted");
    assert!(
        listed(&mut client).await.is_empty(),
        "the pod is there, without a container that is shown"
    );
    home.kubelet.allocate("p", "main", GPU, 1).await.expect("admitted");
    home.kubelet.allocate("q", "main", GPU, 1).await.expect("admitted");
    let shown = listed(&mut client).await;
    assert_eq!(shown.len(), 2, "{shown:?}");
    for pod in ["p", "q"] {
        let held = home
            .kubelet
            .pod_devices()
            .into_iter()
            .find(|held| held.pod == pod && held.container == "main");
        assert!(shown.contains(&format!("{pod}/main: {}", held.expect("held").id)), "{shown:?}");
    }
}

#[tokio::test]
async fn only_healthy_devices_are_allocatable_and_each_has_its_numa_nodes() {
    let (_home, _plugin, mut client) = lister(KubeletVersion::V1_36).await;
    let answer =
        client.get_allocatable_resources(AllocatableResourcesRequest {}).await.expect("answered");
    let devices = answer.into_inner().devices;
    assert_eq!(devices.len(), 3);
    assert_eq!((one(&devices, "a"), one(&devices, "b")), (Some(vec![0]), Some(vec![1])));
    assert_eq!((one(&devices, "c"), one(&devices, "d")), (Some(Vec::new()), None));
}

#[tokio::test]
async fn a_pod_that_is_over_is_listed_up_to_1_33_alone() {
    for (version, is_listed) in [(KubeletVersion::V1_32, true), (KubeletVersion::V1_36, false)] {
        let (home, _plugin, mut client) = lister(version).await;
        home.kubelet.allocate("p", "main", GPU, 3).await.expect("admitted");
        home.kubelet.finish("p");
        let shown = listed(&mut client).await;
        assert_eq!(shown, if is_listed { vec!["p/main: ".to_owned()] } else { Vec::new() });
        home.kubelet.allocate("q", "main", GPU, 3).await.expect("its devices are free");
    }
}

#[tokio::test]
async fn get_knows_one_pod_from_1_36_on() {
    let asked = |name: &str| GetPodResourcesRequest {
        pod_name: name.to_owned(),
        pod_namespace: NAMESPACE.to_owned(),
    };
    let (home, _plugin, mut client) = lister(KubeletVersion::V1_36).await;
    home.kubelet.allocate("p", "main", GPU, 1).await.expect("admitted");
    let pod =
        client.get(asked("p")).await.expect("there").into_inner().pod_resources.expect("a pod");
    assert_eq!((pod.name.as_str(), pod.containers.len()), ("p", 1));
    let error = client.get(asked("q")).await.expect_err("not there");
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "pod q in namespace default not found")
    );
    let (_home, _plugin, mut client) = lister(KubeletVersion::V1_32).await;
    assert!(
        client.get(asked("p")).await.expect_err("an alpha feature").message().contains("disabled")
    );
}

#[tokio::test]
async fn a_restarted_kubelet_lists_its_pods_when_it_has_heard_of_them() {
    let (home, plugin, mut client) = lister(KubeletVersion::V1_36).await;
    home.kubelet.allocate("p", "main", GPU, 1).await.expect("admitted");
    let before = listed(&mut client).await;
    plugin.stop().await;
    let socket = home.kubelet.directory().with_file_name("pod-resources").join("kubelet.sock");
    home.kubelet.restart().await.expect("restarted");
    assert_eq!(listed(&mut dial(&socket).await).await, before);
    home.kubelet.reach_api_server(false);
    home.kubelet.restart().await.expect("restarted");
    let mut client = dial(&socket).await;
    assert!(listed(&mut client).await.is_empty(), "it knows no pod yet");
    home.kubelet.reach_api_server(true);
    assert_eq!(listed(&mut client).await, before, "and has lost nothing meanwhile");
}

#[tokio::test]
async fn more_calls_than_the_limit_are_refused_and_recorded() {
    let (home, _plugin, mut client) = lister(KubeletVersion::V1_36).await;
    let mut refused = 0;
    for _ in 0..200 {
        if let Err(error) = client.list(ListPodResourcesRequest {}).await {
            assert_eq!(
                (error.code(), error.message()),
                (Code::ResourceExhausted, "rejected by rate limit")
            );
            refused += 1;
        }
    }
    let recorded = home
        .kubelet
        .violations()
        .iter()
        .any(|violation| violation.kind == ViolationKind::PodResourcesRate);
    assert_eq!(refused > 0, recorded, "{refused} were refused");
    assert_eq!(home.kubelet.pod_resources_asked().len(), 200);
}

#[tokio::test]
async fn trouble_is_what_was_asked_for() {
    let (home, _plugin, mut client) = lister(KubeletVersion::V1_36).await;
    home.kubelet.trouble_pod_resources(Trouble::Fails);
    assert_eq!(
        client.list(ListPodResourcesRequest {}).await.expect_err("so wanted").code(),
        Code::Unknown
    );
    home.kubelet.trouble_pod_resources(Trouble::Huge);
    let mut client = client.max_decoding_message_size(16 << 20);
    assert_eq!(
        client.list(ListPodResourcesRequest {}).await.expect_err("too long").code(),
        Code::OutOfRange
    );
    home.kubelet.trouble_pod_resources(Trouble::Hangs);
    let mut hanging = client.clone();
    let call =
        tokio::spawn(async move { hanging.list(ListPodResourcesRequest {}).await.map(drop) });
    let asked = home.kubelet.pod_resources_asked().len();
    while home.kubelet.pod_resources_asked().len() == asked {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    call.abort();
}
