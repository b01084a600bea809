//! The plugin when nothing happens.

use std::time::Duration;

use super::args::Args;
use super::bench::Bench;

/// The first polls come to code for the first time.
const SETTLED: Duration = Duration::from_secs(25);

/// What the plugin does when nothing happens.
pub(super) async fn idle(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::start(args, |_, options| options).await?;
    tokio::time::sleep(SETTLED).await;
    let before = bench.plugin.figures()?;
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let after = bench.plugin.figures()?;
    let seconds = args.idle as f64;
    let wakeups = (after.voluntary_switches - before.voluntary_switches) as f64 / seconds;
    let processor = after.processor_time.saturating_sub(before.processor_time);
    let processor = processor.as_secs_f64() * 1e6 / seconds;
    println!("{:<58}{wakeups:>10.2} /s", format!("idle for {} s: wake-ups", args.idle));
    println!("{:<58}{processor:>10.1} us/s", "idle: of one core");
    for (thread, switches) in &after.switches_by_thread {
        // Of threads with one name, one may have ended meanwhile.
        let before = before.switches_by_thread.get(thread).unwrap_or(&0);
        let switches = switches.saturating_sub(*before);
        println!(
            "{:<58}{:>10.2} /s",
            format!("  of them the thread {thread}"),
            switches as f64 / seconds
        );
    }
    Ok(())
}
