//! Changes of health: Xids and recoveries.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::GPU;
use super::args::Args;
use super::bench::Bench;
use super::times::Times;

/// From NVML's delivery of an Xid to the Unhealthy list at the kubelet.
pub(super) async fn xids(args: &Args) -> anyhow::Result<()> {
    let mut times = Times::new();
    while times.len() < args.xids {
        let mut journal = PathBuf::new();
        let bench = Bench::start(args, |node, options| {
            journal = node.root().join("journal");
            options.env("FAKE_NVML_JOURNAL", &journal)
        })
        .await?;
        // The two clocks are one: what differs is only where they begin.
        let (now, ns) = (Instant::now(), monotonic_ns());
        for index in 0..8 {
            let uuid = bench.node.uuid(index);
            bench.node.xid(index, 79)?;
            let view =
                bench.until("Unhealthy", |view| view.healthy(GPU, &uuid) == Some(false)).await?;
            let received =
                view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")?;
            let delivered = delivered_at(&journal, &uuid)?;
            let received_ns = i128::from(ns) + i128::try_from((received - now).as_nanos())?;
            times.add(Duration::from_nanos(
                u64::try_from(received_ns - i128::from(delivered)).unwrap_or(0),
            ));
        }
    }
    times.print("an Xid delivered by NVML to the kubelet's list");
    Ok(())
}

/// From the end of a cause to the Healthy list at the kubelet, with two clean polls 200 ms apart.
pub(super) async fn recoveries(args: &Args) -> anyhow::Result<()> {
    let mut times = Times::new();
    let bench =
        Bench::start(args, |_, options| options.env("HEALTH_POLL_INTERVAL", "200ms")).await?;
    for _ in 0..args.recoveries {
        for index in 0..8 {
            let uuid = bench.node.uuid(index);
            bench
                .node
                .edit_gpu(index, |gpu| gpu.fabric.as_mut().map(|fabric| fabric.status = 999))?;
            bench.until("Unhealthy", |view| view.healthy(GPU, &uuid) == Some(false)).await?;
            let before = Instant::now();
            bench
                .node
                .edit_gpu(index, |gpu| gpu.fabric.as_mut().map(|fabric| fabric.status = 0))?;
            let view =
                bench.until("Healthy", |view| view.healthy(GPU, &uuid) == Some(true)).await?;
            times.add(
                view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")?
                    - before,
            );
        }
    }
    times.print("a cause gone to Healthy, two polls of 200 ms");
    Ok(())
}

/// When the fake NVML delivered the last event of a GPU.
fn delivered_at(journal: &Path, uuid: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(journal).context("the fake NVML's journal")?;
    let line =
        text.lines().rev().find(|line| line.contains(uuid)).context("the event in the journal")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// The clock of `Instant`, as the fake NVML writes it.
fn monotonic_ns() -> u64 {
    u64::try_from(simnode::node::monotonic().as_nanos()).unwrap_or(u64::MAX)
}
