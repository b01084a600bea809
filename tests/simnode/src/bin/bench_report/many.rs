//! Nodes with many devices, beside one with eight, and a configuration of many resources.

use std::time::Instant;

use anyhow::Context;
use fake_nvml::profiles;
use fake_nvml::state::State;
use simnode::kubelet::Kubelet;
use simnode::node::{Node, Plugin, PluginOptions};
use simnode::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
    PreferredAllocationRequest,
};

use super::args::Args;
use super::bench::field;
use super::memory::print_memory;
use super::times::Times;
use super::{GPU, PATIENCE};

/// A node whose devices are shared, and how many there are then.
struct Many {
    title: &'static str,
    state: State,
    replicas: usize,
    devices: usize,
}

pub(super) async fn devices(args: &Args) -> anyhow::Result<()> {
    let nodes = [
        Many { title: "8 GPUs", state: profiles::h100x8(), replicas: 1, devices: 8 },
        Many {
            title: "8 GPUs x 7 MIG x 10",
            state: profiles::h100x8_mig_single(),
            replicas: 10,
            devices: 560,
        },
        Many { title: "16 GPUs x 128", state: profiles::v100x16(), replicas: 128, devices: 2_048 },
    ];
    for node in nodes {
        measure(args, node).await?;
    }
    hundred_resources(args).await
}

async fn measure(args: &Args, many: Many) -> anyhow::Result<()> {
    let Many { title, state, replicas, devices } = many;
    let node = Node::with_library(state, &args.nvml_library)?;
    let config = node.root().join("config.yaml");
    let sharing =
        format!("sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: {replicas}}}]}}}}\n");
    std::fs::write(&config, format!("version: v1\n{}", if replicas > 1 { &sharing } else { "" }))?;
    let kubelet = Kubelet::start(node.kubelet()).await?;
    let options =
        PluginOptions::new(&args.plugin).env("CONFIG_FILE", &config).env("MIG_STRATEGY", "single");
    let plugin = Plugin::start(&node, &options)?;
    kubelet.wait_allocatable(GPU, devices, PATIENCE).await?;
    println!("{title}: {devices} devices");
    print_memory("  fresh", &plugin)?;

    let resource = kubelet.view();
    let resource = resource.resource(GPU).context("the resource")?;
    let ids: Vec<String> = resource.devices.keys().cloned().collect();
    let mut client = kubelet.client(GPU).await?;
    let (mut empty, mut one, mut preferred) = (Times::new(), Times::new(), Times::new());
    for call in 0..args.calls / 10 {
        empty.time(client.get_device_plugin_options(Empty {})).await?;
        let device_ids = vec![ids[call * 7 % ids.len()].clone()];
        one.time(client.allocate(AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { device_ids }],
        }))
        .await?;
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: ids.clone(),
            must_include_device_ids: Vec::new(),
            allocation_size: 2,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        preferred.time(client.get_preferred_allocation(request)).await?;
    }
    one.print("  Allocate of one");
    println!(
        "{:<58}{:>10.1} us",
        "    above the empty call, median",
        one.median_us() - empty.median_us()
    );
    preferred.print("  GetPreferredAllocation of 2 of all");
    print_memory("  after these calls", &plugin)?;

    let mut lists = Times::new();
    for round in 0..args.recoveries as u64 * 4 {
        let received = kubelet.view().resource(GPU).map_or(0, |resource| resource.lists_received);
        let before = Instant::now();
        // A quarantine takes effect at once, and each change of health sends the whole list again.
        let file = node.quarantine_directory().join("0");
        if round % 2 == 0 {
            std::fs::write(&file, "measured")?
        } else {
            std::fs::remove_file(&file)?
        }
        let news = |view: &simnode::kubelet::View| {
            view.resource(GPU).is_some_and(|now| now.lists_received > received)
        };
        let view = kubelet.wait_until("another list", PATIENCE, news).await?;
        lists.add(
            view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")?
                - before,
        );
    }
    lists.print("  a change to its list at the kubelet");
    print_memory("  after these lists", &plugin)
}

/// A file that names 100 resources by model and shares each, with other numbers each time.
fn hundred(replicas: usize) -> String {
    let mut text = String::from(
        "version: v1\nflags: {plugin: {customResources: true}}\nresources:\n  gpus:\n",
    );
    for number in 0..100 {
        text.push_str(&format!(
            "  - {{pattern: 'NVIDIA Model {number} *', name: model-{number}}}\n"
        ));
    }
    text.push_str("sharing:\n  timeSlicing:\n    resources:\n");
    for number in 0..100 {
        text.push_str(&format!("    - {{name: model-{number}, replicas: {replicas}}}\n"));
    }
    text
}

/// From a file of 100 resources that is read to its being in force, as the plugin's own log says.
async fn hundred_resources(args: &Args) -> anyhow::Result<()> {
    let mut state = profiles::v100x16();
    for (number, gpu) in state.gpus.iter_mut().enumerate() {
        gpu.name = format!("NVIDIA Model {number} 80GB");
    }
    let node = Node::with_library(state, &args.nvml_library)?;
    let config = node.root().join("config.yaml");
    std::fs::write(&config, hundred(2))?;
    let kubelet = Kubelet::start(node.kubelet()).await?;
    let options = PluginOptions::new(&args.plugin).env("CONFIG_FILE", &config);
    let plugin = Plugin::start(&node, &options)?;
    kubelet.wait_allocatable("nvidia.com/model-15", 2, PATIENCE).await?;
    let mut times = Times::new();
    for round in 0..args.recoveries * 4 {
        let seen = plugin.log().len();
        std::fs::write(&config, hundred(3 + round % 2))?;
        let (_, line) =
            plugin.wait_for_log_after(seen, "the new configuration is in force", PATIENCE).await?;
        times.add(std::time::Duration::from_secs_f64(field(&line, "milliseconds=")? / 1e3));
    }
    times.print("a configuration of 100 resources put in force");
    print_memory("  after these configurations", &plugin)
}
