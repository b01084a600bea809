//! The start of the plugin.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::args::Args;
use super::bench::{Bench, field};
use super::times::Times;
use super::{GPU, PATIENCE};

/// From exec, and from the start of `main`, to Register and to the first list.
pub(super) async fn start(args: &Args) -> anyhow::Result<()> {
    let (mut inside, mut register, mut list) = (Times::new(), Times::new(), Times::new());
    for _ in 0..args.starts {
        let bench = Bench::start(args, |_, options| options).await?;
        let view = bench.kubelet.view();
        let first = view.accepted(GPU).next().context("a registration")?;
        register.add(first.at - bench.plugin.started_at());
        let resource = view.resource(GPU).context("the resource")?;
        list.add(resource.last_list_at.context("a list")? - bench.plugin.started_at());
        let (_, line) = bench.plugin.wait_for_log("registered with the kubelet", PATIENCE).await?;
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
    inside.print("start of main to Register answered");
    register.print("exec to Register received");
    list.print("exec to the first list received");
    yardstick.print("yardstick: --version, exec to exit");
    Ok(())
}
