//! `cleanup`: what the plugin has written on a node goes after it, and nothing else does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use simnode::node::Node;

use crate::dropin::rig;
use crate::hook::{places, with_own_hooks};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin};

/// Runs the command on a node, as a pod with the plugin's mounts would.
fn cleanup(node: &Node, arguments: &[&str]) -> (i32, String) {
    let hook = node.cdi_directory().with_file_name("hook");
    let mut command = plugin().env("CDI_HOOK_DIR", hook).std_command(node);
    let output = command.arg("cleanup").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The plugin with specifications and its own hook program.
async fn installed() -> (Rig, PathBuf) {
    let node = eight_h100s();
    let (hook, cgroup) = places(&node);
    let options = with_own_hooks(&node, &hook, &cgroup);
    (rig(node, &options, GPU, 32).await, hook)
}

async fn uninstall(rig: &mut Rig) {
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
}

fn specification(node: &Node) -> PathBuf {
    node.cdi_directory().join("k8s.device-plugin.nvidia.com-gpu.json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_plugin_and_containers_with_gpus_keep_their_files() {
    let (mut rig, hook) = installed().await;
    let program = fs::read_dir(&hook).unwrap().next().unwrap().unwrap().path();
    let (code, said) = cleanup(&rig.node, &["--force", "--state"]);
    assert!(code == 1 && said.contains("the plugin runs on this node"), "{said}");
    rig.kubelet.allocate("train", "main", GPU, 1).await.unwrap();
    uninstall(&mut rig).await;
    let (code, said) = cleanup(&rig.node, &[]);
    assert!(code == 1 && said.contains("default/train/main"), "{said}");
    for path in [&specification(&rig.node), &program] {
        assert!(path.exists() && said.contains(&format!("left {}", path.display())), "{said}");
    }
    // Where nobody can say who holds GPUs they stay as well.
    let unknown = ["--pod-resources-socket", "/none/kubelet.sock"];
    let (code, said) = cleanup(&rig.node, &unknown);
    assert!(code == 1 && said.contains("it cannot be told whether pods hold GPUs"), "{said}");
    assert!(program.exists());
    assert_eq!(cleanup(&rig.node, &[&unknown[..], &["--force"]].concat()).0, 0);
    assert!(!program.exists() && !specification(&rig.node).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_plugin_has_written_goes_and_nothing_else() {
    let (mut rig, hook) = installed().await;
    rig.kubelet.allocate("train", "main", GPU, 1).await.unwrap();
    rig.kubelet.release("train");
    uninstall(&mut rig).await;
    let node = &rig.node;
    let state = node.state_directory().join("health.json");
    let [victim, stale] = ["victim", "gpu-cdi-hook-0-old"].map(|name| hook.join(name));
    fs::write(&victim, "of somebody else").unwrap();
    fs::write(&stale, "an old program").unwrap();
    symlink(&victim, hook.join("gpu-cdi-hook-link")).unwrap();
    let foreign = node.cdi_directory().join("k8s.device-plugin.nvidia.com-gds.json");
    fs::write(&foreign, format!("{{\"cdiVersion\": \"0.5.0\", \"x\": {stale:?}}}")).unwrap();
    symlink(&victim, node.cdi_directory().join("k8s.device-plugin.nvidia.com-mofed.json")).unwrap();

    let before = fs::read_dir(&hook).unwrap().count();
    let (code, said) = cleanup(node, &["--dry-run"]);
    assert!(said.contains(&format!("would remove {}", specification(node).display())), "{said}");
    assert_eq!((code, fs::read_dir(&hook).unwrap().count()), (1, before));
    assert!(specification(node).exists());

    // An old program that another file names is needed there.
    let (code, said) = cleanup(node, &[]);
    assert!(code == 1 && said.contains(&format!("{} names it", foreign.display())), "{said}");
    assert!(said.contains("another program has written it") && said.contains("--state removes"));
    assert!(stale.exists() && !specification(node).exists() && state.exists());

    fs::remove_file(&foreign).unwrap();
    for _ in 0..2 {
        let (code, said) = cleanup(node, &["--state"]);
        assert_eq!(code, 0, "{said}");
        assert!(!stale.exists() && !state.exists());
        let mut left: Vec<_> =
            fs::read_dir(&hook).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["gpu-cdi-hook-link", "victim"]);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "of somebody else");
    }
    assert!(!node.state_directory().exists(), "nothing of others was in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_a_plugin_that_was_killed_go_too() {
    let (mut rig, _) = installed().await;
    rig.plugin.signal(9).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    assert!(!rig.node.plugin_sockets().is_empty());
    let (code, said) = cleanup(&rig.node, &["--state"]);
    assert_eq!(code, 0, "{said}");
    assert!(rig.node.plugin_sockets().is_empty(), "{said}");
}
