//! Measures the plugin from outside, on a simulated node of eight H100s, and prints what it takes.
//!
//! `benches/bench_report` builds what it needs and runs it. Times are medians of one run on one
//! machine; where a figure depends on the machine, a reference taken in the same run stands beside
//! it.

mod args;
mod bench;
mod calls;
mod cdi;
mod disturbed;
mod health;
mod http;
mod idle;
mod many;
mod memory;
mod mps;
mod restarts;
mod start;
mod times;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use args::{Args, Part};

const GPU: &str = "nvidia.com/gpu";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let size = std::fs::metadata(&args.plugin).context("the plugin's executable")?.len();
    println!("{:<58}{:>10.2} MB", "executable, stripped", size as f64 / 1e6);
    for part in &args.only {
        match part {
            Part::Start => start::start(&args).await?,
            Part::Calls => calls::calls(&args).await?,
            Part::Xids => health::xids(&args).await?,
            Part::Recoveries => health::recoveries(&args).await?,
            Part::Restarts => restarts::kubelet_restarts(&args).await?,
            Part::Http => {
                http::scrapes(&args).await?;
                http::slow_clients(&args).await?;
            }
            Part::Memory => memory::memory(&args).await?,
            Part::Idle => idle::idle(&args).await?,
            Part::Disturbed => disturbed::disturbed(&args).await?,
            Part::Many => many::devices(&args).await?,
            Part::Cdi => cdi::cdi(&args).await?,
            Part::Mps => mps::mps(&args).await?,
        }
    }
    Ok(())
}
