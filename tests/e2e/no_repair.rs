//! What is no evidence of a repair: another pod of the plugin, and failing to look. On a driver
//! without a recovery action nothing else tells whether a GPU was reset.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fake_nvml::state::Rule;
use simnode::node::PluginOptions;

use crate::health::{QUICK, configured, old_driver};
use crate::journal::Journal;
use crate::rig::{GPU, Rig, node, script};

/// The directory of a kernel module that every machine has, in place of NVIDIA's.
const MODULE: &str = "module/printk";
const TERMINATE: i32 = 15;

/// A node on which GPU 3 has had an uncontained error, and how its plugin was started.
async fn broken() -> (Rig, PluginOptions, Journal) {
    let node = node(old_driver());
    let module = node.sysfs().join("module");
    fs::create_dir_all(&module).unwrap();
    symlink(Path::new("/sys").join(MODULE), module.join("nvidia")).unwrap();
    let journal = Journal::of(&node);
    let options = journal.kept_by(configured(&node, QUICK));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.xid_until_heard(3, 95).await;
    rig.state_file_has("\"number\": 95").await;
    (rig, options, journal)
}

impl Rig {
    /// Waits for some polls; the GPU was Unhealthy in every list from this one on.
    async fn stays_unhealthy(&self, journal: &Journal, from: usize) {
        self.polled(journal, 30).await;
        let uuid = self.node.uuid(3);
        for list in &self.kubelet.lists(GPU)[from..] {
            let gpu = list.devices.iter().find(|device| device.id == uuid);
            assert_eq!(gpu.map(|gpu| gpu.health.as_str()), Some("Unhealthy"), "{list:?}");
        }
        assert_eq!(self.kubelet.view().healthy(GPU, &uuid), Some(false));
    }

    /// The plugin's next process, with its first list.
    async fn next(self, options: &PluginOptions) -> Self {
        let registrations = self.registrations() + 1;
        let rig = self.restarted(options, TERMINATE).await;
        rig.until("the next plugin", |view| {
            view.accepted(GPU).count() == registrations && view.capacity(GPU) == 8
        })
        .await;
        rig
    }
}

/// The same in a network namespace of its own, where sysfs is another file system.
fn in_another_pod(rig: &Rig, options: &PluginOptions) -> Option<PluginOptions> {
    let sysfs = rig.node.root().join("sys-of-the-pod");
    fs::create_dir(&sysfs).unwrap();
    let mount = format!("mount -t sysfs none {} && exec \"$0\" \"$@\"", sysfs.display());
    let apart = ["--user", "--map-root-user", "--net", "--mount", "sh", "-c", mount.as_str()];
    if !Command::new("unshare").args(apart).arg("true").status().is_ok_and(|of| of.success()) {
        println!("not tested: this machine allows no network namespace with a sysfs");
        return None;
    }
    let module = rig.node.sysfs().join("module/nvidia");
    fs::remove_file(&module).unwrap();
    symlink(sysfs.join(MODULE), &module).unwrap();
    let pod = rig.node.root().join("pod");
    let words = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user --net --mount sh -c '{mount}' {} \"$@\"\n",
        options.binary.display()
    );
    script(&pod, &words);
    Some(PluginOptions { binary: pod, ..options.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pod_of_the_plugin_is_no_new_load_of_the_driver() {
    let (rig, options, journal) = broken().await;
    let Some(options) = in_another_pod(&rig, &options) else { return };
    let lists = rig.kubelet.lists(GPU).len();
    let rig = rig.next(&options).await;
    rig.stays_unhealthy(&journal, lists).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_to_look_at_a_gpu_is_no_repair_of_it() {
    let (rig, options, journal) = broken().await;
    let lists = rig.kubelet.lists(GPU).len();
    for code in [15, 999] {
        let rule = Rule::answer("nvmlDevice*", code);
        rig.node.edit_gpu(3, |gpu| gpu.rules.push(rule)).unwrap();
        rig.polled(&journal, 12).await;
        rig.node.edit_gpu(3, |gpu| gpu.rules.clear()).unwrap();
        rig.stays_unhealthy(&journal, lists).await;
    }
    // Nor is it one that the next plugin could not identify it at first.
    let rule = Rule::answer("nvmlDeviceGetUUID", 999);
    rig.node.edit_gpu(3, |gpu| gpu.rules.push(rule)).unwrap();
    let rig = rig.next(&options).await;
    rig.stays_unhealthy(&journal, lists).await;
    rig.node.edit_gpu(3, |gpu| gpu.rules.clear()).unwrap();
    rig.stays_unhealthy(&journal, lists).await;
    rig.assert_flawless();
}
