//! How long 1,000 nodes take to be listed, and how much memory. It prints, and asserts nothing.
// A test's helpers may unwrap as the test itself may: a panic is a failure with its place.
#![allow(clippy::unwrap_used)]
#![allow(missing_docs, reason = "a bench has no interface")]

#[path = "../tests/kubectl/rig.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod rig;

use std::process::Stdio;
use std::time::{Duration, Instant};

use rig::{Rig, node, run, summary};

/// How often each is measured.
const RUNS: usize = 11;

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}

async fn measure() {
    for (nodes, annotation) in [(1_000, 0), (5_000, 0), (1_000, 255 << 10)] {
        let rig = Rig::new().await;
        let mut bytes = 0;
        for number in 0..nodes {
            let problems = [("error", "GPU 7 Xid 79")];
            let problems = if number % 100 == 0 { &problems[..] } else { &[] };
            let mut node = node(&format!("node-{number:04}"), Some(&summary(8, problems)));
            // As long as Kubernetes lets them be, on each twentieth.
            if annotation > 0 && number % 20 == 0 {
                node["metadata"]["annotations"]["nvidia.com/gpu.summary"] =
                    "\u{1b}".repeat(annotation).into();
            }
            bytes += node["metadata"].to_string().len();
            rig.put(&node);
        }
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let began = Instant::now();
            run(rig.command(&["-o", "wide"])).await.succeeded();
            times.push(began.elapsed());
        }
        times.sort();
        println!(
            "{nodes} nodes, {} MB of metadata{}: {:.0?}, worst of {RUNS} {:.0?}; {} MB of memory",
            bytes / 1_000_000,
            if annotation > 0 { ", every twentieth with 255 KiB" } else { "" },
            times[RUNS / 2],
            times[RUNS - 1],
            peak(&rig).await,
        );
    }
}

/// The most memory that a list took, in MB: the kernel's mark is read while the program still
/// watches.
async fn peak(rig: &Rig) -> u64 {
    let mut command = rig.command(&["-w", "-o", "wide"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id().unwrap();
    while rig.count("watch", "nodes") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    child.kill().await.unwrap();
    kib * 1_024 / 1_000_000
}
