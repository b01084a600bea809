//! The plugin on a simulated node, and what its log says.

use std::time::Duration;

use anyhow::Context;
use fake_nvml::profiles;
use simnode::kubelet::{Kubelet, View};
use simnode::node::{Node, Plugin, PluginOptions};

use super::args::Args;
use super::{GPU, PATIENCE};

/// How old the state file of the fake NVML is at the start. While it is younger than 12 ms each
/// call reads it again, which would be measured.
const STATE_FILE_AGE: Duration = Duration::from_millis(20);

/// The plugin on a node with a kubelet.
pub(super) struct Bench {
    pub(super) kubelet: Kubelet,
    pub(super) plugin: Plugin,
    pub(super) node: Node,
}

impl Bench {
    pub(super) async fn start(
        args: &Args,
        prepare: impl FnOnce(&Node, PluginOptions) -> PluginOptions,
    ) -> anyhow::Result<Self> {
        let node = Node::with_library(profiles::h100x8(), &args.nvml_library)?;
        let kubelet = Kubelet::start(node.kubelet()).await?;
        // As the image does.
        let options = PluginOptions::new(&args.plugin).env("MALLOC_ARENA_MAX", "1");
        let options = prepare(&node, options);
        tokio::time::sleep(STATE_FILE_AGE).await;
        let plugin = Plugin::start(&node, &options)?;
        kubelet.wait_allocatable(GPU, 8, PATIENCE).await?;
        Ok(Self { kubelet, plugin, node })
    }

    pub(super) async fn until(
        &self,
        what: &str,
        condition: impl FnMut(&View) -> bool + Send,
    ) -> anyhow::Result<View> {
        self.kubelet.wait_until(what, PATIENCE, condition).await
    }
}

/// The number after a field's name in a log line.
pub(super) fn field(line: &str, name: &str) -> anyhow::Result<f64> {
    let after = line.split(name).nth(1).with_context(|| format!("{name} in {line}"))?;
    after
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("{name} in {line}"))
}
