//! Calls of the kubelet.

use std::time::Duration;

use simnode::proto::{AllocateRequest, ContainerAllocateRequest, Empty};

use super::GPU;
use super::args::Args;
use super::bench::Bench;
use super::times::Times;

/// Pause after each call that is measured: what the plugin does after its answer, the log above
/// all, is not to fall into the time of the next call.
const BETWEEN_CALLS: Duration = Duration::from_millis(1);

/// Allocate beside an empty call on the same connection.
pub(super) async fn calls(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let mut client = bench.kubelet.client(GPU).await?;
    let all: Vec<String> = (0..8).map(|index| bench.node.uuid(index)).collect();
    let request = |ids: &[String]| AllocateRequest {
        container_requests: vec![ContainerAllocateRequest { device_ids: ids.to_vec() }],
    };
    let (mut empty, mut one, mut eight) = (Times::new(), Times::new(), Times::new());
    for _ in 0..args.calls {
        empty.time(client.get_device_plugin_options(Empty {})).await?;
        tokio::time::sleep(BETWEEN_CALLS).await;
        one.time(client.allocate(request(&all[..1]))).await?;
        tokio::time::sleep(BETWEEN_CALLS).await;
        eight.time(client.allocate(request(&all))).await?;
        tokio::time::sleep(BETWEEN_CALLS).await;
    }
    empty.print("empty call (GetDevicePluginOptions)");
    one.print("Allocate of one GPU");
    eight.print("Allocate of eight GPUs");
    println!(
        "{:<58}{:>10.1} us",
        "  one GPU above the empty call, median",
        one.median_us() - empty.median_us()
    );
    println!(
        "{:<58}{:>10.1} us",
        "  eight GPUs above the empty call, median",
        eight.median_us() - empty.median_us()
    );
    Ok(())
}
