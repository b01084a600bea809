//! The plugin while nobody reads its log, while others crowd its socket, and while the kubelet's
//! answers about pods are as long as answers may be.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use simnode::flood;
use simnode::kubelet::Trouble;
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};

use super::args::Args;
use super::bench::Bench;
use super::memory::print_memory;
use super::times::Times;
use super::{GPU, PATIENCE};

/// Calls while others disturb.
const CALLS: usize = 200;
/// About 16 MB in an answer of podresources.
const FOREIGN_IDS: u32 = 155_000;

pub(super) async fn disturbed(args: &Args) -> anyhow::Result<()> {
    unread_log(args).await?;
    connections(args).await?;
    streams(args).await?;
    uploads(args).await?;
    long_pod_resources(args).await
}

/// Calls of Allocate of one GPU.
async fn allocate(bench: &Bench, times: usize) -> anyhow::Result<Times> {
    let mut client = bench.kubelet.client(GPU).await?;
    let one = vec![ContainerAllocateRequest { device_ids: vec![bench.node.uuid(0)] }];
    let mut taken = Times::new();
    for _ in 0..times {
        let request = AllocateRequest { container_requests: one.clone() };
        taken.time(client.allocate(request)).await?;
    }
    Ok(taken)
}

/// From an Xid to the Unhealthy list, in a driver that delivers at once.
async fn xid(bench: &Bench, index: usize) -> anyhow::Result<Duration> {
    let (uuid, began) = (bench.node.uuid(index), Instant::now());
    bench.node.xid(index, 79)?;
    bench.until("Unhealthy", |view| view.healthy(GPU, &uuid) == Some(false)).await?;
    Ok(began.elapsed())
}

/// From SIGTERM to the end of the process.
async fn stop(mut bench: Bench, when: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    bench.plugin.terminate()?;
    bench.plugin.wait_exit(PATIENCE).await?;
    print_time(&format!("{when}: SIGTERM to the end"), began.elapsed());
    Ok(())
}

fn print_time(what: &str, time: Duration) {
    println!("{what:<58}{:>10.2} ms", time.as_secs_f64() * 1e3);
}

fn socket(bench: &Bench) -> PathBuf {
    bench.node.plugin_sockets().remove(0)
}

async fn unread_log(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options.unread()).await?;
    allocate(&bench, args.soak_calls).await?.print("log unread: Allocate");
    print_time("log unread: an Xid to the list", xid(&bench, 1).await?);
    print_memory("log unread", &bench.plugin)?;
    stop(bench, "log unread").await
}

/// What is left after others came: calls, memory, health, stop.
async fn then(bench: Bench, what: &str) -> anyhow::Result<()> {
    allocate(&bench, CALLS).await?.print(&format!("{what}, there: Allocate"));
    print_memory(what, &bench.plugin)?;
    print_time(&format!("{what}: an Xid to the list"), xid(&bench, 1).await?);
    stop(bench, what).await
}

async fn connections(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let socket = socket(&bench);
    let coming = tokio::task::spawn_blocking(move || flood::connections(&socket, 10_000));
    allocate(&bench, CALLS).await?.print("10,000 connections, coming: Allocate");
    let _connections = coming.await??;
    then(bench, "10,000 connections").await
}

async fn streams(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let mut opening = flood::streams(&socket(&bench), 20, 400).await?;
    allocate(&bench, CALLS).await?.print("8,000 streams, coming: Allocate");
    let mut streams = Vec::new();
    while let Some(opened) = opening.join_next().await {
        streams.extend(opened?);
    }
    println!("{:<58}{:>10}", "8,000 streams, open", streams.len());
    then(bench, "8,000 streams").await
}

async fn uploads(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let _uploads = flood::uploads(&socket(&bench), 30, 10).await?;
    allocate(&bench, CALLS).await?.print("300 uploads, coming: Allocate");
    then(bench, "300 uploads").await
}

/// The plugin asks podresources after each allocation; health is looked at meanwhile.
async fn long_pod_resources(args: &Args) -> anyhow::Result<()> {
    for (what, trouble) in
        [("short answers", Trouble::None), ("16 MB", Trouble::ForeignIds(FOREIGN_IDS))]
    {
        let bench = Bench::start(args, |_, options| options).await?;
        bench.kubelet.trouble_pod_resources(trouble);
        let mut times = Times::new();
        for index in 0..8 {
            let asked = bench.kubelet.pod_resources_asked().len();
            bench.kubelet.allocate(&format!("pod-{index}"), "main", GPU, 1).await?;
            let began = Instant::now();
            while bench.kubelet.pod_resources_asked().len() == asked && began.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.add(xid(&bench, index).await?);
        }
        times.print(&format!("podresources, {what}: an Xid to the list"));
        print_memory(&format!("podresources, {what}"), &bench.plugin)?;
    }
    Ok(())
}
