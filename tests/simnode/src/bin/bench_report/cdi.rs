//! CDI specifications of a large node: 8 GPUs of 7 MIG devices, and a driver of 400 files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use fake_nvml::profiles;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use simnode::kubelet::Kubelet;
use simnode::node::{Node, Plugin, PluginOptions};

use super::args::Args;
use super::bench::field;
use super::memory::print_memory;
use super::times::Times;
use super::{GPU, PATIENCE};

const DEVICES: usize = 56;
const FILES: usize = 400;
const WRITTEN: &str = "the CDI specifications are written";

/// Memory with CDI and without, and how long the specifications take as the plugin's log says: at
/// the start, and after a change of one device.
pub(super) async fn cdi(args: &Args) -> anyhow::Result<()> {
    for strategy in ["envvar", "cdi-cri"] {
        let node = node(args)?;
        let kubelet = Kubelet::start(node.kubelet()).await?;
        let plugin = start(args, &node, &kubelet, strategy).await?;
        print_memory(&format!("{DEVICES} MIG devices, {strategy}"), &plugin)?;
        if strategy == "cdi-cri" {
            changes(args, &node, &plugin).await?;
            print_memory("  after these changes", &plugin)?;
        }
    }
    let mut first = Times::new();
    for _ in 0..args.recoveries * 4 {
        let node = node(args)?;
        let kubelet = Kubelet::start(node.kubelet()).await?;
        let plugin = start(args, &node, &kubelet, "cdi-cri").await?;
        let (_, line) = plugin.wait_for_log(WRITTEN, PATIENCE).await?;
        first.add(took(&line)?);
    }
    first.print("CDI specifications found, generated and written");
    Ok(())
}

async fn start(
    args: &Args,
    node: &Node,
    kubelet: &Kubelet,
    strategy: &str,
) -> anyhow::Result<Plugin> {
    let options = PluginOptions::new(&args.plugin)
        .env("MALLOC_ARENA_MAX", "1")
        .env("MIG_STRATEGY", "single")
        .env("HEALTH_POLL_INTERVAL", "200ms")
        .env("DEVICE_LIST_STRATEGY", strategy);
    let plugin = Plugin::start(node, &options)?;
    kubelet.wait_allocatable(GPU, DEVICES, PATIENCE).await?;
    Ok(plugin)
}

/// A node with as many libraries of the driver as it has files in all.
fn node(args: &Args) -> anyhow::Result<Node> {
    let state = profiles::h100x8_mig_single();
    let version = state.driver.version.clone();
    let node = Node::with_library(state, &args.nvml_library)?;
    let directory = node.driver_root().join("usr/lib64");
    fs::create_dir_all(&directory)?;
    for number in 0..FILES {
        let name = if number == 0 { "libcuda".to_owned() } else { format!("libnv{number}") };
        fs::write(directory.join(format!("{name}.so.{version}")), "")?;
    }
    make_nodes(&node.dev())?;
    Ok(node)
}

/// Real device nodes, for root, in the place of the simulated node's links to one: a link takes the
/// plugin many more system calls.
fn make_nodes(directory: &Path) -> anyhow::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            make_nodes(&path)?;
        } else if kind.is_symlink() {
            let next = directory.join("next");
            // The number of /dev/null.
            if mknodat(CWD, &next, FileType::CharacterDevice, mode, makedev(1, 3)).is_ok() {
                fs::rename(next, path)?;
            }
        }
    }
    Ok(())
}

/// A MIG device is made again, under another name, each time.
async fn changes(args: &Args, node: &Node, plugin: &Plugin) -> anyhow::Result<()> {
    let mut times = Times::new();
    for round in 0..args.recoveries * 4 {
        let seen = plugin.log().len();
        node.edit_gpu(0, |gpu| {
            let devices = gpu.mig.as_mut().map(|mig| &mut mig.devices);
            if let Some(device) = devices.and_then(|devices| devices.first_mut()) {
                device.uuid = format!("MIG-00000000-0000-4000-8000-{round:012}");
            }
        })?;
        let (_, line) = plugin.wait_for_log_after(seen, WRITTEN, PATIENCE).await?;
        times.add(took(&line)?);
    }
    times.print("CDI specifications after a change of one device");
    Ok(())
}

fn took(line: &str) -> anyhow::Result<Duration> {
    let milliseconds = field(line, "milliseconds=").context("how long it took")?;
    Ok(Duration::from_secs_f64(milliseconds / 1e3))
}
