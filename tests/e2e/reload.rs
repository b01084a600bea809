//! The configuration changes while pods hold devices.

use std::path::Path;
use std::time::{Duration, Instant};

use fake_nvml::profiles;
use simnode::kubelet::ViolationKind;

use crate::dropin::{MpsDaemon, SLICED, config, rig};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, node, plugin};

const SHARED: &str = "nvidia.com/gpu.shared";
const HANGUP: i32 = 1;

fn write(rig: &Rig, text: &str) {
    config(&rig.node, text);
}

/// Time-slicing under another name.
fn renamed(replicas: u32) -> String {
    SLICED
        .replace("timeSlicing:\n", "timeSlicing:\n    renameByDefault: true\n")
        .replace('4', &replicas.to_string())
}

/// Writes another configuration and waits until it is in force.
async fn change(rig: &Rig, text: &str) {
    let seen = rig.plugin.log().len();
    write(rig, text);
    rig.plugin
        .wait_for_log_after(seen, "the new configuration is in force", PATIENCE)
        .await
        .unwrap();
}

/// The plugin's sockets: a server that was started again has another.
fn sockets(rig: &Rig) -> Vec<std::path::PathBuf> {
    rig.node.plugin_sockets()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_resource_is_served_and_the_old_ids_stay_unhealthy_while_pods_hold_them() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, "version: v1"));
    let rig = rig(node, &options, GPU, 8).await;
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    let before = sockets(&rig);
    write(&rig, &renamed(4));
    let view = rig
        .until("the new resource", |view| {
            // The GPU that the pod has is shared with nobody.
            view.allocatable(SHARED) == 28 && view.allocatable(GPU) == 0
        })
        .await;
    assert_eq!(view.capacity(GPU), 8, "no id that a pod may hold has vanished");
    assert!(
        sockets(&rig).iter().any(|socket| *socket == before[0]),
        "the old resource keeps its socket"
    );
    assert_eq!(view.accepted(GPU).count(), 1);
    // And back: the pod's device is Healthy again.
    write(&rig, "version: v1\n");
    rig.until("as before", |view| view.allocatable(GPU) == 8 && view.allocatable(SHARED) == 0)
        .await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_did_not_change_hears_nothing_of_a_reload() {
    let mig = "nvidia.com/mig-3g.40gb";
    let node = node(profiles::h100x8_mig_mixed());
    let options =
        plugin().env("MIG_STRATEGY", "mixed").env("CONFIG_FILE", config(&node, "version: v1"));
    let rig = rig(node, &options, mig, 2).await;
    rig.until("all resources", |view| view.allocatable(GPU) == 4).await;
    write(&rig, SLICED);
    let view = rig.until("replicas", |view| view.allocatable(GPU) == 16).await;
    assert_eq!(view.resource(mig).unwrap().lists_received, 1);
    assert_eq!((view.accepted(mig).count(), view.accepted(GPU).count()), (1, 1));
    // What containers get is no list's business.
    write(&rig, &format!("{SLICED}flags: {{plugin: {{deviceListStrategy: [cdi-cri]}}}}\n"));
    rig.logged("injection=true").await;
    // Names are given once the file with them is written.
    let mut pods = 0;
    let answer = rig.eventually("a CDI name", async || {
        pods += 1;
        let pod = format!("pod-{pods}");
        let answer = rig.kubelet.allocate(&pod, "main", GPU, 1).await.unwrap();
        rig.kubelet.release(&pod);
        (!answer.cdi_devices.is_empty()).then_some(answer)
    });
    let answer = answer.await;
    assert_eq!((answer.cdi_devices.len(), answer.envs.len()), (1, 0));
    assert_eq!(rig.kubelet.view().resource(GPU).unwrap().lists_received, 2);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_change_is_refused_with_its_mistakes_and_the_old_one_stays() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, SLICED));
    let address = format!("unix:{}", node.root().join("http.sock").display());
    let options = options.env("HTTP_ADDRESS", address);
    let rig = rig(node, &options, GPU, 32).await;
    write(
        &rig,
        "version: v1\nflags: {migStrategy: sometimes}\nsharing: {timeSlicing: {resources: [{name: \
            gpu}]}}\n",
    );
    let line = rig.logged("the configuration before stays in force").await;
    assert!(line.contains(" cause=\"file changed\" path="), "{line}");
    // One record has all mistakes, and so has the event.
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&http.get("/status").await.unwrap().body).unwrap();
    let events = status["events"].as_array().unwrap().iter();
    let mut refused = events.filter(|event| event["kind"] == "configurationRefused");
    let event = refused.next().unwrap()["message"].as_str().unwrap().to_owned();
    for part in ["count=2", "flags.migStrategy", "resources[0].replicas", " | "] {
        assert!(line.contains(part), "{part}: {line}");
        assert!(part == "count=2" || event.contains(part), "{part}: {event}");
    }
    assert!(event.contains("2 mistakes: "), "{event}");
    assert_eq!(rig.plugin.log().iter().filter(|line| line.contains("level=ERROR")).count(), 1);
    // So many replicas that the kubelet would not receive the list: refused with the arithmetic.
    write(&rig, &renamed(10_000));
    let line = rig.logged("is refused, the one before stays in force").await;
    assert!(line.contains("8 devices x 10000 replicas x 67 bytes = 5360000 bytes"), "{line}");
    let view = rig.kubelet.view();
    assert_eq!((view.allocatable(GPU), view.resource(GPU).unwrap().lists_received), (32, 1));
    // The replicas have the same ids under the new name.
    rig.kubelet.forgive(ViolationKind::IdOfTwoResources);
    write(&rig, &renamed(2));
    rig.until("a valid one", |view| view.allocatable(SHARED) == 16).await;
}

/// What is in force is looked at, not what was last read.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_for_which_the_host_lacks_something_is_in_force_once_it_is_there() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, "version: v1"));
    let rig = rig(node, &options, GPU, 8).await;
    write(&rig, "version: v1\nimex: {channelIDs: [0], required: true}\n");
    rig.logged("the host has no IMEX channel 0").await;
    let channel = rig.node.dev().join("nvidia-caps-imex-channels/channel0");
    std::fs::create_dir_all(channel.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", channel).unwrap();
    // The host is looked at every 60 s.
    let applied = rig.plugin.wait_for_log("the new configuration is in force", 3 * PATIENCE);
    applied.await.unwrap();
    let refused = |line: &&String| line.contains("is refused, the one before stays in force");
    assert_eq!(rig.plugin.log().iter().filter(refused).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_the_file_again_and_ends_nothing() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, "version: v1"));
    let rig = rig(node, &options, GPU, 8).await;
    rig.plugin.signal(HANGUP).unwrap();
    rig.logged("the configuration has not changed").await;
    write(&rig, SLICED);
    rig.plugin.signal(HANGUP).unwrap();
    rig.until("replicas", |view| view.allocatable(GPU) == 32).await;
    assert_eq!(rig.kubelet.view().accepted(GPU).count(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_without_a_file_ends_nothing() {
    let rig = rig(eight_h100s(), &plugin(), GPU, 8).await;
    rig.plugin.signal(HANGUP).unwrap();
    rig.logged("the configuration has not changed").await;
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
}

/// Lays a file out as the kubelet does for a ConfigMap.
fn config_map(directory: &Path, generation: u32, text: &str) -> std::io::Result<()> {
    let data = directory.join(format!("..{generation}"));
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("config.yaml"), text)?;
    let next = directory.join("..data_tmp");
    std::os::unix::fs::symlink(&data, &next)?;
    std::fs::rename(next, directory.join("..data"))?;
    if generation == 1 {
        std::os::unix::fs::symlink("..data/config.yaml", directory.join("config.yaml"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_maps_symlink_swap_is_applied_at_once() {
    let node = eight_h100s();
    let directory = node.root().join("map");
    config_map(&directory, 1, "version: v1").unwrap();
    let options = plugin().env("CONFIG_FILE", directory.join("config.yaml"));
    let rig = rig(node, &options, GPU, 8).await;
    let mut slowest = Duration::ZERO;
    for (generation, replicas) in [(2, 2), (3, 3), (4, 5)] {
        let began = Instant::now();
        config_map(&directory, generation, &SLICED.replace('4', &replicas.to_string())).unwrap();
        rig.until("replicas", |view| view.allocatable(GPU) == 8 * replicas).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < PATIENCE / 3, "the watch tells before the slow look does: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_under_health_are_in_force_at_once_and_no_resource_is_disturbed() {
    let node = eight_h100s();
    let options =
        plugin().env("CONFIG_FILE", config(&node, "version: v1\nhealth: {suspicion: 300ms}\n"));
    let rig = rig(node, &options, GPU, 8).await;
    // Xid 94 is logged and makes no GPU Unhealthy until the configuration says so.
    rig.node.xid(1, 94).unwrap();
    rig.logged("xid=94").await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    change(
        &rig,
        "version: v1\nhealth: {suspicion: 300ms, xids: {94: unhealthy}, pollInterval: 100ms}\n",
    )
    .await;
    rig.node.xid(2, 94).unwrap();
    rig.until_healthy(2, false).await;
    assert_eq!(
        rig.kubelet.view().allocatable(GPU),
        7,
        "the Xid of GPU 1 came before the change and does not count"
    );
    // The polls that find it come by the new interval: by the old one they would take 10 s.
    let began = Instant::now();
    rig.node.edit_gpu(3, |gpu| gpu.fabric.as_mut().map(|fabric| fabric.status = 999)).unwrap();
    rig.until_healthy(3, false).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(rig.kubelet.view().allocatable(GPU), 6, "what was made fatal stands over polls");
    // A cause is over when it counts no more, though its GPU is as it was.
    change(&rig, "version: v1\nhealth: {suspicion: 300ms, fabric: event, pollInterval: 100ms}\n")
        .await;
    rig.until_healthy(3, true).await;
    rig.until_healthy(2, true).await;
    rig.logged("GPU is degraded").await;
    // Nothing is watched, and then all again: what happened meanwhile is found by asking.
    change(&rig, "version: v1\nhealth: {disabled: true}\n").await;
    rig.node.edit_gpu(4, |gpu| gpu.recovery_action = 1).unwrap();
    rig.node.xid(5, 79).unwrap();
    change(&rig, "version: v1\n").await;
    rig.until_healthy(4, false).await;
    // And events are heard again.
    rig.xid_until_heard(6, 48).await;
    let view = rig.kubelet.view();
    assert_eq!(view.accepted(GPU).count(), 1, "nobody had to register again");
    assert!(!rig.plugin.log().iter().any(|line| line.contains("takes effect at the next start")));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn mps_turned_on_for_a_served_resource_keeps_its_replicas_back_until_the_daemon_answers() {
    let node = eight_h100s();
    let daemon = MpsDaemon::on(&node, GPU);
    let options = daemon
        .seen_by(plugin())
        .env("CONFIG_FILE", config(&node, SLICED))
        .env("MPS_ROOT", "/run/nvidia/mps");
    let rig = rig(node, &options, GPU, 32).await;
    let by_mps = SLICED.replace("timeSlicing", "mps");
    write(&rig, &by_mps);
    rig.logged("cannot share by MPS yet").await;
    rig.until("nobody gets a client that would hang", |view| view.allocatable(GPU) == 0).await;
    daemon.answers("25.0");
    rig.until("the daemon answers", |view| view.allocatable(GPU) == 32).await;
    let answer = rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    assert_eq!(answer.envs["CUDA_MPS_PIPE_DIRECTORY"], "/mps/nvidia.com/gpu/pipe");
    // Turned off and on again, it is asked again.
    daemon.is_gone();
    change(&rig, SLICED).await;
    rig.until("time-slicing needs no daemon", |view| view.allocatable(GPU) == 32).await;
    let answer = rig.kubelet.allocate("other", "main", GPU, 1).await.unwrap();
    assert!(!answer.envs.contains_key("CUDA_MPS_PIPE_DIRECTORY"));
    write(&rig, &by_mps);
    rig.until("it is asked again", |view| view.allocatable(GPU) == 0).await;
    daemon.answers("25.0");
    rig.until("the daemon answers", |view| view.allocatable(GPU) == 32).await;
    assert_eq!(rig.kubelet.view().accepted(GPU).count(), 1);
    rig.assert_flawless();
}
