//! Which GPUs the plugin prefers: on whole machines as the pure search says, and as well
//! as can be where NVML does not answer.

use device::allocation::{
    AllocationIndex, AllocationPolicy, IndexEntry, Request, WholeGpuPolicy, preferred,
};
use device::gpu::NumaNode;
use device::names::{DeviceId, Uuid};
use device::topology::{
    NvLinkVersion, ObservedGpu, ObservedLink, PcieLevel, Remote, Topology, TopologyObservation,
};
use fake_nvml::profiles;
use fake_nvml::state::{Gpu, Rule, State};
use simnode::node::PluginOptions;
use simnode::proto::device_plugin_client::DevicePluginClient;
use simnode::proto::{ContainerPreferredAllocationRequest, PreferredAllocationRequest};
use tonic::transport::Channel;

use crate::rig::{GPU, Rig, node, plugin};

const KNOWN: &str = "the links between GPUs are known";

/// A node of these GPUs with the plugin on it, and a client as the kubelet is one.
async fn serving(state: State, options: &PluginOptions) -> (Rig, Asking) {
    let uuids: Vec<String> = state.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let node = node(state);
    let config = node.kubelet();
    let rig = Rig::on(node, config, options, uuids.len()).await;
    let client = rig.kubelet.client(GPU).await.unwrap();
    (rig, Asking { client, uuids })
}

/// A client that names GPUs by index.
struct Asking {
    client: DevicePluginClient<Channel>,
    uuids: Vec<String>,
}

impl Asking {
    async fn ask(&mut self, free: &[usize], must: &[usize], size: i32) -> Vec<usize> {
        let ids = |gpus: &[usize]| gpus.iter().map(|gpu| self.uuids[*gpu].clone()).collect();
        let answer = self.ask_for(ids(free), ids(must), size).await;
        answer.iter().map(|id| self.uuids.iter().position(|uuid| uuid == id).unwrap()).collect()
    }

    async fn ask_for(
        &mut self,
        available: Vec<String>,
        must_include: Vec<String>,
        size: i32,
    ) -> Vec<String> {
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: available,
            must_include_device_ids: must_include,
            allocation_size: size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        let answer = self.client.get_preferred_allocation(request).await.unwrap().into_inner();
        answer.container_responses.into_iter().next().unwrap().device_ids
    }
}

/// What the pure search says of a node of these GPUs.
fn expected(state: &State, whole: WholeGpuPolicy) -> AllocationIndex {
    let uuid = |gpu: &Gpu| -> Uuid { gpu.uuid.parse().unwrap() };
    let link = |link: &fake_nvml::state::NvLink| ObservedLink {
        remote: match link.remote_type {
            2 => Remote::Switch,
            _ => Remote::Gpu(link.remote_pci_bus_id.parse().unwrap()),
        },
        version: NvLinkVersion::from_nvml(link.version),
        active: link.active,
    };
    let mut observation = TopologyObservation::default();
    for (index, gpu) in (0..).zip(&state.gpus) {
        observation.gpus.push(ObservedGpu {
            uuid: uuid(gpu),
            index,
            pci_bus_id: Some(gpu.pci_bus_id.parse().unwrap()),
            numa_node: NumaNode::from_sysfs(gpu.pcie.numa.into()),
            links: Some(gpu.nvlinks.iter().map(link).collect()),
        });
        for other in &state.gpus[index as usize + 1..] {
            let (one, two) = (&gpu.pcie, &other.pcie);
            let level = match () {
                () if one.board == two.board => PcieLevel::SameBoard,
                () if one.switch == two.switch => PcieLevel::SingleSwitch,
                () if one.switch_tree == two.switch_tree => PcieLevel::MultipleSwitches,
                () if one.host_bridge == two.host_bridge => PcieLevel::HostBridge,
                () if one.numa == two.numa => PcieLevel::SameNode,
                () => PcieLevel::AcrossSystem,
            };
            observation.ancestors.insert((uuid(gpu), uuid(other)), level);
        }
    }
    let (topology, findings) = Topology::observed(observation);
    assert_eq!(findings, []);
    let entry = |(index, gpu)| IndexEntry {
        id: DeviceId::whole(uuid(gpu)),
        gpu: uuid(gpu),
        gpu_index: index,
    };
    AllocationIndex::new(
        (0..).zip(&state.gpus).map(entry),
        &topology,
        AllocationPolicy { whole, ..AllocationPolicy::default() },
    )
}

/// Some numbers that look like chance and are the same every time.
fn chance(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    (*seed >> 33) as usize % below
}

#[tokio::test(flavor = "multi_thread")]
async fn on_whole_machines_the_answers_are_those_of_the_pure_search_under_every_policy() {
    let machines = [
        profiles::dgx1_v100(),
        profiles::v100x16(),
        profiles::a100x8(),
        profiles::l40sx8(),
        profiles::h100x8(),
        profiles::mixed_models(),
    ];
    for policy in WholeGpuPolicy::ALL {
        for state in machines.clone() {
            let catalogue = expected(&state, policy);
            let options =
                plugin().arg("--allocation-policy").arg(format!("{policy:?}").to_lowercase());
            let (rig, mut asking) = serving(state, &options).await;
            rig.logged(KNOWN).await;
            let mut seed = 7;
            for _ in 0..60 {
                let uuids = asking.uuids.clone();
                let free: Vec<String> =
                    uuids.iter().filter(|_| chance(&mut seed, 4) > 0).cloned().rev().collect();
                let must: Vec<String> =
                    free.iter().filter(|_| chance(&mut seed, 8) == 0).cloned().collect();
                let size = chance(&mut seed, uuids.len() + 1) as i32;
                let pure =
                    preferred(&catalogue, &Request { available: &free, must_include: &must, size });
                let answer = asking.ask_for(free.clone(), must.clone(), size).await;
                assert_eq!(answer, pure.ids, "{size} of {free:?} with {must:?} under {policy:?}");
            }
            rig.assert_flawless();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_gpus_that_are_linked() {
    let (rig, mut asking) = serving(profiles::dgx1_v100(), &plugin()).await;
    rig.logged(KNOWN).await;
    let all: Vec<usize> = (0..8).collect();
    assert_eq!(asking.ask(&all, &[], 2).await, [0, 3], "two links, and the pair 1-2 stays");
    assert_eq!(asking.ask(&all[1..], &[], 4).await, [4, 5, 6, 7], "the island that is whole");
    let answer = rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
    assert_eq!(
        answer.envs["NVIDIA_VISIBLE_DEVICES"],
        format!("{},{}", asking.uuids[0], asking.uuids[3])
    );
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_only_one_end_sees_count_for_nothing_and_are_reported() {
    let mut state = profiles::dgx1_v100();
    state.gpus[3]
        .nvlinks
        .retain(|link| link.remote_pci_bus_id != profiles::dgx1_v100().gpus[0].pci_bus_id);
    let (rig, mut asking) = serving(state, &plugin()).await;
    let line = rig.logged("do not fit together").await;
    assert!(line.contains(&asking.uuids[0]) && line.contains(&asking.uuids[3]), "{line}");
    rig.logged(KNOWN).await;
    assert_eq!(asking.ask(&[0, 1, 3], &[], 2).await, [0, 1], "0-3 would have had two links");
    rig.kubelet.allocate("pod", "main", GPU, 4).await.unwrap();
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_gaps_in_what_nvml_tells_lower_the_detail_and_fail_nothing() {
    const LINK: [&str; 3] = [
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
        "nvmlDeviceGetNvLinkRemotePciInfo_v2",
    ];
    for (function, code) in LINK
        .into_iter()
        .chain(["nvmlDeviceGetTopologyCommonAncestor", "nvmlDeviceGetNvLinkVersion"])
        .zip([999, 15, 3, 2, 999])
    {
        let mut state = profiles::dgx1_v100();
        state.gpus[5].rules.push(Rule::answer(function, code));
        let (rig, mut asking) = serving(state, &plugin()).await;
        rig.logged(KNOWN).await;
        assert_eq!(asking.ask(&[0, 1, 3], &[], 2).await, [0, 3], "{function}: two links, as ever");
        assert_eq!(asking.ask(&[4, 5, 6], &[], 3).await, [4, 5, 6], "{function}");
        rig.kubelet.allocate("pod", "main", GPU, 8).await.unwrap();
        // The type is not needed where the bus id says who is at the other end.
        if code == 999 {
            let line = rig.logged("cannot read all links").await;
            assert!(line.contains(function) && line.contains(&asking.uuids[5]), "{line}");
            assert_eq!(
                rig.plugin.log().iter().filter(|line| line.contains("cannot read all")).count(),
                1
            );
        }
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_driver_without_these_functions_is_placed_by_numa_node() {
    let node = node(profiles::dgx1_v100());
    node.library_without(&[
        "nvmlDeviceGetTopologyCommonAncestor",
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetNvLinkVersion",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
        "nvmlDeviceGetNvLinkRemotePciInfo_v2",
    ])
    .unwrap();
    let uuids: Vec<String> = (0..8).map(|index| node.uuid(index)).collect();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    rig.logged(KNOWN).await;
    let mut asking = Asking { client: rig.kubelet.client(GPU).await.unwrap(), uuids };
    assert_eq!(asking.ask(&[0, 4, 5], &[], 2).await, [4, 5]);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_links_that_hangs_holds_up_nothing() {
    let mut state = profiles::dgx1_v100();
    state.gpus[5].rules.push(Rule::hang("nvmlDeviceGetNvLinkState"));
    let options = plugin().arg("--health-poll-interval").arg("1s");
    let (rig, mut asking) = serving(state, &options).await;
    let all: Vec<usize> = (0..8).collect();
    assert_eq!(asking.ask(&all, &[], 4).await.len(), 4);
    rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
    rig.node.xid(7, 79).unwrap();
    rig.until_healthy(7, false).await;
    // What is read of the other GPUs is used meanwhile, and of its links what these see.
    rig.logged("NVML hangs in a call about the links").await;
    rig.logged(KNOWN).await;
    assert_eq!(asking.ask(&[0, 1, 3], &[], 2).await, [0, 3]);
    assert_eq!(asking.ask(&[1, 4, 5], &[], 2).await, [1, 5]);
    assert_eq!(
        asking.ask(&[5, 6, 7], &[], 2).await,
        [5, 6],
        "GPU 6 has said that they have two links"
    );
    let seen = rig.plugin.log().len();
    rig.node.edit_gpu(5, |gpu| gpu.rules.clear()).unwrap();
    // The GPU that was lost has NVML initialised again, before its links are known or after.
    let patience = crate::rig::PATIENCE;
    rig.plugin.wait_for_log_after(seen, "NVML answers again", patience).await.unwrap();
    assert_eq!(asking.ask(&[5, 6, 7], &[], 2).await, [5, 6]);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_read_again_when_the_gpus_are_others() {
    let state = profiles::a100x8();
    let uuids: Vec<String> = state.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let node = node(state);
    node.unbind(1).unwrap();
    let config = node.kubelet();
    let options = plugin().arg("--health-poll-interval").arg("1s");
    let rig = Rig::on(node, config, &options, 7).await;
    rig.logged(KNOWN).await;
    let mut asking = Asking { client: rig.kubelet.client(GPU).await.unwrap(), uuids };
    assert_eq!(asking.ask(&[0, 2, 3], &[], 1).await, [0], "its partner is not there");
    let before = rig.plugin.log().len();
    rig.node.bind(1).unwrap();
    rig.plugin.wait_for_log_after(before, KNOWN, crate::rig::PATIENCE).await.unwrap();
    assert_eq!(asking.ask(&[0, 1, 2], &[], 2).await, [0, 1]);
    assert_eq!(asking.ask(&[0, 1, 2], &[], 1).await, [2], "the pair stays whole");
    assert_eq!(rig.plugin.log().iter().filter(|line| line.contains(KNOWN)).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_request_is_answered_and_said_once_a_minute() {
    let (rig, mut asking) = serving(profiles::h100x8(), &plugin()).await;
    let all = asking.uuids.clone();
    for size in [0, -1, i32::MIN] {
        assert!(asking.ask_for(all.clone(), vec![], size).await.is_empty());
    }
    for _ in 0..20 {
        let strangers = vec!["GPU-stranger".to_owned(), all[2].clone()];
        let answer = asking.ask_for(strangers, vec![all[1].clone()], 5).await;
        assert_eq!(answer, [all[1].as_str(), &all[2], "GPU-stranger"]);
    }
    for reason in ["size_not_positive", "too_few", "unknown_ids", "must_include_unavailable"] {
        rig.logged(reason).await;
        assert_eq!(
            rig.plugin.log().iter().filter(|line| line.contains(reason)).count(),
            1,
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_gpus_of_which_no_two_are_alike_are_served_at_once_and_searched_in_full() {
    let mut state = profiles::v100x16();
    let buses: Vec<String> = state.gpus.iter().map(|gpu| gpu.pci_bus_id.clone()).collect();
    let mut seed = 11;
    state.gpus.iter_mut().for_each(|gpu| gpu.nvlinks.clear());
    // Some of all pairs are linked; no GPU has more than the 18 links that one can have.
    for (a, b) in (0..16).flat_map(|a| (a + 1..16).map(move |b| (a, b))) {
        if chance(&mut seed, 2) == 0 {
            for (from, to) in [(a, b), (b, a)] {
                let remote_pci_bus_id = buses[to].clone();
                let link = fake_nvml::state::NvLink {
                    active: true,
                    version: 2,
                    remote_pci_bus_id,
                    remote_type: 0,
                };
                state.gpus[from].nvlinks.push(link);
            }
        }
    }
    let catalogue = expected(&state, WholeGpuPolicy::Optimal);
    let (rig, mut asking) = serving(state, &plugin()).await;
    let uuids = asking.uuids.clone();
    rig.logged(KNOWN).await;
    assert_eq!(asking.ask_for(uuids.clone(), vec![], 5).await.len(), 5);
    let pure: Vec<Vec<&str>> = (1..16)
        .map(|size| {
            preferred(&catalogue, &Request { available: &uuids, must_include: &[], size }).ids
        })
        .collect();
    // Until the table is ready the answers are good, and then they are the best.
    let mut answers = Vec::new();
    let best = rig.eventually("the answers are the best", async || {
        answers.clear();
        for size in 1..16 {
            answers.push(asking.ask_for(uuids.clone(), vec![], size).await);
        }
        (answers == pure).then_some(())
    });
    best.await;
    rig.assert_flawless();
}
