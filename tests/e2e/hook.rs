//! The plugin's own hook program, and the limits of memory that it sets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use simnode::node::{Node, PluginOptions};

use crate::dropin::{config, rig};
use crate::observe::until;
use crate::rig::{GPU, PATIENCE, eight_h100s, plugin};

/// What is installed: any file will do, since no runtime is here.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/hook.rs");

const LIMITED: &str = "
version: v1
sharing:
  timeSlicing:
    memoryLimits: {enforce: auto}
    resources:
      - {name: nvidia.com/gpu, replicas: 4}
";

/// A directory for the program and one for cgroups, beside the node's other ones.
pub(crate) fn places(node: &Node) -> (PathBuf, PathBuf) {
    let beside = |name| node.cdi_directory().with_file_name(name);
    let (hook, cgroup) = (beside("hook"), beside("cgroup"));
    for directory in [&hook, &cgroup] {
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (hook, cgroup)
}

/// The plugin with its own hooks.
pub(crate) fn with_own_hooks(node: &Node, hook: &Path, cgroup: &Path) -> PluginOptions {
    let path = |path: &Path| path.display().to_string();
    plugin()
        .env("DEVICE_LIST_STRATEGY", "cdi-cri")
        .env("CONFIG_FILE", config(node, LIMITED))
        .env("CDI_HOOK_MODE", "self")
        .env("CDI_HOOK_DIR", path(hook))
        .env("CDI_HOOK_PROGRAM", PROGRAM)
        .env("CGROUP_ROOT", path(cgroup))
}

/// The memory of every device on the bus, as the kernel lists it.
fn list_memory(node: &Node, cgroup: &Path) {
    let devices = fs::read_dir(node.sysfs().join("bus/pci/devices")).unwrap();
    let names = devices.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let lines: String = names.map(|bus| format!("nvidia/{bus}/vidmem 85899345920\n")).collect();
    fs::write(cgroup.join("dmem.capacity"), lines).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_the_limit_of_its_replicas_from_the_plugins_own_hook() {
    let node = eight_h100s();
    let (hook, cgroup) = places(&node);
    list_memory(&node, &cgroup);
    let options = with_own_hooks(&node, &hook, &cgroup);
    let rig = rig(node, &options, GPU, 32).await;
    let answer = rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    let names: Vec<_> = answer.cdi_devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1], format!("{}.memory.1", names[0]));
    let mib: u64 = answer.envs["NVIDIA_GPU_MEMORY_LIMIT"].parse().unwrap();
    let text = fs::read(rig.node.cdi_directory().join("k8s.device-plugin.nvidia.com-gpu.json"));
    let document: Value = serde_json::from_slice(&text.unwrap()).unwrap();
    let name = names[1].split_once('=').unwrap().1;
    let devices = document["devices"].as_array().unwrap();
    let device = devices.iter().find(|device| device["name"] == name).unwrap();
    let of_limit = &device["containerEdits"]["hooks"][0];
    assert_eq!(of_limit["hookName"], "createRuntime");
    let limit = of_limit["args"].as_array().unwrap().last().unwrap().as_str().unwrap();
    assert!(limit.starts_with("--limit=0000:") && limit.ends_with(&format!("={}", mib << 20)));
    // The specification names the program that is on the host.
    let installed: Vec<_> = fs::read_dir(&hook).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(installed.len(), 1);
    assert_eq!(of_limit["path"], installed[0].display().to_string());
    assert_eq!(fs::read(&installed[0]).unwrap(), fs::read(PROGRAM).unwrap());
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_cannot_be_enforced_is_told_and_nobody_waits_for_it() {
    let node = eight_h100s();
    let (hook, cgroup) = places(&node);
    let options = with_own_hooks(&node, &hook, &cgroup).env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = rig(node, &options, GPU, 32).await;
    let why = "memory limits are not enforceable on this node: there is no ";
    rig.logged(why).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let metric = "gpu_device_plugin_findings{kind=\"memory_not_limited\"} 1\n";
    until(&http, "/metrics", metric, |answer| answer.body.contains(metric)).await;
    until(&http, "/status", why, |answer| answer.body.contains(why)).await;
    let mut doctor = plugin().std_command(&rig.node);
    let doctor = doctor.arg("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let warned = "the memory limits of shared GPUs: memory limits are not enforceable on this node";
    assert!(said.contains(warned), "{said}");
    let answer = rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    assert_eq!(answer.cdi_devices.len(), 1);
    rig.assert_flawless();
}
