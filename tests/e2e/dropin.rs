//! Where NVIDIA's plugin ran before: what it left with the kubelet stays valid, and every way to
//! hand over a device is as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fake_nvml::profiles;
use simnode::kubelet::{KubeletVersion, View};
use simnode::node::{Node, Plugin, PluginOptions};
use simnode::proto::ContainerAllocateResponse;

use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, node, plugin, replace, script};

/// Time-slicing of whole GPUs, as NVIDIA's README writes it.
pub(crate) const SLICED: &str = "version: v1
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 4
";

/// A config file on the node.
pub(crate) fn config(node: &Node, text: &str) -> String {
    let path = node.root().join("config.yaml");
    replace(&path, text);
    path.display().to_string()
}

/// The plugin with a list of `allocatable` devices of `resource`.
pub(crate) async fn rig(
    node: Node,
    options: &PluginOptions,
    resource: &str,
    allocatable: usize,
) -> Rig {
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, options).expect("the plugin");
    let rig = Rig { kubelet, plugin, node };
    rig.until(&format!("{allocatable} of {resource}"), |view: &View| {
        view.allocatable(resource) == allocatable
    })
    .await;
    rig
}

/// All that a container gets, a line each; the random part of an annotation's key is cut off.
pub(crate) fn given(answer: &ContainerAllocateResponse) -> Vec<String> {
    let envs: BTreeMap<_, _> = answer.envs.iter().collect();
    let mut lines: Vec<String> =
        envs.into_iter().map(|(name, value)| format!("env {name}={value}")).collect();
    for mount in &answer.mounts {
        lines.push(format!(
            "mount {} {} {}",
            mount.host_path, mount.container_path, mount.read_only
        ));
    }
    for node in &answer.devices {
        lines.push(format!("node {} {} {}", node.host_path, node.container_path, node.permissions));
    }
    for (key, value) in &answer.annotations {
        let (name, random) = key.split_once('_').expect("a key with a random part");
        assert_eq!(random.len(), 36, "{key}");
        lines.push(format!("annotation {name}={value}"));
    }
    lines.extend(answer.cdi_devices.iter().map(|device| format!("cdi {}", device.name)));
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_strategy_answers_byte_for_byte() {
    // NVIDIA's plugin, "1.9 Allocate response per strategy".
    let (id, root) = ("<id>", "/var/run/nvidia-container-devices");
    let envvar = format!("env NVIDIA_VISIBLE_DEVICES={id}");
    let listed = format!("env NVIDIA_VISIBLE_DEVICES={root}");
    let mount = format!("mount /dev/null {root}/{id} false");
    let cdi = format!("k8s.device-plugin.nvidia.com/gpu={id}");
    let annotation = format!("annotation cdi.k8s.io/nvidia-device-plugin={cdi}");
    let cri = format!("cdi {cdi}");
    let table: &[(&str, &[&str])] = &[
        ("envvar", &[&envvar]),
        ("volume-mounts", &[&listed, &mount]),
        ("cdi-annotations", &[&annotation]),
        ("cdi-cri", &[&cri]),
        ("envvar,cdi-cri", &[&envvar, &cri]),
        ("envvar,volume-mounts,cdi-annotations,cdi-cri", &[&listed, &mount, &annotation, &cri]),
    ];
    for (strategies, expected) in table {
        for by in ["uuid", "index"] {
            let node = node(profiles::h100x1());
            let options =
                plugin().env("DEVICE_LIST_STRATEGY", *strategies).env("DEVICE_ID_STRATEGY", by);
            let rig = rig(node, &options, GPU, 1).await;
            let answer = rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
            let name = if by == "index" { "0".to_owned() } else { rig.node.uuid(0) };
            let expected: Vec<_> = expected.iter().map(|line| line.replace(id, &name)).collect();
            assert_eq!(given(&answer), expected, "{strategies} by {by}");
            rig.assert_flawless();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn device_nodes_are_passed_as_they_are_on_the_host() {
    // NVIDIA's plugin, "1.10 pass-device-specs" and "1.11 GDS / MOFED / GDRCopy / IMEX".
    let node = node(profiles::h100x8_mig_single());
    std::fs::remove_file(node.dev().join("nvidia-modeset")).unwrap();
    let channels = node.dev().join("nvidia-caps-imex-channels");
    std::fs::create_dir(&channels).unwrap();
    std::os::unix::fs::symlink("/dev/null", channels.join("channel0")).unwrap();
    let options = plugin()
        .env("MIG_STRATEGY", "mixed")
        .env("PASS_DEVICE_SPECS", "true")
        .env("NVIDIA_DEV_ROOT", "/run/nvidia/driver")
        .env("IMEX_CHANNEL_IDS", "0")
        .env("GDS_ENABLED", "true");
    let resource = "nvidia.com/mig-1g.10gb";
    let rig = rig(node, &options, resource, 56).await;
    let mig = rig.node.state().gpus[0].mig.clone().unwrap().devices[0].clone();
    let mut client = rig.kubelet.client(resource).await.unwrap();
    let request = simnode::proto::AllocateRequest {
        container_requests: vec![simnode::proto::ContainerAllocateRequest {
            device_ids: vec![mig.uuid.clone()],
        }],
    };
    let answer = client.allocate(request).await.unwrap().into_inner().container_responses.remove(0);
    // The simulated driver lists nine capabilities for each GPU instance, from 3 on.
    let cap = 3 + mig.gpu_instance * 9;
    let paths = [
        "/dev/nvidiactl".to_owned(),
        "/dev/nvidia-uvm".to_owned(),
        "/dev/nvidia-uvm-tools".to_owned(),
        "/dev/nvidia0".to_owned(),
        format!("/dev/nvidia-caps/nvidia-cap{cap}"),
        format!("/dev/nvidia-caps/nvidia-cap{}", cap + 1),
        "/dev/nvidia-caps-imex-channels/channel0".to_owned(),
    ];
    let mut expected = vec![
        "env NVIDIA_GDS=enabled".to_owned(),
        "env NVIDIA_IMEX_CHANNELS=0".to_owned(),
        format!("env NVIDIA_VISIBLE_DEVICES={}", mig.uuid),
    ];
    expected.extend(paths.iter().map(|path| format!("node /run/nvidia/driver{path} {path} rw")));
    assert_eq!(given(&answer), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imex_channel_that_is_required_and_missing_is_an_error_that_says_so() {
    let node = eight_h100s();
    let options = plugin().env("IMEX_CHANNEL_IDS", "0").env("IMEX_REQUIRED", "true");
    let mut plugin = Plugin::start(&node, &options).unwrap();
    assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(1));
    assert!(plugin.log().join("\n").contains("channel0"), "{:?}", plugin.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_time_slicing_a_failing_gpu_takes_all_its_replicas_with_it() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, SLICED));
    let rig = rig(node, &options, GPU, 32).await;
    rig.node.xid(3, 79).unwrap();
    let view = rig.until("four replicas fewer", |view| view.allocatable(GPU) == 28).await;
    for replica in 0..4 {
        assert_eq!(view.healthy(GPU, &format!("{}::{replica}", rig.node.uuid(3))), Some(false));
    }
    // One list changes all four.
    assert_eq!(view.resource(GPU).unwrap().lists_received, 2);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_replica_is_refused_in_nvidias_words() {
    // NVIDIA's plugin, "1.17 Sharing": failRequestsGreaterThanOne.
    let node = eight_h100s();
    let text = SLICED.replace(
        "timeSlicing:\n",
        "timeSlicing:\n    renameByDefault: true\n    failRequestsGreaterThanOne: true\n",
    );
    let options = plugin().env("CONFIG_FILE", config(&node, &text));
    let shared = "nvidia.com/gpu.shared";
    let rig = rig(node, &options, shared, 32).await;
    rig.kubelet.allocate("pod", "main", shared, 1).await.unwrap();
    let refused = rig.kubelet.allocate("greedy", "main", shared, 2).await.unwrap_err();
    let words = "invalid allocation request for \"nvidia.com/gpu.shared\": invalid request: \
        maximum request size for shared resources is 1; found 2";
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!(rig.kubelet.view().capacity(GPU), 0);
}

/// NVIDIA's MPS control daemon, played by a script in the place of its client.
pub(crate) struct MpsDaemon {
    client: PathBuf,
    checks: String,
}

impl MpsDaemon {
    /// Not running yet, for a resource on this node.
    pub(crate) fn on(node: &Node, resource: &str) -> Self {
        let bin = node.root().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let checks = format!(
            "[ \"$CUDA_MPS_PIPE_DIRECTORY\" = /mps/{resource}/pipe ] || exit 3\n\
             [ \"$question\" = get_default_active_thread_percentage ] || exit 4"
        );
        let daemon = Self { client: bin.join("nvidia-cuda-mps-control"), checks };
        daemon.is_gone();
        daemon
    }

    /// The plugin finds the client on its path.
    pub(crate) fn seen_by(&self, options: PluginOptions) -> PluginOptions {
        let bin = self.client.parent().unwrap().display();
        options.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
    }

    pub(crate) fn answers(&self, text: &str) {
        self.script(&format!("echo {text}"));
    }

    pub(crate) fn is_gone(&self) {
        self.script("echo 'Cannot find MPS control daemon process' >&2; exit 1");
    }

    fn script(&self, answer: &str) {
        let next = self.client.with_extension("next");
        script(&next, &format!("#!/bin/sh\nread question\n{}\n{answer}\n", self.checks));
        std::fs::rename(&next, &self.client).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_mps_shares_is_unhealthy_until_its_daemon_answers() {
    let shared = "nvidia.com/gpu.shared";
    let node = eight_h100s();
    let daemon = MpsDaemon::on(&node, shared);
    let text = SLICED.replace("timeSlicing:\n", "mps:\n    renameByDefault: true\n");
    let options = daemon
        .seen_by(plugin())
        .env("CONFIG_FILE", config(&node, &text))
        .env("MPS_ROOT", "/run/nvidia/mps");
    let kubelet = kubelet(node.kubelet().version(KubeletVersion::V1_36)).await;
    let plugin = Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.logged("Cannot find MPS control daemon process").await;
    rig.until("the list", |view| view.capacity(shared) == 32).await;
    assert_eq!(rig.kubelet.view().allocatable(shared), 0);
    daemon.answers("25.0");
    rig.until("the daemon answers", |view| view.allocatable(shared) == 32).await;
    let answer = rig.kubelet.allocate("pod", "main", shared, 1).await.unwrap();
    assert_eq!(
        given(&answer),
        [
            "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu.shared/pipe",
            &format!("env NVIDIA_VISIBLE_DEVICES={}", rig.node.uuid(0)),
            "mount /run/nvidia/mps/nvidia.com/gpu.shared/pipe /mps/nvidia.com/gpu.shared/pipe \
                false",
            "mount /run/nvidia/mps/shm /dev/shm false",
        ]
    );
    rig.assert_flawless();
}
