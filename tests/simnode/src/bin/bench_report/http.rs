//! The HTTP server: requests, and clients that are slow.

use std::time::{Duration, Instant};

use fake_nvml::profiles;
use simnode::kubelet::Kubelet;
use simnode::node::{HttpAddress, Node, Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::args::Args;
use super::bench::Bench;
use super::times::Times;
use super::{GPU, PATIENCE};

/// A scrape over HTTP, of eight devices and of 2,048, and what serving HTTP costs in memory.
pub(super) async fn scrapes(args: &Args) -> anyhow::Result<()> {
    let shared = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, \
        replicas: 256}]}}\n";
    for (what, config, devices) in
        [("8 devices", "version: v1\n", 8), ("2,048 devices", shared, 2_048)]
    {
        let mut without = 0;
        for serving in [false, true] {
            let node = Node::with_library(profiles::h100x8(), &args.nvml_library)?;
            let kubelet = Kubelet::start(node.kubelet()).await?;
            let file = node.root().join("config.yaml");
            std::fs::write(&file, config)?;
            let address = if serving { "127.0.0.1:0" } else { "" };
            let options = PluginOptions::new(&args.plugin).env("HTTP_ADDRESS", address);
            let plugin = Plugin::start(&node, &options.arg("--config-file").arg(&file))?;
            kubelet.wait_allocatable(GPU, devices, PATIENCE).await?;
            if !serving {
                tokio::time::sleep(Duration::from_secs(1)).await;
                without = plugin.figures()?.anonymous_kib;
                continue;
            }
            let http = plugin.http(PATIENCE).await?;
            let mut sizes = Vec::new();
            for path in ["/healthz", "/metrics", "/status", "/"] {
                let mut times = Times::new();
                for _ in 0..args.scrapes {
                    let before = Instant::now();
                    let answer = http.get(path).await?;
                    times.add(before.elapsed());
                    anyhow::ensure!(answer.status == 200, "{path}: {}", answer.head);
                    if times.len() == 1 {
                        sizes.push(answer.body.len());
                    }
                }
                times.print(&format!(
                    "{what}: GET {path}, {} B",
                    sizes.last().copied().unwrap_or(0)
                ));
            }
            let with = plugin.figures()?.anonymous_kib;
            println!(
                "{:<58}{:>10.2} MB",
                format!("{what}: HTTP after {} requests, anonymous", 4 * args.scrapes),
                (with as f64 - without as f64) / 1e3
            );
        }
    }
    Ok(())
}

/// Allocate beside 200 clients that send their requests byte by byte and come again when they are
/// cut.
pub(super) async fn slow_clients(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options.env("HTTP_ADDRESS", "127.0.0.1:0")).await?;
    let HttpAddress::Tcp(address) = bench.plugin.http(PATIENCE).await? else {
        anyhow::bail!("it is a port")
    };
    let mut client = bench.kubelet.client(GPU).await?;
    let one = vec![ContainerAllocateRequest { device_ids: vec![bench.node.uuid(0)] }];
    let (mut alone, mut beside) = (Times::new(), Times::new());
    // In turns, so that what else the machine does hits both alike.
    for round in 0..10 {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..if round % 2 == 0 { 0 } else { 200 } {
            clients.spawn(send_slowly(address.clone()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let times = if round % 2 == 0 { &mut alone } else { &mut beside };
        for _ in 0..args.calls / 10 {
            times
                .time(client.allocate(AllocateRequest { container_requests: one.clone() }))
                .await?;
        }
    }
    alone.print("Allocate of one GPU, no HTTP client");
    beside.print("Allocate of one GPU, 200 slow HTTP clients");
    Ok(())
}

/// Sends a request byte by byte, and again when it is cut off.
async fn send_slowly(address: String) {
    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: \
            aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    loop {
        let Ok(mut io) = TcpStream::connect(&address).await else { continue };
        for byte in REQUEST {
            if io.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
