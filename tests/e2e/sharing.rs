//! Which replicas and MIG devices the plugin prefers, under each policy, and which whole
//! GPUs with the search turned off.

use fake_nvml::profiles;
use fake_nvml::state::State;
use simnode::node::PluginOptions;
use simnode::proto::device_plugin_client::DevicePluginClient;
use simnode::proto::{ContainerPreferredAllocationRequest, PreferredAllocationRequest};
use tonic::transport::Channel;

use crate::dropin::{SLICED, config, rig};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, node, plugin};

/// A client that asks as the kubelet does.
struct Asking(DevicePluginClient<Channel>);

impl Asking {
    async fn of(rig: &Rig) -> Self {
        Self(rig.kubelet.client(GPU).await.unwrap())
    }

    async fn ask(&mut self, available: &[String], must: &[String], size: i32) -> Vec<String> {
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: available.to_vec(),
            must_include_device_ids: must.to_vec(),
            allocation_size: size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        let answer = self.0.get_preferred_allocation(request).await.unwrap().into_inner();
        answer.container_responses.into_iter().next().unwrap().device_ids
    }
}

/// The GPU and the replica behind each id, by index.
fn places(rig: &Rig, ids: &[String]) -> Vec<(usize, u32)> {
    let gpus: Vec<String> = (0..8).map(|index| rig.node.uuid(index)).collect();
    let place = |id: &String| {
        let (uuid, replica) = id.split_once("::").unwrap();
        (gpus.iter().position(|gpu| gpu == uuid).unwrap(), replica.parse().unwrap())
    };
    ids.iter().map(place).collect()
}

/// These replicas of each GPU, by index.
fn replicas(rig: &Rig, free: &[(usize, &[u32])]) -> Vec<String> {
    let of = |(gpu, numbers): &(usize, &[u32])| -> Vec<String> {
        let uuid = rig.node.uuid(*gpu);
        numbers.iter().map(|number| format!("{uuid}::{number}")).collect()
    };
    free.iter().flat_map(of).collect()
}

/// The plugin with each GPU four times, under a policy.
async fn sliced(policy: &str) -> (Rig, Asking) {
    let node = eight_h100s();
    let options = plugin()
        .env("CONFIG_FILE", config(&node, SLICED))
        .env("SHARED_DEVICES_ALLOCATION_POLICY", policy);
    let rig = rig(node, &options, GPU, 32).await;
    let asking = Asking::of(&rig).await;
    (rig, asking)
}

const ALL: &[u32] = &[0, 1, 2, 3];

#[tokio::test(flavor = "multi_thread")]
async fn distributed_takes_from_the_gpu_with_the_least_in_use() {
    let (rig, mut asking) = sliced("distributed").await;
    // One of GPU 0 is in use, three of GPU 1: until GPU 0 is as full, all comes from there.
    let free = replicas(&rig, &[(0, &[1, 2, 3]), (1, &[3])]);
    let answer = asking.ask(&free, &[], 2).await;
    assert_eq!(places(&rig, &answer), [(0, 1), (0, 2)]);
    let all: Vec<_> = (0..8).map(|gpu| (gpu, ALL)).collect();
    let answer = asking.ask(&replicas(&rig, &all), &[], 8).await;
    assert_eq!(
        places(&rig, &answer).iter().map(|(gpu, _)| *gpu).collect::<Vec<_>>(),
        (0..8).collect::<Vec<_>>()
    );
    // Pods as the kubelet admits them: eight of one are on eight GPUs.
    for pod in 0..8 {
        rig.kubelet.allocate(&format!("pod-{pod}"), "main", GPU, 1).await.unwrap();
    }
    let held: Vec<String> = rig.kubelet.pod_devices().into_iter().map(|device| device.id).collect();
    let mut gpus: Vec<_> = places(&rig, &held).into_iter().map(|(gpu, _)| gpu).collect();
    gpus.sort_unstable();
    assert_eq!(gpus, (0..8).collect::<Vec<_>>());
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_fills_the_fullest_gpu_on_which_the_request_fits() {
    let (rig, mut asking) = sliced("packed").await;
    let free = replicas(&rig, &[(0, ALL), (1, &[3]), (2, &[0, 1]), (3, &[0, 1, 2])]);
    for (size, expected) in
        [(1, vec![(1, 3)]), (2, vec![(2, 0), (2, 1)]), (3, vec![(3, 0), (3, 1), (3, 2)])]
    {
        let answer = asking.ask(&free, &[], size).await;
        assert_eq!(places(&rig, &answer), expected, "{size}");
    }
    // What the pod has is filled up first.
    let must = replicas(&rig, &[(3, &[1])]);
    let answer = asking.ask(&free, &must, 2).await;
    assert!(places(&rig, &answer).iter().all(|(gpu, _)| *gpu == 3), "{answer:?}");
    for pod in 0..4 {
        rig.kubelet.allocate(&format!("pod-{pod}"), "main", GPU, 1).await.unwrap();
    }
    let held: Vec<String> = rig.kubelet.pod_devices().into_iter().map(|device| device.id).collect();
    assert!(
        places(&rig, &held).iter().all(|(gpu, _)| *gpu == 0),
        "one GPU for four pods: {held:?}"
    );
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn spread_doubles_on_no_gpu_while_another_can_serve_and_says_when_it_had_to() {
    let (rig, mut asking) = sliced("spread").await;
    // `distributed` takes both from GPU 0 here.
    let free = replicas(&rig, &[(0, &[1, 2, 3]), (1, &[3])]);
    let answer = asking.ask(&free, &[], 2).await;
    assert_eq!(places(&rig, &answer), [(0, 1), (1, 3)]);
    assert!(!rig.plugin.log().iter().any(|line| line.contains("could not be spread")));
    let answer = asking.ask(&free, &[], 3).await;
    assert_eq!(answer.len(), 3);
    rig.logged("a request could not be spread").await;
    rig.kubelet.allocate("pod", "main", GPU, 8).await.unwrap();
    let held: Vec<String> = rig.kubelet.pod_devices().into_iter().map(|device| device.id).collect();
    let mut gpus: Vec<_> = places(&rig, &held).into_iter().map(|(gpu, _)| gpu).collect();
    gpus.dedup();
    assert_eq!(gpus.len(), 8, "{held:?}");
    rig.assert_flawless();
}

/// The UUIDs of the MIG devices of a GPU.
fn slices(state: &State, gpu: usize) -> Vec<String> {
    state.gpus[gpu].mig.as_ref().unwrap().devices.iter().map(|device| device.uuid.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mig_devices_are_counted_by_their_physical_gpu() {
    for (policy, from) in [("packed", 5), ("distributed", 0), ("spread", 0)] {
        let options = plugin()
            .env("MIG_STRATEGY", "single")
            .arg("--shared-devices-allocation-policy")
            .arg(policy);
        let rig = rig(node(profiles::h100x8_mig_single()), &options, GPU, 56).await;
        let state = rig.node.state();
        // Four of the seven slices of GPU 5 are in use.
        let mut free: Vec<String> =
            (0..8).filter(|gpu| *gpu != 5).flat_map(|gpu| slices(&state, gpu)).collect();
        free.extend(slices(&state, 5).drain(..3));
        let answer = Asking::of(&rig).await.ask(&free, &[], 1).await;
        assert!(slices(&state, from).contains(&answer[0]), "{policy}: {answer:?}");
        let two = Asking::of(&rig).await.ask(&free, &[], 2).await;
        let on_five = two.iter().filter(|id| slices(&state, 5).contains(id)).count();
        assert_eq!(on_five, if policy == "packed" { 2 } else { 0 }, "{policy}: {two:?}");
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_whole_gpus_can_be_turned_off() {
    for (policy, expected) in [("optimal", [1, 5]), ("numa", [1, 3]), ("index", [1, 3])] {
        let options: PluginOptions = plugin().env("ALLOCATION_POLICY", policy);
        let rig = rig(node(profiles::dgx1_v100()), &options, GPU, 8).await;
        rig.logged("the links between GPUs are known").await;
        let uuids: Vec<String> = (0..8).map(|index| rig.node.uuid(index)).collect();
        let mut asking = Asking::of(&rig).await;
        let mut ask = async |free: &[usize]| {
            let free: Vec<String> = free.iter().map(|gpu| uuids[*gpu].clone()).collect();
            let answer = asking.ask(&free, &[], 2).await;
            answer
                .iter()
                .map(|id| uuids.iter().position(|uuid| uuid == id).unwrap())
                .collect::<Vec<_>>()
        };
        // 1 and 5 have two links, 1 and 3 one NUMA node, and the lowest indices.
        assert_eq!(ask(&[1, 3, 5]).await, expected, "{policy}");
        // With 3 the only one of its node, NUMA nodes and indices disagree.
        assert_eq!(
            ask(&[3, 4, 5]).await,
            if policy == "index" { [3, 4] } else { [4, 5] },
            "{policy}"
        );
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_in_the_file_is_in_force_at_once() {
    let node = eight_h100s();
    let file = |policy: &str| {
        format!("{SLICED}flags: {{plugin: {{sharedDevicesAllocationPolicy: {policy}}}}}\n")
    };
    let options = plugin().env("CONFIG_FILE", config(&node, &file("distributed")));
    let rig = rig(node, &options, GPU, 32).await;
    let mut asking = Asking::of(&rig).await;
    let free = replicas(&rig, &[(0, ALL), (1, &[0, 3])]);
    assert_eq!(places(&rig, &asking.ask(&free, &[], 1).await), [(0, 0)]);
    let seen = rig.plugin.log().len();
    config(&rig.node, &file("packed"));
    rig.plugin
        .wait_for_log_after(seen, "the new configuration is in force", PATIENCE)
        .await
        .unwrap();
    assert_eq!(places(&rig, &asking.ask(&free, &[], 1).await), [(1, 0)]);
    assert_eq!(
        rig.kubelet.view().resource(GPU).unwrap().lists_received,
        1,
        "no list changes by it"
    );
    rig.assert_flawless();
}
