//! What the agent's program needs, and how soon the API server knows what has changed. It prints,
//! and asserts nothing.
// A test's helpers may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs, reason = "a bench has no interface")]

#[path = "../tests/agent/rig.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod rig;

use std::fs;
use std::time::{Duration, Instant};

use rig::{Agent, NODE, Rig, h200, until, xid_79};

/// For how long nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// How often a GPU fails and recovers.
const CHANGES: usize = 5;
/// The agent writes one thing at most every five seconds.
const BETWEEN_CHANGES: Duration = Duration::from_secs(6);

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run());
}

async fn run() {
    let rig = Rig::new().await;
    rig.api.grant(&["watch nodes"]);
    let name = rig.path("config-name");
    let name = format!("--config-name-file={}", name.display());
    let agent =
        rig.agent(&["--labels=node", "--node-condition", "--node-taint", "--events", &name]);
    rig.until_condition("False", "GPUsHealthy").await;
    rig.until_labels("nvidia.com/gpu.count", &[("nvidia.com/gpu.count", "1")]).await;
    tokio::time::sleep(BETWEEN_CHANGES).await;

    let (ticks, switches, calls) = (ticks(&agent), switches(&agent), rig.api.received().len());
    let memory = [memory(&agent, "VmRSS"), memory(&agent, "RssAnon")];
    println!("resident        {:.1} MB, {:.1} MB of it anonymous", memory[0], memory[1]);
    tokio::time::sleep(IDLE).await;
    let received = rig.api.received().split_off(calls);
    let writes = received.iter().filter(|call| matches!(call.verb, "patch" | "create")).count();
    println!("in {} s without a change", IDLE.as_secs());
    println!("  processor     {} clock ticks", self::ticks(&agent) - ticks);
    println!("  wake-ups      {}", self::switches(&agent) - switches);
    println!("  requests      {}, {writes} of them writes", received.len());

    let mut times = Vec::new();
    for number in 0..CHANGES {
        let (status, value) = if number % 2 == 0 { (xid_79(), "True") } else { (h200(), "False") };
        let began = Instant::now();
        rig.plugin.set(status);
        until("the condition", || {
            let condition = rig.api.condition(NODE, "GPUUnhealthy").unwrap_or_default();
            if condition["status"] == value { Ok(()) } else { Err(condition.to_string()) }
        })
        .await;
        times.push(began.elapsed().as_millis());
        tokio::time::sleep(BETWEEN_CHANGES).await;
    }
    println!("a change of health is in the condition after {times:?} ms");
    println!("resident        {:.1} MB after that", self::memory(&agent, "VmRSS"));
}

/// A figure of /proc/PID/status in megabytes.
fn memory(agent: &Agent, key: &str) -> f64 {
    let kib: f64 = figure(agent, key).parse().unwrap();
    kib * 1024.0 / 1e6
}

/// How often its threads went to sleep by themselves.
fn switches(agent: &Agent) -> u64 {
    figure(agent, "voluntary_ctxt_switches").parse().unwrap()
}

fn figure(agent: &Agent, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// Processor time (proc(5): fields 14 and 15 of stat).
fn ticks(agent: &Agent) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}
