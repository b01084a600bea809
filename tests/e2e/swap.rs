//! The image is swapped under running pods: what NVIDIA's plugin left in the kubelet's checkpoint
//! is valid for ours.
//!
//! The files in `checkpoints/` have the form in which a kubelet keeps the answers of NVIDIA's
//! plugin v0.20.0, checksum included, for nodes of simnode's profiles.

use std::collections::{BTreeMap, BTreeSet};

use fake_nvml::profiles;
use fake_nvml::state::State;
use simnode::kubelet::{CHECKPOINT, Kubelet, KubeletVersion, View};
use simnode::node::{Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse};

use crate::dropin::{SLICED, config, given};
use crate::rig::{GPU, Rig, kubelet, node, plugin};

/// A node as NVIDIA's plugin left it, and how that was configured.
struct Left {
    checkpoint: &'static str,
    node: State,
    file: String,
    environment: &'static [(&'static str, &'static str)],
    /// How many devices of which resource there are.
    resources: &'static [(&'static str, usize)],
}

/// What one container holds of one resource.
#[derive(Debug)]
pub(crate) struct Held {
    pod: String,
    container: String,
    resource: String,
    ids: Vec<String>,
}

pub(crate) fn held(kubelet: &Kubelet) -> Vec<Held> {
    let mut by_container = BTreeMap::<_, Vec<String>>::new();
    for device in kubelet.pod_devices() {
        by_container
            .entry((device.pod, device.container, device.resource))
            .or_default()
            .push(device.id);
    }
    let containers = by_container.into_iter();
    containers
        .map(|((pod, container, resource), ids)| Held { pod, container, resource, ids })
        .collect()
}

fn left() -> Vec<Left> {
    const SHARED: &str = "nvidia.com/gpu.shared";
    let renamed = SLICED.replace("timeSlicing:\n", "timeSlicing:\n    renameByDefault: true\n");
    vec![
        Left {
            checkpoint: include_str!("checkpoints/whole.json"),
            node: profiles::h100x8(),
            file: "version: v1".to_owned(),
            environment: &[("PASS_DEVICE_SPECS", "true")],
            resources: &[(GPU, 8)],
        },
        Left {
            checkpoint: include_str!("checkpoints/time-sliced.json"),
            node: profiles::h100x8(),
            file: SLICED.to_owned(),
            environment: &[],
            resources: &[(GPU, 32)],
        },
        Left {
            checkpoint: include_str!("checkpoints/time-sliced-renamed-cdi.json"),
            node: profiles::h100x8(),
            file: renamed,
            environment: &[("DEVICE_LIST_STRATEGY", "cdi-cri")],
            resources: &[(SHARED, 32)],
        },
        Left {
            checkpoint: include_str!("checkpoints/mig-mixed.json"),
            node: profiles::h100x8_mig_mixed(),
            file: "version: v1".to_owned(),
            environment: &[("MIG_STRATEGY", "mixed"), ("PASS_DEVICE_SPECS", "true")],
            resources: &[
                (GPU, 4),
                ("nvidia.com/mig-1g.10gb", 18),
                ("nvidia.com/mig-2g.20gb", 2),
                ("nvidia.com/mig-3g.40gb", 2),
            ],
        },
        Left {
            checkpoint: include_str!("checkpoints/mig-single-time-sliced.json"),
            node: profiles::h100x8_mig_single(),
            file: SLICED.replace('4', "2"),
            environment: &[("MIG_STRATEGY", "single"), ("DEVICE_LIST_STRATEGY", "volume-mounts")],
            resources: &[(GPU, 112)],
        },
    ]
}

/// All that a container gets, in no order: NVIDIA's plugin keeps to that of the request, which is
/// random.
fn unordered(answer: &ContainerAllocateResponse) -> BTreeSet<String> {
    let lines = given(answer).into_iter();
    lines
        .map(|line| {
            line.split_once('=')
                .map_or(line.clone(), |(name, ids)| format!("{name}={:?}", set(ids)))
        })
        .collect()
}

fn set(ids: &str) -> BTreeSet<&str> {
    ids.split(',').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nvidias_plugin_allocated_is_still_valid_after_the_swap() {
    for left in left() {
        let node = node(left.node.clone());
        std::fs::create_dir_all(node.kubelet_directory()).unwrap();
        std::fs::write(node.kubelet_directory().join(CHECKPOINT), left.checkpoint).unwrap();
        let options = plugin().env("CONFIG_FILE", config(&node, &left.file));
        let options = left
            .environment
            .iter()
            .fold(options, |options, (name, value)| options.env(*name, *value));
        let kubelet = kubelet(node.kubelet().version(KubeletVersion::V1_36)).await;
        let held = held(&kubelet);
        assert!(!held.is_empty(), "the kubelet takes the file as its own");
        let plugin = Plugin::start(&node, &options).unwrap();
        let mut rig = Rig { kubelet, plugin, node };
        served(&rig, &left, 1).await;
        still_valid(&rig, &held).await;
        the_rest_is_free(&rig, &left, &held).await;
        // The kubelet keeps the answers over its own restart, and ours beside them.
        rig.kubelet.restart().await.unwrap();
        served(&rig, &left, 2).await;
        still_valid(&rig, &held).await;
        replaced(&mut rig, &options, &left, &held).await;
        rig.assert_flawless();
    }
}

/// Waits until every resource has all its devices.
async fn served(rig: &Rig, left: &Left, life: u64) {
    for (resource, count) in left.resources {
        let all = |view: &View| view.life == life && view.allocatable(resource) == *count;
        rig.until(&format!("{count} of {resource}"), all).await;
    }
}

/// Each container starts again with NVIDIA's answer, and ours for the same devices would be the
/// same.
pub(crate) async fn still_valid(rig: &Rig, held: &[Held]) {
    for before in held {
        let answer = rig
            .kubelet
            .allocate(&before.pod, &before.container, &before.resource, before.ids.len())
            .await;
        let answer = answer.unwrap();
        let mut client = rig.kubelet.client(&before.resource).await.unwrap();
        let device_ids = before.ids.clone();
        let request =
            AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] };
        let ours =
            client.allocate(request).await.unwrap().into_inner().container_responses.remove(0);
        assert_eq!(unordered(&ours), unordered(&answer), "{before:?}");
    }
}

/// A new pod gets all that is not held, and nothing else.
async fn the_rest_is_free(rig: &Rig, left: &Left, held: &[Held]) {
    for (resource, count) in left.resources {
        let taken: usize =
            held.iter().filter(|held| held.resource == *resource).map(|held| held.ids.len()).sum();
        let one_more =
            rig.kubelet.allocate("greedy", "main", resource, count - taken + 1).await.unwrap_err();
        assert!(one_more.to_string().contains("unavailable"), "{one_more}");
        rig.kubelet.allocate("new", "main", resource, count - taken).await.unwrap();
    }
}

/// Our own plugin is swapped for a new version of itself.
async fn replaced(rig: &mut Rig, options: &PluginOptions, left: &Left, held: &[Held]) {
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(crate::rig::PATIENCE).await.unwrap();
    for (resource, _) in left.resources {
        rig.until("the kubelet sees it go", |view| view.allocatable(resource) == 0).await;
    }
    rig.plugin = Plugin::start(&rig.node, options).unwrap();
    served(rig, left, 2).await;
    still_valid(rig, held).await;
}
