//! Finds the facts: the one part of the doctor that uses other modules and looks at the node. It
//! reads files, opens device nodes and sends requests, and changes nothing.

mod child;
mod distribution;
mod environment;
mod hooks;
mod host;
mod kubelet;
mod mps;
mod node;
mod runtime;
mod socket;
mod survey;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use status::{NvmlState, Status};

use super::check::FallbackFacts;
use super::checks;
use super::facts::{
    ContainerRuntimes, DriverProbe, EffectiveSettings, Facts, PluginSocket, SocketProbe,
};
use crate::config::{Choice, Config, ConfigReport, Diagnostic};
use crate::host::pci::BusRoots;
use crate::kubelet::device_plugin::wire;
use crate::observe::client;
pub use child::answer_channel;
pub use environment::DoctorEnvironment;
pub use survey::survey;

/// How long the running plugin may take to answer.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long a socket may take to answer a check: node problem detector allows little time.
const CHECK_DEADLINE: Duration = Duration::from_millis(100);

/// Gathers the facts. `config` is what the plugin would run with, with a default wherever `report`
/// has a mistake. The host's root is determined, if it is not given. `survey` are the arguments
/// with which this program surveys the driver in a process of its own, for each call of which it
/// waits as long as `patience`.
pub async fn facts(
    config: &Config,
    report: &ConfigReport,
    host_root: Option<PathBuf>,
    survey: Vec<OsString>,
    patience: Duration,
    environment: DoctorEnvironment,
) -> Facts {
    let process = &config.process;
    let host_root = host_root.unwrap_or_else(|| host::root(&process.roots.driver));
    let of_driver = async {
        // First, since NVML may be released for a reset, which must not meet another client.
        let plugin = plugin_status(config).await;
        let is_released =
            plugin.as_ref().is_ok_and(|status| status.nvml.state == NvmlState::Released);
        let driver = match is_released {
            true => DriverProbe::Released,
            false => child::survey(survey, patience).await,
        };
        (plugin, driver)
    };
    let ((plugin, driver), kubelet, mps) = tokio::join!(
        of_driver,
        kubelet::kubelet(config, &host_root),
        mps::mps(config, &host_root, &environment)
    );
    let (sysfs, proc, dev) =
        (&*process.nvml.sysfs_root, &*process.roots.proc, process.roots.dev_root());
    Facts {
        platform: host::platform([&host_root, &process.roots.driver], proc, sysfs, dev),
        bus: host::bus(BusRoots { sysfs, proc, dev }),
        module: host::module(&process.roots.proc, &process.nvml.sysfs_root),
        driver,
        plugin,
        node: node::node(config, &host_root),
        kubelet,
        runtimes: ContainerRuntimes {
            mps,
            hooks: hooks::hooks(config, &host_root),
            ..runtime::runtimes(&host_root)
        },
        settings: settings(config, report, host_root),
    }
}

/// The status of the running plugin.
async fn plugin_status(config: &Config) -> Result<Box<Status>, String> {
    let response =
        client::get(&config.process.status_endpoints(), "/status", PLUGIN_DEADLINE).await?;
    if response.code != 200 {
        return Err(format!("what answers is no gpu-device-plugin: HTTP status {}", response.code));
    }
    status::read(&response.body).map(Box::new)
}

fn settings(config: &Config, report: &ConfigReport, host_root: PathBuf) -> EffectiveSettings {
    let lines = |diagnostics: &[Diagnostic]| {
        diagnostics.iter().map(|diagnostic| report.line(diagnostic)).collect()
    };
    EffectiveSettings {
        file: config.process.config_file.as_ref().map(|file| file.display().to_string()),
        mistakes: lines(&report.mistakes),
        warnings: lines(&report.warnings),
        strategies: config.injector.strategies.clone(),
        mig_strategy: config.layout.mig_strategy.as_str().to_owned(),
        driver_root: config.process.nvml.driver_root.clone(),
        host_root,
        quarantine_dir: config.process.quarantine_dir.clone(),
    }
}

/// What can be seen of the plugin without its status, for a check that must end soon.
pub async fn fallback_facts(config: &Config) -> FallbackFacts {
    let process = &config.process;
    let (paths, proc) = (&process.plugin, &process.roots.proc);
    let registration = async {
        let socket = paths.kubelet.as_ref()?;
        Some(socket::probe(socket, wire::REGISTRATION, CHECK_DEADLINE).await.0)
    };
    let pod_resources = process.pod_resources_socket.as_deref();
    let (sockets, registration, allocatable) = tokio::join!(
        socket::plugins(paths, CHECK_DEADLINE),
        registration,
        kubelet::allocatable(pod_resources, CHECK_DEADLINE)
    );
    let silent = sockets.iter().filter(|of| of.ours.is_some() && of.probe == SocketProbe::TimedOut);
    let silent = silent.map(|socket| socket.name.clone()).collect();
    let live = sockets.into_iter().filter(|socket| socket.probe == SocketProbe::Answers);
    let (ours, others): (Vec<PluginSocket>, Vec<PluginSocket>) =
        live.partition(|socket| socket.ours.is_some());
    let served: Vec<String> = ours.into_iter().filter_map(|socket| socket.ours).collect();
    let offered = served.iter().cloned().collect();
    let rivals = others.into_iter().filter(|other| checks::is_rival(other, &offered));
    let module = host::module(proc, &process.nvml.sysfs_root).version.is_some();
    FallbackFacts {
        error: String::new(),
        // Where not even this file is, there is no procfs.
        module: (module || proc.join("version").exists()).then_some(module),
        directory: std::fs::read_dir(&paths.directory).err().map(|error| error.to_string()),
        rivals: rivals.map(|other| other.name).collect(),
        served,
        silent,
        registration,
        allocatable,
    }
}
