//! Shows the device plugin at work on a simulated node: the real binary, a fake kubelet above it
//! and a fake NVML below.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use fake_nvml::profiles;
use simnode::KubeletVersion;

mod demo;

/// Runs the device plugin on a simulated GPU node and tells what happens.
///
/// Started by `cargo run -p simnode`, it first builds the plugin and the fake NVML; started by
/// itself, it expects them beside it.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Args {
    /// The device plugin to run
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,

    /// The fake NVML to run it on
    #[arg(long, value_name = "PATH")]
    nvml_library: Option<PathBuf>,

    /// The node's GPUs
    #[arg(long, value_name = "NAME", default_value = "h100x8", value_parser = profile_names())]
    profile: String,

    /// Whose behaviour the fake kubelet shows
    #[arg(long, value_name = "VERSION", default_value = "1.36")]
    kubelet: Release,

    /// Keep the node running and take commands from standard input; `help` lists them
    #[arg(long)]
    interactive: bool,

    /// Show the plugin's log lines as they come
    #[arg(long)]
    verbose: bool,

    /// Arguments for the plugin, after `--`
    #[arg(last = true, value_name = "PLUGIN ARGUMENT")]
    plugin_args: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Release {
    #[value(name = "1.26")]
    V1_26,
    #[value(name = "1.32")]
    V1_32,
    #[value(name = "1.36")]
    V1_36,
    #[value(name = "1.37")]
    V1_37,
}

impl From<Release> for KubeletVersion {
    fn from(release: Release) -> Self {
        match release {
            Release::V1_26 => Self::V1_26,
            Release::V1_32 => Self::V1_32,
            Release::V1_36 => Self::V1_36,
            Release::V1_37 => Self::V1_37,
        }
    }
}

fn profile_names() -> Vec<&'static str> {
    profiles::ALL.iter().map(|(name, _)| *name).collect()
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let screen = demo::Screen::new();
    let interrupted = async {
        // Without a handler Ctrl-C would end this process and leave the node's directory behind.
        tokio::signal::ctrl_c().await
    };
    let result = tokio::select! {
        result = demo::run(&args, &screen) => result,
        _ = interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}
