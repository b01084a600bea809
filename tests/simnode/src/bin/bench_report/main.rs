//! Measures the plugin from outside, on a simulated node of eight H100s, and prints what it takes.
//!
//! `benches/bench_report` builds what it needs and runs it. Times are medians of one run on one
//! machine; where a figure depends on the machine, a reference taken in the same run stands beside
//! it.

mod many;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use fake_nvml::profiles;
use simnode::kubelet::{Kubelet, View};
use simnode::node::{HttpAddress, Mapped, Node, Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest, Empty};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const GPU: &str = "nvidia.com/gpu";
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after each call that is measured: what the plugin does after its answer, the log above
/// all, is not to fall into the time of the next call.
const BETWEEN_CALLS: Duration = Duration::from_millis(1);
/// How often memory is looked at on the way.
const PARTS: usize = 4;

/// Measures the plugin from outside and prints the figures.
#[derive(Debug, Parser)]
struct Args {
    /// The plugin's executable
    #[arg(long, value_name = "PATH")]
    plugin: PathBuf,

    /// The fake NVML
    #[arg(long, value_name = "PATH")]
    nvml_library: PathBuf,

    /// Starts to measure
    #[arg(long, default_value_t = 50)]
    starts: usize,

    /// Calls of each kind to measure
    #[arg(long, default_value_t = 10_000)]
    calls: usize,

    /// Requests of each kind over HTTP to measure
    #[arg(long, default_value_t = 1_000)]
    scrapes: usize,

    /// Xids to measure
    #[arg(long, default_value_t = 1_000)]
    xids: usize,

    /// Recoveries of each GPU to measure
    #[arg(long, default_value_t = 5)]
    recoveries: usize,

    /// Restarts of the kubelet to measure
    #[arg(long, default_value_t = 200)]
    restarts: usize,

    /// Restarts of the kubelet over which memory is looked at
    #[arg(long, default_value_t = 1_000)]
    soak_restarts: usize,

    /// Calls of Allocate over which memory is looked at
    #[arg(long, default_value_t = 100_000)]
    soak_calls: usize,

    /// Seconds to watch the idle plugin
    #[arg(long, default_value_t = 60)]
    idle: u64,

    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants())]
    only: Vec<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Start,
    Calls,
    Xids,
    Recoveries,
    Restarts,
    Http,
    Memory,
    Idle,
    /// Nodes with many devices, and a configuration of many resources.
    Many,
}

/// The plugin on a node with a kubelet.
struct Bench {
    kubelet: Kubelet,
    plugin: Plugin,
    node: Node,
}

impl Bench {
    async fn start(
        args: &Args,
        prepare: impl FnOnce(&Node, PluginOptions) -> PluginOptions,
    ) -> anyhow::Result<Self> {
        let node = Node::with_library(profiles::h100x8(), &args.nvml_library)?;
        let kubelet = Kubelet::start(node.kubelet()).await?;
        // As the image does.
        let options = PluginOptions::new(&args.plugin).env("MALLOC_ARENA_MAX", "1");
        let options = prepare(&node, options);
        let plugin = Plugin::start(&node, &options)?;
        kubelet.wait_allocatable(GPU, 8, PATIENCE).await?;
        Ok(Self { kubelet, plugin, node })
    }

    async fn until(
        &self,
        what: &str,
        condition: impl FnMut(&View) -> bool + Send,
    ) -> anyhow::Result<View> {
        self.kubelet.wait_until(what, PATIENCE, condition).await
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let size = std::fs::metadata(&args.plugin).context("the plugin's executable")?.len();
    println!("{:<58}{:>10.2} MB", "executable, stripped", size as f64 / 1e6);
    for part in &args.only {
        match part {
            Part::Start => start(&args).await?,
            Part::Calls => calls(&args).await?,
            Part::Xids => xids(&args).await?,
            Part::Recoveries => recoveries(&args).await?,
            Part::Restarts => kubelet_restarts(&args).await?,
            Part::Http => {
                scrapes(&args).await?;
                slow_clients(&args).await?;
            }
            Part::Memory => memory(&args).await?,
            Part::Idle => idle(&args).await?,
            Part::Many => many::devices(&args).await?,
        }
    }
    Ok(())
}

/// From exec, and from the start of `main`, to Register and to the first list.
async fn start(args: &Args) -> anyhow::Result<()> {
    let (mut inside, mut register, mut list) = (Times::new(), Times::new(), Times::new());
    for _ in 0..args.starts {
        let bench = Bench::start(args, |_, options| options.log_level("debug")).await?;
        let view = bench.kubelet.view();
        let first = view.accepted(GPU).next().context("a registration")?;
        register.add(first.at - bench.plugin.started_at());
        let resource = view.resource(GPU).context("the resource")?;
        list.add(resource.last_list_at.context("a list")? - bench.plugin.started_at());
        let (_, line) = bench.plugin.wait_for_log("registering", PATIENCE).await?;
        inside.add(Duration::from_secs_f64(field(&line, "uptime_ms=")? / 1e3));
    }
    let mut yardstick = Times::new();
    for _ in 0..args.starts {
        let before = Instant::now();
        std::process::Command::new(&args.plugin)
            .arg("--version")
            .output()
            .context("the plugin's version")?;
        yardstick.add(before.elapsed());
    }
    inside.print("start of main to Register sent");
    register.print("exec to Register received");
    list.print("exec to the first list received");
    yardstick.print("yardstick: --version, exec to exit");
    Ok(())
}

/// Allocate beside an empty call on the same connection.
async fn calls(args: &Args) -> anyhow::Result<()> {
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

/// From NVML's delivery of an Xid to the Unhealthy list at the kubelet.
async fn xids(args: &Args) -> anyhow::Result<()> {
    let mut times = Times::new();
    while times.0.len() < args.xids {
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
async fn recoveries(args: &Args) -> anyhow::Result<()> {
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

/// From a new kubelet.sock to the registration, and to the list.
async fn kubelet_restarts(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    let (mut registered, mut list) = (Times::new(), Times::new());
    for life in 2..=args.restarts as u64 + 1 {
        bench.kubelet.stop().await;
        let before = Instant::now();
        bench.kubelet.start_again().await?;
        let answered = |view: &View| view.of_this_life().any(|call| call.answered.is_some());
        let ready = |view: &View| view.life == life && view.allocatable(GPU) == 8 && answered(view);
        let view = bench.until("the list in a new life", ready).await?;
        let answered = view.of_this_life().filter_map(|call| call.answered).last();
        registered.add(answered.context("a registration")? - before);
        let received =
            view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")?;
        list.add(received - before);
    }
    registered.print("kubelet starts again (its clean-up included) to registered");
    list.print("kubelet starts again to its list");
    Ok(())
}

/// A scrape over HTTP, of eight devices and of 2,048, and what serving HTTP costs in memory.
async fn scrapes(args: &Args) -> anyhow::Result<()> {
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
                    if times.0.len() == 1 {
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
async fn slow_clients(args: &Args) -> anyhow::Result<()> {
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
            clients.spawn(dawdle(address.clone()));
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
async fn dawdle(address: String) {
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

/// Memory, threads and descriptors: fresh, after many calls, after many restarts.
async fn memory(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    print_memory("fresh, eight GPUs", &bench.plugin)?;
    print_parts(args, &bench.plugin)?;
    let mut client = bench.kubelet.client(GPU).await?;
    let one = vec![ContainerAllocateRequest { device_ids: vec![bench.node.uuid(0)] }];
    for part in 1..=PARTS {
        for _ in 0..args.soak_calls / PARTS {
            client.allocate(AllocateRequest { container_requests: one.clone() }).await?;
        }
        print_memory(
            &format!("after {} calls of Allocate", part * (args.soak_calls / PARTS)),
            &bench.plugin,
        )?;
    }
    drop(client);
    let mut life = 1;
    for part in 1..=PARTS {
        for _ in 0..args.soak_restarts / PARTS {
            life += 1;
            bench.kubelet.restart().await?;
            bench.until("the list", |view| view.life == life && view.allocatable(GPU) == 8).await?;
        }
        print_memory(
            &format!("and {} kubelet restarts", part * (args.soak_restarts / PARTS)),
            &bench.plugin,
        )?;
    }
    Ok(())
}

/// What the plugin does when nothing happens.
async fn idle(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = bench.plugin.figures()?;
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let after = bench.plugin.figures()?;
    let seconds = args.idle as f64;
    let wakeups = (after.voluntary_switches - before.voluntary_switches) as f64 / seconds;
    let processor = (after.cpu_ticks - before.cpu_ticks) as f64 / seconds;
    println!("{:<58}{wakeups:>10.2} /s", format!("idle for {} s: wake-ups", args.idle));
    println!("{:<58}{processor:>10.2} %", "idle: of one core");
    for (thread, switches) in &after.switches_by_thread {
        let switches = switches - before.switches_by_thread.get(thread).unwrap_or(&0);
        println!(
            "{:<58}{:>10.2} /s",
            format!("  of them the thread {thread}"),
            switches as f64 / seconds
        );
    }
    Ok(())
}

/// Whose the memory is. The NVML that is loaded here is a fake one: the real one is larger.
fn print_parts(args: &Args, plugin: &Plugin) -> anyhow::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (own, nvml) = (name(&args.plugin), name(&args.nvml_library));
    let mut parts = BTreeMap::<&str, Mapped>::new();
    for (file, mapped) in plugin.mapped()? {
        let part = parts.entry(match file {
            file if file.is_empty() => "heap and stacks",
            file if file == own => "executable",
            file if file == nvml || file.starts_with("libnvidia-ml") => "fake NVML",
            _ => "libc and loader",
        });
        let part = part.or_default();
        part.rss_kib += mapped.rss_kib;
        part.anonymous_kib += mapped.anonymous_kib;
    }
    for (part, Mapped { rss_kib, anonymous_kib }) in parts {
        let (rss, anonymous) = (megabytes(rss_kib), megabytes(anonymous_kib));
        println!(
            "{:<42}{rss:.2} MB resident, {anonymous:.2} MB anonymous",
            format!("  of it {part}")
        );
    }
    Ok(())
}

fn print_memory(when: &str, plugin: &Plugin) -> anyhow::Result<()> {
    let figures = plugin.figures()?;
    let line = format!(
        "{:.2} MB resident, {:.2} MB anonymous, {} threads, {} descriptors",
        megabytes(figures.rss_kib),
        megabytes(figures.anonymous_kib),
        figures.threads,
        figures.descriptors
    );
    println!("{when:<42}{line}");
    Ok(())
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// The number after a field's name in a log line.
fn field(line: &str, name: &str) -> anyhow::Result<f64> {
    let after = line.split(name).nth(1).with_context(|| format!("{name} in {line}"))?;
    after
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("{name} in {line}"))
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

/// Times of one kind.
struct Times(Vec<Duration>);

impl Times {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    async fn time<T, E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        call: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<()> {
        let before = Instant::now();
        call.await?;
        self.add(before.elapsed());
        Ok(())
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * share).round() as usize)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    fn median_us(&self) -> f64 {
        self.at(0.5)
    }

    fn print(&self, what: &str) {
        let (median, p99, worst) = (self.median_us(), self.at(0.99), self.at(1.0));
        let (unit, scale) = if median >= 1e3 { ("ms", 1e3) } else { ("us", 1.0) };
        println!(
            "{what:<58}{:>10.2} {unit} median, {:.2} p99, {:.2} worst of {}",
            median / scale,
            p99 / scale,
            worst / scale,
            self.0.len()
        );
    }
}
