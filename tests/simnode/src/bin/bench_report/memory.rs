//! Memory, threads and descriptors.

use std::collections::BTreeMap;
use std::path::Path;

use simnode::node::{Mapped, Plugin};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};

use super::GPU;
use super::args::Args;
use super::bench::Bench;

/// How often memory is looked at on the way.
const PARTS: usize = 4;

/// Memory, threads and descriptors: fresh, after many calls, after many restarts.
pub(super) async fn memory(args: &Args) -> anyhow::Result<()> {
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

pub(super) fn print_memory(when: &str, plugin: &Plugin) -> anyhow::Result<()> {
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
