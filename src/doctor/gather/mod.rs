//! Finds the facts: the one part of the doctor that uses other modules and looks at the node. It
//! reads files, opens device nodes and sends requests, and changes nothing.

mod checkpoint;
mod child;
mod fallback;
mod host;
mod kubelet;
mod mps;
mod node;
mod paths;
mod running_plugin;
mod runtime;
mod settings;
mod socket;
mod survey;

use std::ffi::OsString;
use std::path::PathBuf;

use super::facts::{ContainerRuntimes, Facts};
use crate::config::{Config, ConfigReport};
pub use fallback::fallback_facts;
pub use survey::survey;

/// What [`facts`] needs beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct GatherOptions {
    /// Where the host's root is mounted; `None`: it is determined.
    pub host_root: Option<PathBuf>,
    /// The arguments with which this program surveys the driver in a process of its own.
    pub survey: Vec<OsString>,
}

/// Gathers the facts. `config` is what the plugin would run with, with a default wherever `report`
/// has a mistake.
pub async fn facts(config: &Config, report: &ConfigReport, options: GatherOptions) -> Facts {
    let process = &config.process;
    let host_root = options.host_root.unwrap_or_else(|| host::root(&process.roots.driver));
    let (driver, kubelet, plugin, mps) = tokio::join!(
        child::survey(options.survey),
        kubelet::kubelet(config, &host_root),
        running_plugin::status(config),
        mps::daemons(config)
    );
    Facts {
        bus: host::bus(&process.nvml.sysfs_root),
        module: host::module(&process.roots.proc, &process.nvml.sysfs_root),
        driver,
        plugin,
        node: node::node(config, &kubelet.directory),
        kubelet,
        runtimes: ContainerRuntimes { mps, ..runtime::runtimes(&host_root) },
        settings: settings::settings(config, report, host_root),
    }
}
