//! The agent as a task of the test, by a clock of the test's own: no pause is waited for. Sockets
//! and files are real. What a process does (exit codes, signals, its log) needs `Rig::agent`.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use gpu_node_agent::args::Args;
use gpu_node_agent::run::run;
use tokio::task::{JoinHandle, spawn_blocking, spawn_local, yield_now};
use tokio::time::{Instant, advance};

use crate::rig::{NODE, Rig};

/// How often nothing happens until nothing is under way any more.
const QUIET: u32 = 25;
/// The longest that the clock is moved at once: less than the time between what waits for one
/// another, such as the plugin's minute and the agent's deadline above it.
const LEAP: Duration = Duration::from_secs(10);
/// A clock that moves by itself is a hundred times as fast as real time.
const TICK: Duration = Duration::from_millis(1);
const PER_TICK: Duration = Duration::from_millis(100);

/// The agent, and the clock that moves by itself until this is dropped.
pub(crate) struct Running {
    agent: JoinHandle<()>,
    clock: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.agent.abort();
        self.clock.abort();
        tokio::time::resume();
    }
}

/// Runs the agent with these flags, of whose pauses none takes long. One at a time.
pub(crate) fn start(rig: &Rig, flags: &[impl AsRef<str>]) -> Running {
    tokio::time::pause();
    Running { agent: agent(rig, flags), clock: spawn_local(run_clock()) }
}

/// While this waits for the thread, nothing but this moves the clock, as with [`stop_clock`].
async fn run_clock() {
    let (sender, mut ticks) = tokio::sync::mpsc::channel(1);
    spawn_blocking(move || {
        while sender.blocking_send(()).is_ok() {
            thread::sleep(TICK);
        }
    });
    while ticks.recv().await.is_some() {
        advance(PER_TICK).await;
    }
}

/// Stops the clock until what it returns is dropped: Tokio moves a paused clock by itself, but not
/// while a blocking call is under way.
pub(crate) fn stop_clock() -> mpsc::Sender<()> {
    let (held, release) = mpsc::channel();
    spawn_blocking(move || release.recv());
    held
}

/// The agent with these flags. It ends where it is when it is aborted.
pub(crate) fn agent(rig: &Rig, flags: &[impl AsRef<str>]) -> JoinHandle<()> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (socket, kubeconfig) = (text(&rig.plugin.socket), text(&rig.path("kubeconfig")));
    let fixed = ["gpu-node-agent", "--node-name", NODE, "--status-socket", &socket, "--kubeconfig"];
    let words =
        fixed.into_iter().chain([kubeconfig.as_str()]).chain(flags.iter().map(AsRef::as_ref));
    let args = Args::try_parse_from(words).unwrap();
    spawn_local(async move { run(&args, |_| false).await.unwrap() })
}

/// Waits until nobody asks anything any more. The clock stands still meanwhile.
pub(crate) async fn settle(rig: &Rig) {
    let asked = || (rig.api.calls(), rig.plugin.asked());
    let (mut seen, mut quiet) = (asked(), 0);
    while quiet < QUIET {
        yield_now().await;
        let now = asked();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}

/// Lets time go by, a few seconds at a time, so that nobody is late for an answer.
pub(crate) async fn pass(rig: &Rig, time: Duration) {
    let end = Instant::now() + time;
    settle(rig).await;
    while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    {
        advance(rest.min(LEAP)).await;
        settle(rig).await;
    }
}
