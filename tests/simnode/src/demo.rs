//! The demonstration: a simulated node and kubelet with a real plugin, a scenario that runs on
//! them, and commands for them.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use fake_nvml::profiles;
use simnode::{Kubelet, Node, Plugin, PluginOptions};

use crate::Args;

mod build;
mod interactive;
mod scenario;
mod screen;
mod setup;

pub(crate) use screen::Screen;
use setup::Setup;

/// Long enough for each step on a busy machine; a step that needs this long has failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything: an error is a step that did not happen.
pub(crate) async fn run(args: &Args, screen: &Screen) -> anyhow::Result<()> {
    let programs = build::programs(args.plugin.clone(), args.nvml_library.clone(), screen)?;
    let state =
        profiles::by_name(&args.profile).with_context(|| format!("no profile {}", args.profile))?;
    if state.gpus.is_empty() && !args.interactive {
        bail!(
            "the profile {} has no GPUs for the scenario; use it with --interactive",
            args.profile
        );
    }
    let node = Node::with_library(state, &programs.library)?;
    let kubelet = Kubelet::start(node.kubelet().version(args.kubelet.into())).await?;
    screen.title(&format!(
        "A node with {} GPUs ({}) and a kubelet {}, both simulated; the plugin is real.",
        node.state().gpus.len(),
        args.profile,
        match args.kubelet {
            crate::Release::V1_26 => "1.26",
            crate::Release::V1_32 => "1.32",
            crate::Release::V1_36 => "1.36",
            crate::Release::V1_37 => "1.37",
        },
    ));

    let mut options = PluginOptions::new(&programs.plugin);
    if args.interactive {
        options = options.env("HTTP_ADDRESS", "127.0.0.1:0");
    }
    options.args.extend(args.plugin_args.iter().map(Into::into));
    let plugin = Plugin::start(&node, &options)?;
    if args.verbose {
        let screen = screen.clone();
        plugin.follow_log(move |line| screen.log(line));
    }
    let mut setup = Setup { node, kubelet, plugin, screen: screen.clone() };
    let failed = match args.interactive {
        true => interactive::run(&mut setup).await,
        false => scenario::run(&mut setup).await.map(|()| 0),
    };
    let failed =
        failed.map_err(
            |error| if args.verbose { error } else { with_log(&error, &setup.plugin.log()) },
        )?;
    // A failed command fails a script, and nobody who types.
    ensure!(failed == 0 || io::stdin().is_terminal(), "{failed} of the commands");
    Ok(())
}

/// The plugin's log belongs to every failure.
fn with_log(error: &anyhow::Error, log: &[String]) -> anyhow::Error {
    let log: String = log.iter().map(|line| format!("  {line}\n")).collect();
    anyhow!("{error:#}\nThe plugin's log:\n{}", if log.is_empty() { "  nothing\n" } else { &log })
}
