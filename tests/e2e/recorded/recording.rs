//! A node with the plugin on it whose answers are compared with what was recorded.

use std::path::Path;

use expect_test::expect_file;
use serde_json::Value;
use simnode::eventually;
use simnode::node::{HttpAddress, Node, PluginOptions};

use super::{calls, reduced};
use crate::rig::{PATIENCE, Rig};

/// The plugin on a node, serving HTTP on a unix socket.
pub(crate) struct Recording {
    pub(crate) rig: Rig,
    name: &'static str,
    http: HttpAddress,
    resources: Vec<&'static str>,
}

impl Recording {
    /// Starts the plugin, and waits until these resources have that many devices and all is known
    /// that is read after the first list.
    pub(crate) async fn of(
        name: &'static str,
        node: Node,
        options: PluginOptions,
        resources: &[(&'static str, usize)],
    ) -> Self {
        let socket = node.root().join("http.sock");
        let http = format!("unix:{}", socket.display());
        let options = options.env("HTTP_ADDRESS", http).env("HEALTH_POLL_INTERVAL", "200ms");
        let (first, count) = resources[0];
        let rig = crate::dropin::rig(node, &options, first, count).await;
        for (resource, count) in resources {
            rig.until(resource, |view| view.allocatable(resource) == *count).await;
        }
        let resources = resources.iter().map(|(resource, _)| *resource).collect();
        let recording = Self { rig, name, http: HttpAddress::Unix(socket), resources };
        recording.until("all is known", |status| status["plugin"]["ready"] == true).await;
        let linked = recording.rig.node.state().gpus.iter().any(|gpu| !gpu.nvlinks.is_empty());
        let links_known = |gpu: &Value| !linked || gpu["nvlinkIsland"].is_number();
        let known = |gpu: &Value| links_known(gpu) && gpu["recoveryAction"].is_object();
        recording.until("each GPU is known", |status| all(&status["gpus"], known)).await;
        recording
    }

    /// Waits for a condition of the status; a failure shows the last one and the plugin's log.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let look = async || {
            last = serde_json::from_str(&self.http.get("/status").await.ok()?.body).unwrap();
            is(&last).then_some(())
        };
        if let Err(error) = eventually(what, PATIENCE, look).await {
            panic!("{error}: {last:#}\n{}", self.rig.plugin.log().join("\n"));
        }
    }

    /// Waits until an event of this kind is in the status, of this GPU where it is about one.
    pub(crate) async fn until_event(&self, kind: &str, gpu_index: Option<usize>) {
        let gpu = gpu_index.map_or(Value::Null, Value::from);
        let it = |event: &Value| event["kind"] == kind && event["gpuIndex"] == gpu;
        let is = |status: &Value| status["events"].as_array().unwrap().iter().any(it);
        self.until(kind, is).await;
    }

    /// Moves a file to this path on the node: it is not seen before its text is in it.
    pub(crate) fn place(&self, path: &Path, text: &str) {
        let next = self.rig.node.root().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// A pod takes devices of the first resource, and the plugin knows of it.
    pub(crate) async fn hold(&self, count: usize) {
        let resource = self.resources[0];
        self.rig.kubelet.allocate("train-0", "main", resource, count).await.unwrap();
        let held = |of: &Value| of["name"] != resource || of["allocated"] == count;
        self.until("the holder", |status| all(&status["resources"], held)).await;
    }

    /// Compares lists, preferred allocations and Allocate.
    pub(crate) async fn calls(&self) {
        let mut text = String::new();
        for resource in &self.resources {
            text += &(calls::answers(&self.rig, resource).await + "\n");
        }
        self.compare("calls.txt", &text);
    }

    /// Compares the lists alone.
    pub(crate) fn lists(&self, file: &str) {
        let lists = self.resources.iter().map(|resource| calls::list(&self.rig, resource));
        self.compare(file, &lists.collect::<Vec<_>>().join("\n"));
    }

    /// Compares `/metrics`, once every list sent is counted, and `/status`.
    pub(crate) async fn state(&self, state: &str) {
        let metrics = async || {
            let metrics = self.http.get("/metrics").await.unwrap().body;
            let counted = self.resources.iter().all(|resource| {
                let lists = self.rig.kubelet.lists(resource).len();
                let sent = "gpu_device_plugin_listandwatch_updates_sent_total";
                metrics.contains(&format!("{sent}{{resource=\"{resource}\"}} {lists}\n"))
            });
            counted.then_some(metrics)
        };
        let metrics = self.rig.eventually("the lists are counted", metrics).await;
        self.compare(&format!("{state}.metrics.txt"), &reduced::metrics(&metrics));
        let status = self.http.get("/status").await.unwrap().body;
        let status = reduced::status(serde_json::from_str(&status).unwrap());
        self.compare(&format!("{state}.status.json"), &status);
    }

    fn compare(&self, file: &str, text: &str) {
        let path = format!("{}/{file}", self.name);
        expect_file![path].assert_eq(text);
    }
}

fn all(items: &Value, is: impl Fn(&Value) -> bool) -> bool {
    items.as_array().is_some_and(|items| items.iter().all(is))
}
