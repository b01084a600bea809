//! MIG layouts, single, mixed and broken, as the kubelet sees them.

use fake_nvml::profiles;
use fake_nvml::state::{Rule, State};
use simnode::node::Plugin;

use crate::dropin::{config, rig};
use crate::rig::{GPU, Rig, kubelet, node, plugin};

fn mig_uuid(state: &State, gpu: usize, mig: usize) -> String {
    state.gpus[gpu].mig.as_ref().expect("a GPU with MIG").devices[mig].uuid.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn single_offers_mig_devices_as_gpus() {
    let rig =
        rig(node(profiles::h100x8_mig_single()), &plugin().env("MIG_STRATEGY", "single"), GPU, 56)
            .await;
    let view = rig.kubelet.view();
    assert_eq!(view.resources.len(), 1);
    let last = mig_uuid(&rig.node.state(), 7, 6);
    assert_eq!(view.resource(GPU).unwrap().devices[&last].numa, [1], "the NUMA node of its GPU");
    let answer = rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    assert!(answer.envs["NVIDIA_VISIBLE_DEVICES"].starts_with("MIG-"));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_offers_each_profile_by_its_name() {
    let options = plugin().env("MIG_STRATEGY", "mixed").env("DP_ENABLE_HEALTHCHECKS", "94");
    let rig = rig(node(profiles::h100x8_mig_mixed()), &options, GPU, 4).await;
    for (resource, count) in [("mig-3g.40gb", 2), ("mig-2g.20gb", 2), ("mig-1g.10gb", 18)] {
        let resource = format!("nvidia.com/{resource}");
        rig.until(&resource, |view| view.allocatable(&resource) == count).await;
    }
    // An error that was contained in one GPU instance is one of what is on it; what takes a reset
    // of the GPU is a fault of all of it.
    let state = rig.node.state();
    let gpu = state.gpus[0].uuid.clone();
    let event = |xid| fake_nvml::state::Event {
        seq: 0,
        gpu: gpu.clone(),
        event_type: fake_nvml::state::event_type::XID,
        data: xid,
        gpu_instance: Some(state.gpus[0].mig.as_ref().unwrap().devices[1].gpu_instance),
        compute_instance: Some(0),
        stray: false,
        count: 1,
    };
    rig.node.edit(|state| state.push_event(event(94))).unwrap();
    rig.until("one 2g.20gb fewer", |view| view.allocatable("nvidia.com/mig-2g.20gb") == 1).await;
    assert_eq!(rig.kubelet.view().allocatable("nvidia.com/mig-1g.10gb"), 18);
    rig.node.edit(|state| state.push_event(event(48))).unwrap();
    rig.until("its siblings", |view| view.allocatable("nvidia.com/mig-1g.10gb") == 16).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_whole_gpu_is_a_fault_of_each_of_its_slices_at_once() {
    const SMALL: &str = "nvidia.com/mig-1g.10gb";
    let node = node(profiles::h100x8_mig_single());
    let options = plugin().env(
        "CONFIG_FILE",
        config(
            &node,
            "version: v1\nflags: {migStrategy: mixed}\nhealth: {pollInterval: 100ms, suspicion: \
            200ms}\n",
        ),
    );
    let rig = rig(node, &options, SMALL, 56).await;
    let before = rig.kubelet.lists(SMALL).len();
    rig.node.edit_gpu(2, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until("seven fewer", |view| view.allocatable(SMALL) == 49).await;
    let state = rig.node.state();
    let slices: Vec<String> = (0..7).map(|mig| mig_uuid(&state, 2, mig)).collect();
    assert!(slices.iter().all(|slice| rig.kubelet.view().healthy(SMALL, slice) == Some(false)));
    assert_eq!(rig.kubelet.lists(SMALL).len(), before + 1, "all in one list");
    rig.node.restore(2).unwrap();
    rig.until("all of them", |view| view.allocatable(SMALL) == 56).await;
    assert_eq!(rig.kubelet.lists(SMALL).len(), before + 2);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_gpu_is_a_fault_of_each_of_its_replicas_at_once() {
    const SHARED: &str = "nvidia.com/gpu.shared";
    let text = "version: v1
sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 10}]}}
health: {pollInterval: 100ms, suspicion: 200ms}
";
    let node = node(profiles::h100x8());
    let options = plugin().env("CONFIG_FILE", config(&node, text));
    let rig = rig(node, &options, SHARED, 80).await;
    let before = rig.kubelet.lists(SHARED).len();
    rig.node.edit_gpu(5, |gpu| gpu.recovery_action = 1).unwrap();
    rig.node.xid(5, 48).unwrap();
    rig.until("ten fewer", |view| view.allocatable(SHARED) == 70).await;
    let uuid = rig.node.uuid(5);
    let view = rig.kubelet.view();
    assert!(
        (0..10).all(|replica| view.healthy(SHARED, &format!("{uuid}::{replica}")) == Some(false))
    );
    assert_eq!(rig.kubelet.lists(SHARED).len(), before + 1, "all in one list");
    rig.node.restore(5).unwrap();
    rig.until("all of them", |view| view.allocatable(SHARED) == 80).await;
    assert_eq!(rig.kubelet.lists(SHARED).len(), before + 2);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_gpu_instance_is_a_fault_of_its_compute_instances_and_one_of_those_of_itself()
{
    const SPLIT: &str = "nvidia.com/mig-1c.3g.40gb";
    let mut state = profiles::h100x8_mig_mixed();
    state.gpus.truncate(1);
    // The GPU instance of the 3g.40gb with three compute instances in it.
    let devices = &mut state.gpus[0].mig.as_mut().unwrap().devices;
    let whole = devices.remove(0);
    for compute_instance in 0..3 {
        let uuid = whole.uuid.replace("MIG-", &format!("MIG-{compute_instance}"));
        let name = whole.name.as_ref().map(|name| name.replace("3g.40gb", "1c.3g.40gb"));
        let part = fake_nvml::state::MigDevice {
            uuid,
            name,
            compute_instance,
            compute_slices: 1,
            ..whole.clone()
        };
        devices.push(part);
    }
    let gpu = state.gpus[0].uuid.clone();
    let node = node(state);
    let options = plugin().env(
        "CONFIG_FILE",
        config(&node, "version: v1\nflags: {migStrategy: mixed}\nhealth: {criticalXIDs: [94]}\n"),
    );
    let rig = rig(node, &options, SPLIT, 3).await;
    let (small, middle) = ("nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb");
    rig.until("the others", |view| view.allocatable(small) == 2 && view.allocatable(middle) == 1)
        .await;
    let fault = |compute_instance| fake_nvml::state::Event {
        seq: 0,
        gpu: gpu.clone(),
        event_type: fake_nvml::state::event_type::XID,
        data: 94,
        gpu_instance: Some(whole.gpu_instance),
        compute_instance,
        stray: false,
        count: 1,
    };
    rig.node.edit(|state| state.push_event(fault(Some(1)))).unwrap();
    rig.until("one of three fewer", |view| view.allocatable(SPLIT) == 2).await;
    rig.node.edit(|state| state.push_event(fault(None))).unwrap();
    rig.until("none", |view| view.allocatable(SPLIT) == 0).await;
    // Their streams are others: what they would have been sent has come when the next thing has.
    rig.node.edit_gpu(0, |gpu| gpu.recovery_action = 1).unwrap();
    rig.node.xid(0, 154).unwrap();
    rig.until("none of them either", |view| {
        view.allocatable(small) == 0 && view.allocatable(middle) == 0
    })
    .await;
    for resource in [small, middle] {
        assert_eq!(
            rig.kubelet.lists(resource).len(),
            2,
            "the first, and that of the whole GPU's fault"
        );
    }
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn none_offers_every_gpu_whole() {
    let rig = rig(node(profiles::h100x8_mig_mixed()), &plugin(), GPU, 8).await;
    rig.logged("is offered whole, since the MIG strategy is none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_worked_out_without_the_drivers_help_and_with_it_alone() {
    let mut state = profiles::h100x8_mig_mixed();
    for mig in
        state.gpus.iter_mut().filter_map(|gpu| gpu.mig.as_mut()).flat_map(|mig| &mut mig.devices)
    {
        mig.name = None;
    }
    // The form of drivers before 470.
    let gpu = state.gpus[0].uuid.clone();
    let old = &mut state.gpus[0].mig.as_mut().unwrap().devices[0];
    old.uuid = format!("MIG-{gpu}/{}/0", old.gpu_instance);
    let old = old.uuid.clone();
    let by_attributes = node(state);
    let by_name = node(profiles::h100x8_mig_mixed());
    by_name
        .library_without(&["nvmlDeviceGetAttributes_v2", "nvmlDeviceGetGpuInstanceById"])
        .unwrap();
    for (node, device) in [(by_attributes, Some(old)), (by_name, None)] {
        let options = plugin().env("MIG_STRATEGY", "mixed");
        let rig = rig(node, &options, "nvidia.com/mig-3g.40gb", 2).await;
        if let Some(device) = device {
            assert_eq!(rig.kubelet.view().healthy("nvidia.com/mig-3g.40gb", &device), Some(true));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_nvidias_plugin_exits_over_is_served_as_far_as_it_is_valid() {
    // NVIDIA's plugin, "1.7 MIG strategies": no MIG devices, two profiles, not all in MIG mode.
    let mut state = profiles::h100x8_mig_single();
    state.gpus[0].mig.as_mut().unwrap().devices.clear();
    state.gpus[1].mig.as_mut().unwrap().enabled = false;
    let other = &mut state.gpus[2].mig.as_mut().unwrap().devices[0];
    (other.gpu_slices, other.compute_slices, other.memory_mib, other.gpu_instance_profile) =
        (2, 2, 20_096, 1);
    let rig = rig(node(state), &plugin().env("MIG_STRATEGY", "single"), GPU, 41).await;
    rig.logged("GPU 0 (").await;
    rig.logged("MIG 1g.10gb is offered, and whole GPUs (1) is not").await;
    rig.logged("MIG 1g.10gb is offered, and MIG 2g.20gb (2:0) is not").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_mig_device_does_not_keep_the_others_from_being_served() {
    for function in ["nvmlDeviceGetUUID", "nvmlDeviceGetGpuInstanceId"] {
        let mut state = profiles::h100x8_mig_single();
        state.gpus[3].mig.as_mut().unwrap().devices[2].rules.push(Rule::answer(function, 999));
        let rig =
            rig(node(state), &plugin().env("MIG_STRATEGY", "mixed"), "nvidia.com/mig-1g.10gb", 55)
                .await;
        let line = rig.logged("MIG device 3:2 is not offered").await;
        assert!(line.contains(function), "{line}");
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mig_device_that_may_not_state_its_attributes_is_known_by_its_name() {
    for code in [4, 999] {
        let mut state = profiles::h100x8_mig_single();
        let devices = &mut state.gpus[3].mig.as_mut().unwrap().devices;
        devices[2].rules.push(Rule::answer("nvmlDeviceGetAttributes_v2", code));
        let options = plugin().env("MIG_STRATEGY", "mixed");
        let rig = rig(node(state), &options, "nvidia.com/mig-1g.10gb", 56).await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mig_layout_is_served_without_a_restart_and_old_ids_stay_unhealthy() {
    let (small, large) = ("nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb");
    let options = plugin().env("MIG_STRATEGY", "mixed").env("HEALTH_POLL_INTERVAL", "200ms");
    let rig = rig(node(profiles::h100x8_mig_single()), &options, small, 56).await;
    let held = rig.kubelet.allocate("pod", "main", small, 1).await.unwrap();
    let mixed = profiles::h100x8_mig_mixed();
    rig.node.edit_gpu(0, |gpu| gpu.mig.clone_from(&mixed.gpus[0].mig)).unwrap();
    rig.until("the new profiles", |view| {
        view.allocatable(large) == 1 && view.allocatable(small) == 51
    })
    .await;
    let view = rig.kubelet.view();
    // Two of the seven 1g.10gb have the place, and so the UUID, of one before.
    assert_eq!(view.capacity(small), 56, "nobody has said yet that no pod holds the old ones");
    assert_eq!(view.healthy(small, &held.envs["NVIDIA_VISIBLE_DEVICES"]).map(|_| ()), Some(()));
    assert_eq!(view.accepted(small).count(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_gpus_are_never_offered_and_models_have_names_of_their_own() {
    let text = "version: v1
flags: {plugin: {customResources: true}}
devices: {exclude: ['model=*T4*']}
resources:
  gpus: [{pattern: '*A100*', name: a100}]
sharing:
  timeSlicing:
    resources: [{name: nvidia.com/gpu, replicas: 2, rename: l40s.shared, devices: ['1']}]
";
    let node = node(profiles::mixed_models());
    let options = plugin().env("CONFIG_FILE", config(&node, text));
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.until("both resources", |view| {
        view.allocatable("nvidia.com/a100") == 1 && view.allocatable("nvidia.com/l40s.shared") == 2
    })
    .await;
    assert_eq!(rig.kubelet.view().resources.len(), 2);
    rig.assert_flawless();
}
