//! MPS end to end: the plugin, the supervisor, and the driver's programs.

use std::time::Duration;

use fake_mps::Fault;
use simnode::eventually;
use simnode::node::Plugin;

use crate::dropin::{MpsDaemon, SLICED, config, given, rig};
use crate::mps_node::{MpsNode, kill, shared};
use crate::rig::{GPU, PATIENCE, eight_h100s, plugin};

/// What a container gets may be several replicas of one GPU.
const SEVERAL: &str = "    failRequestsGreaterThanOne: false\n";

pub(crate) async fn logged(supervisor: &Plugin, text: &str) {
    supervisor.wait_for_log(text, PATIENCE).await.expect("the line is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_done_in_order_and_undone_at_a_stop_under_running_clients() {
    let mps = MpsNode::new(&shared(4, "")).await;
    mps.rig.logged("cannot share by MPS yet").await;
    let mut supervisor = mps.supervise();
    mps.allocatable(GPU, 8, &supervisor).await;
    let (first, second) = (mps.rig.node.uuid(0), mps.rig.node.uuid(1));
    let query = "--query-gpu=compute_mode --format=csv,noheader";
    let memory = mps.rig.node.state().gpus[0].memory_mib / 4;
    let started = [
        format!("nvidia-smi -i {first} {query}"),
        format!("nvidia-smi -i {first} -c EXCLUSIVE_PROCESS"),
        format!("nvidia-smi -i {second} {query}"),
        format!("nvidia-smi -i {second} -c EXCLUSIVE_PROCESS"),
        format!("start -f CUDA_VISIBLE_DEVICES={first},{second} CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        format!("command set_default_device_pinned_mem_limit 0 {memory}M"),
        format!("command set_default_device_pinned_mem_limit 1 {memory}M"),
        "command set_default_active_thread_percentage 25".to_owned(),
    ];
    assert_eq!(mps.trace(), started);
    assert!(mps.root.join(GPU).join(".started").exists() && mps.root.join(".ready").exists());
    let mut client = mps.client(4711, 0, &[]);
    let granted = client.granted().unwrap().unwrap();
    assert_eq!((granted.threads, granted.memory[&1]), (25.0, memory));

    supervisor.terminate().unwrap();
    client.ended();
    assert!(supervisor.wait_exit(PATIENCE).await.unwrap().success(), "{:?}", supervisor.log());
    mps.allocatable(GPU, 0, &supervisor).await;
    let stopped = [
        "command quit".to_owned(),
        "exit".to_owned(),
        format!("nvidia-smi -i {first} -c DEFAULT"),
        format!("nvidia-smi -i {second} -c DEFAULT"),
    ];
    let trace = mps.trace();
    let mut undone = trace[started.len()..].to_vec();
    undone[2..].sort();
    let mut expected = stopped.to_vec();
    expected[2..].sort();
    assert_eq!(undone, expected);
    let log = std::fs::read_to_string(mps.root.join(GPU).join("log/control.log")).unwrap();
    assert!(log.contains("Cmd:quit") && log.trim_end().ends_with("Exit"), "{log}");
    assert!(supervisor.log().iter().any(|line| line.contains(" Exit")), "{:?}", supervisor.log());
    assert!(!mps.root.join(GPU).join(".started").exists());
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_is_started_again_and_its_devices_are_unhealthy_meanwhile() {
    let (mps, supervisor) = MpsNode::served(2).await;
    let lists = |mps: &MpsNode| mps.rig.kubelet.view().resource(GPU).unwrap().lists_received;
    let before = lists(&mps);
    // So that the moment lasts until it is looked at.
    mps.fault("start", Some(Fault::Hang));
    let killed = mps.daemon(GPU).unwrap();
    kill(killed);
    mps.allocatable(GPU, 0, &supervisor).await;
    assert_eq!(lists(&mps), before + 1, "one list tells of all");
    mps.rig.logged("the MPS control daemon is gone").await;
    logged(&supervisor, "it has ended (signal: 9").await;
    mps.fault("start", None);
    mps.allocatable(GPU, 4, &supervisor).await;
    assert_ne!(mps.daemon(GPU), Some(killed));
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_resources_a_broken_one_does_not_touch_the_other() {
    let mps = MpsNode::of_two_resources().await;
    let step = format!("nvidia-smi {}", mps.rig.node.uuid(1));
    mps.fault(&step, Some(Fault::Refuse("Insufficient Permissions".to_owned())));
    let supervisor = mps.supervise();
    mps.allocatable("nvidia.com/one", 2, &supervisor).await;
    logged(&supervisor, "Insufficient Permissions").await;
    assert_eq!(mps.rig.kubelet.view().allocatable("nvidia.com/two"), 0);
    let one = mps.daemon("nvidia.com/one");
    mps.rig.logged("Insufficient Permissions").await;
    mps.fault(&step, None);
    mps.allocatable("nvidia.com/two", 3, &supervisor).await;
    assert_eq!(mps.daemon("nvidia.com/one"), one, "the other one was not touched");
    assert_eq!(mps.rig.kubelet.view().allocatable("nvidia.com/one"), 2);
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_fails_takes_its_replicas_and_no_client_of_another_gpu() {
    let (mps, supervisor) = MpsNode::served(2).await;
    let daemon = mps.daemon(GPU);
    mps.rig.node.lose(0).unwrap();
    mps.allocatable(GPU, 2, &supervisor).await;
    let view = mps.rig.kubelet.view();
    for (index, healthy) in [(0, false), (1, true)] {
        for replica in 0..2 {
            let id = format!("{}::{replica}", mps.rig.node.uuid(index));
            assert_eq!(view.healthy(GPU, &id), Some(healthy), "{id}");
        }
    }
    assert_eq!(mps.daemon(GPU), daemon);
    // A daemon that is started now leaves the GPU out: CUDA would see none after it.
    logged(&supervisor, "have another health").await;
    kill(daemon.unwrap());
    let second = mps.rig.node.uuid(1);
    let alone = format!("CUDA_VISIBLE_DEVICES={second} ");
    let started = async || mps.trace().iter().any(|line| line.contains(&alone)).then_some(());
    if let Err(error) = eventually("it is started on the other one", PATIENCE, started).await {
        panic!("{error:#}\n{}", supervisor.log().join("\n"));
    }
    mps.allocatable(GPU, 2, &supervisor).await;
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_sends_is_told_and_undone() {
    let (mps, supervisor) = MpsNode::served(4).await;
    mps.tenant_sends("set_default_active_thread_percentage 100");
    logged(&supervisor, "a command that is not the supervisor's").await;
    let threads = async || {
        (mps.tenant_sends("get_default_active_thread_percentage") == "25.0\n").then_some(())
    };
    eventually("the limits are set again", PATIENCE, threads).await.unwrap();
    let daemon = mps.daemon(GPU);
    mps.tenant_sends("quit");
    logged(&supervisor, "it was told to quit by a command that is not the supervisor's").await;
    mps.rig.logged("the MPS control daemon is gone").await;
    let again = async || mps.daemon(GPU).filter(|_| mps.daemon(GPU) != daemon);
    eventually("it is started again", PATIENCE, again).await.unwrap();
    mps.allocatable(GPU, 8, &supervisor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_wait_for_each_other_unless_one_server_is_for_all() {
    for for_all in [false, true] {
        let flags = format!("flags: {{mpsMultiUser: {for_all}}}\n");
        let mps = MpsNode::new(&(shared(2, "") + &flags)).await;
        let supervisor = mps.supervise();
        mps.allocatable(GPU, 4, &supervisor).await;
        let root = mps.client(1, 0, &[]);
        assert!(root.granted().unwrap().is_some());
        let other = mps.client(2, 1000, &[]);
        assert_eq!(other.granted().unwrap().is_some(), for_all);
        drop(root);
        if !for_all {
            assert!(other.granted().unwrap().is_some(), "the first user has gone");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_was_killed_leaves_a_daemon_that_the_next_one_ends() {
    let mps = MpsNode::new(&shared(2, "")).await;
    mps.set_mode(1, "Prohibited");
    let mut supervisor = mps.supervise();
    mps.allocatable(GPU, 4, &supervisor).await;
    let daemon = mps.daemon(GPU);
    assert_eq!(mps.mode(1), "Exclusive_Process");
    supervisor.signal(9).unwrap();
    supervisor.wait_exit(PATIENCE).await.unwrap();
    let supervisor = mps.supervise();
    logged(&supervisor, "of before is still there").await;
    let again = async || mps.daemon(GPU).filter(|_| mps.daemon(GPU) != daemon);
    eventually("it is another one", PATIENCE, again).await.unwrap();
    mps.allocatable(GPU, 4, &supervisor).await;
    // What the mode was before is known over it.
    supervisor.terminate().unwrap();
    let modes = || (mps.mode(0), mps.mode(1));
    let before = ("Default".to_owned(), "Prohibited".to_owned());
    let restored = async || (modes() == before).then_some(());
    eventually("the compute modes of before", PATIENCE, restored).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_mute_refuses_or_speaks_another_protocol_by_default_is_dealt_with() {
    let mps = MpsNode::new(&shared(2, "")).await;
    // As drivers from r615 on may, where nothing asks for another one.
    mps.speaks(3);
    mps.fault("set_default_active_thread_percentage", Some(Fault::Refuse("not now".to_owned())));
    let supervisor = mps.supervise();
    logged(&supervisor, "not now").await;
    mps.rig.logged("not now").await;
    mps.fault("set_default_active_thread_percentage", None);
    mps.allocatable(GPU, 4, &supervisor).await;
    // It hangs, and so does its end.
    mps.fault("get_default_active_thread_percentage", Some(Fault::Hang));
    mps.fault("quit", Some(Fault::Hang));
    mps.allocatable(GPU, 0, &supervisor).await;
    mps.rig.logged("did not answer within").await;
    mps.fault("get_default_active_thread_percentage", None);
    mps.fault("quit", None);
    mps.allocatable(GPU, 4, &supervisor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_slow_is_waited_for_and_one_that_dies_at_a_command_is_started_again() {
    let mps = MpsNode::new(&shared(2, "")).await;
    mps.fault("start", Some(Fault::Slow(500)));
    mps.fault("set_default_device_pinned_mem_limit", Some(Fault::Slow(200)));
    mps.fault("set_default_active_thread_percentage", Some(Fault::Die));
    let supervisor = mps.supervise();
    mps.rig.logged("it has ended (signal: 6").await;
    assert_eq!(mps.rig.kubelet.view().allocatable(GPU), 0);
    mps.fault("set_default_active_thread_percentage", None);
    mps.allocatable(GPU, 4, &supervisor).await;
    let starts = mps.trace().iter().filter(|line| line.starts_with("start -f")).count();
    assert!(starts >= 2, "{:?}", mps.trace());
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_supervisor_whose_daemon_does_not_end() {
    let (mps, mut supervisor) = MpsNode::served(2).await;
    mps.fault("quit", Some(Fault::Hang));
    supervisor.terminate().unwrap();
    logged(&supervisor, "asked to stop").await;
    // The first ones can still pass for echoes of the first.
    let status = loop {
        if let Ok(status) = supervisor.wait_exit(Duration::from_millis(50)).await {
            break status;
        }
        let _ = supervisor.terminate();
    };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6));
    kill(mps.daemon(GPU).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_two_and_four_replicas_of_a_gpu_are_the_sum_of_their_shares() {
    let packed = |options: simnode::node::PluginOptions| {
        options.env("SHARED_DEVICES_ALLOCATION_POLICY", "packed")
    };
    let mps = MpsNode::with(&shared(4, SEVERAL), packed, |_| {}).await;
    let supervisor = mps.supervise();
    mps.allocatable(GPU, 8, &supervisor).await;
    let all = mps.rig.node.state().gpus[0].memory_mib;
    let mut pods = Vec::new();
    for (count, threads) in [(4, "100"), (2, "50"), (1, "25")] {
        let answer =
            mps.rig.kubelet.allocate(&format!("pod-{count}"), "main", GPU, count).await.unwrap();
        assert_eq!(answer.envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], threads);
        let limit = &answer.envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"];
        let memory: u64 = limit.trim_start_matches("0=").trim_end_matches('M').parse().unwrap();
        assert_eq!(memory, all / 4 * u64::try_from(count).unwrap(), "{:?}", given(&answer));
        pods.push((answer.envs["NVIDIA_VISIBLE_DEVICES"].clone(), limit.clone()));
    }
    // The daemon itself limits nothing below that.
    let granted = mps.client(1, 0, &[("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "50")]).granted();
    assert_eq!(granted.unwrap().unwrap().threads, 50.0);
    assert_ne!(pods[0].0, pods[1].0, "the first pod has a GPU for itself");
    // One is left, and another of the first GPU is not.
    let refused = mps.rig.kubelet.allocate("greedy", "main", GPU, 2).await;
    assert!(refused.is_err(), "there is only one");
    mps.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_nvidias_is_asked_as_long_as_it_is_used() {
    let node = eight_h100s();
    let daemon = MpsDaemon::on(&node, GPU);
    daemon.answers("25.0");
    let options = daemon
        .seen_by(plugin())
        .env("CONFIG_FILE", config(&node, &SLICED.replace("timeSlicing", "mps")))
        .env("MPS_ROOT", "/run/nvidia/mps");
    let rig = rig(node, &options, GPU, 32).await;
    daemon.is_gone();
    rig.until("it is gone", |view| view.allocatable(GPU) == 0).await;
    rig.logged("the MPS control daemon is gone").await;
    daemon.answers("25.0");
    rig.until("it is back", |view| view.allocatable(GPU) == 32).await;
    rig.assert_flawless();
}
