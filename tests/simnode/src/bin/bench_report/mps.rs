//! MPS: how long the death and the return of a control daemon take to be in the kubelet's list, and
//! what the supervisor needs of memory. The driver's programs are played by fake-mps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use fake_nvml::profiles;
use rustix::process::{Pid, Signal, kill_process};
use simnode::eventually;
use simnode::kubelet::Kubelet;
use simnode::node::{Node, Plugin, PluginOptions, kill_all_with};
use tokio::process::{Child, Command};

use super::args::Args;
use super::bench::Bench;
use super::memory::print_memory;
use super::times::Times;
use super::{GPU, PATIENCE};

const CONTROL: &str = "nvidia-cuda-mps-control";
/// The variable by which the driver's programs find what they play.
const BEHAVIOUR: &str = "FAKE_MPS";
const REPLICAS: usize = 4;
const DEVICES: usize = 8 * REPLICAS;
/// Deaths of a daemon under one supervisor: the pause before the next start doubles each time.
const DEATHS: usize = 5;
/// How often the plugin asks a daemon that has no supervisor.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// Deaths of our daemon and of one without a supervisor, and memory.
pub(super) async fn mps(args: &Args) -> anyhow::Result<()> {
    let idle = Bench::start(args, |_, options| options).await?;
    print_memory("an idle plugin, eight GPUs", &idle.plugin)?;
    drop(idle);
    let (mut dead, mut back) = (Times::new(), Times::new());
    for round in 0..args.recoveries {
        let mut node = MpsNode::start(args).await?;
        let supervisor = node.supervise(args)?;
        node.allocatable(DEVICES).await?;
        if round == 0 {
            print_memory("the plugin, sharing by MPS", &node.plugin)?;
            print_memory("the supervisor beside it", &supervisor)?;
        }
        for _ in 0..DEATHS {
            let seen = supervisor.log().len();
            let killed = node.kill()?;
            dead.add(node.allocatable(0).await? - killed);
            // From before it answers on.
            let started = "the MPS control daemon is started";
            let (started, _) = supervisor.wait_for_log_after(seen, started, PATIENCE).await?;
            back.add(node.allocatable(DEVICES).await?.saturating_duration_since(started));
        }
        if round == 0 {
            print_memory(&format!("  after {DEATHS} deaths"), &supervisor)?;
        }
        node.end(supervisor).await?;
    }
    dead.print("death of our MPS daemon to Unhealthy");
    back.print("start of its process to Healthy");
    unsupervised(args).await
}

/// A daemon as NVIDIA's plugin starts it: the plugin asks it, and it dies at moments that are
/// spread over the interval.
async fn unsupervised(args: &Args) -> anyhow::Result<()> {
    let (mut dead, mut back) = (Times::new(), Times::new());
    let node = MpsNode::start(args).await?;
    let rounds = args.recoveries * 4;
    for round in 0..rounds {
        let started = Instant::now();
        let mut daemon = node.daemon()?;
        back.add(node.allocatable(DEVICES).await? - started);
        let share = u32::try_from(round)? + 1;
        tokio::time::sleep(ASK_INTERVAL * share / u32::try_from(rounds)?).await;
        let killed = Instant::now();
        daemon.kill().await?;
        dead.add(node.allocatable(0).await? - killed);
    }
    dead.print("death of an MPS daemon without supervisor");
    back.print("start of its process to Healthy");
    Ok(())
}

/// A node with the driver's programs, and the plugin on it.
struct MpsNode {
    kubelet: Kubelet,
    plugin: Plugin,
    root: PathBuf,
    behaviour: PathBuf,
    node: Node,
}

impl MpsNode {
    async fn start(args: &Args) -> anyhow::Result<Self> {
        let node = Node::with_library(profiles::h100x8(), &args.nvml_library)?;
        let (root, behaviour) = (node.root().join("mps"), node.root().join("behaviour.json"));
        let (bin, config) = (node.driver_root().join("usr/bin"), node.root().join("config.yaml"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&bin)?;
        let program = args.mps_program.as_ref().context("--mps-program is needed")?;
        for name in [CONTROL, "nvidia-smi"] {
            fs::copy(program, bin.join(name)).context("the fake of the driver's programs")?;
        }
        let gpus = (0..8).map(|index| serde_json::json!({"uuid": node.uuid(index)}));
        let text = serde_json::json!({"protocol": 2, "gpus": gpus.collect::<Vec<_>>()});
        fs::write(&behaviour, text.to_string())?;
        let resource = format!("{{name: {GPU}, replicas: {REPLICAS}}}");
        let text = format!("version: v1\nsharing: {{mps: {{resources: [{resource}]}}}}\n");
        fs::write(&config, text)?;
        let kubelet = Kubelet::start(node.kubelet()).await?;
        let options = options(args, &root, &behaviour)
            .env("CONFIG_FILE", &config)
            .env("MPS_ROOT", "/run/nvidia/mps");
        let plugin = Plugin::start(&node, &options)?;
        Ok(Self { kubelet, plugin, root, behaviour, node })
    }

    fn supervise(&self, args: &Args) -> anyhow::Result<Plugin> {
        let options = options(args, &self.root, &self.behaviour).arg("mps-control-daemon");
        Plugin::start(&self.node, &options)
    }

    /// Waits until so many devices are allocatable; when the list came that says so.
    async fn allocatable(&self, count: usize) -> anyhow::Result<Instant> {
        let what = format!("{count} devices");
        let seen = |view: &simnode::View| {
            view.resource(GPU).is_some_and(|of| of.lists_received > 0)
                && view.allocatable(GPU) == count
        };
        let view = self.kubelet.wait_until(&what, PATIENCE, seen).await?;
        view.resource(GPU).and_then(|resource| resource.last_list_at).context("a list")
    }

    /// Kills the daemon of the supervisor; when.
    fn kill(&self) -> anyhow::Result<Instant> {
        let file = self.pipes().join("nvidia-cuda-mps-control.pid");
        let pid = fs::read_to_string(file)?.parse().ok().and_then(Pid::from_raw);
        let killed = Instant::now();
        kill_process(pid.context("a process id")?, Signal::KILL)?;
        Ok(killed)
    }

    /// Starts a daemon that nobody supervises.
    fn daemon(&self) -> anyhow::Result<Child> {
        let (pipes, logs) = (self.pipes(), self.pipes().with_file_name("log"));
        fs::create_dir_all(&pipes)?;
        fs::create_dir_all(&logs)?;
        let daemon = Command::new(self.node.driver_root().join("usr/bin").join(CONTROL))
            .arg("-f")
            .env(BEHAVIOUR, &self.behaviour)
            .env("CUDA_MPS_PIPE_DIRECTORY", pipes)
            .env("CUDA_MPS_LOG_DIRECTORY", logs)
            .kill_on_drop(true)
            .spawn()?;
        Ok(daemon)
    }

    fn pipes(&self) -> PathBuf {
        self.root.join(GPU).join("pipe")
    }

    /// Stops the supervisor, and waits until its daemon has ended.
    async fn end(&mut self, mut supervisor: Plugin) -> anyhow::Result<()> {
        supervisor.terminate()?;
        supervisor.wait_exit(PATIENCE).await?;
        let socket = self.pipes().join("control");
        eventually("the daemon has ended", PATIENCE, async || (!socket.exists()).then_some(()))
            .await
    }
}

impl Drop for MpsNode {
    fn drop(&mut self) {
        // A control daemon outlives a supervisor that is killed, as after an error.
        kill_all_with(BEHAVIOUR, &self.behaviour);
    }
}

fn options(args: &Args, root: &Path, behaviour: &Path) -> PluginOptions {
    PluginOptions::new(&args.plugin)
        .env("MALLOC_ARENA_MAX", "1")
        .env(BEHAVIOUR, behaviour)
        .env("MPS_DIR", root)
}
