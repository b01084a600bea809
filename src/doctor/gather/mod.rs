//! The facts: the one part of the doctor that knows other rooms and looks at the node. It reads,
//! opens and asks, and changes nothing.

mod child;
mod host;
mod kubelet;
mod runtime;
mod survey;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use device::layout::sharing::Sharing;
use status::Status;

use super::facts::{ContainerRuntimes, EffectiveSettings, Facts, NodeFacts, SocketProbe};
use crate::config::translate;
use crate::config::{Choice, Config, Report, Sharing};
use crate::doctor::check::FallbackFacts;
use crate::host::state_file::StateFile;
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::mps;
use crate::observe::client;
pub use survey::survey;

/// What a look is to be told from outside.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Where the host's root is mounted; `None`: it is found.
    pub host_root: Option<PathBuf>,
    /// The arguments with which this program asks the driver in a process of its own.
    pub survey: Vec<OsString>,
}

/// Looks at the node. `config` is what the plugin would run on, with a default wherever `report`
/// has a mistake.
pub async fn facts(config: &Config, report: &ConfigReport, look: Look) -> Facts {
    let host_root = look.host_root.unwrap_or_else(|| host::root(&config.process.nvml.driver_root));
    let (driver, kubelet, plugin, mps) = tokio::join!(
        child::ask(look.survey),
        kubelet::look(config, &host_root),
        plugin(config),
        mps(config)
    );
    Facts {
        bus: host::bus(&config.process.nvml.sysfs_root),
        module: host::module(&config.process.roots.proc, &config.process.nvml.sysfs_root),
        driver,
        plugin,
        node: node(config, &kubelet.directory),
        kubelet,
        runtimes: ContainerRuntimes { mps, ..runtime::look(&host_root) },
        settings: settings(config, report, host_root),
    }
}

/// What the running plugin says.
async fn plugin(config: &Config) -> Result<Box<Status>, String> {
    let answer = client::get(&config.process.http_endpoints(), "/status", PATIENCE)
        .await
        .map_err(|error| error.to_string())?;
    serde_json::from_str(&answer.body)
        .map(Box::new)
        .map_err(|error| format!("what answers is no gpu-device-plugin: {error}"))
}

/// How long the running plugin may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the control daemon of each resource that MPS shares answers.
async fn mps(config: &Config) -> Vec<(String, Result<String, String>)> {
    let Sharing::Mps { replication, .. } = &config.layout.sharing else { return Vec::new() };
    let mut answers = Vec::new();
    for shared in &replication.resources {
        let answer = mps::ask(&shared.offered_as).await.map_err(|error| error.to_string());
        answers.push((shared.offered_as.to_string(), answer));
    }
    answers
}

/// What can be seen of the plugin without asking it, for a check that has to be over soon.
pub async fn outside(config: &Config) -> FallbackFacts {
    let (directory, kubelet) = places(config);
    let endpoints = kubelet::endpoints(&directory, kubelet.as_deref(), SOON).await;
    let known = kubelet::checkpoint(&directory.join(kubelet::CHECKPOINT)).ok();
    let nvidia = |(name, _): &(&String, &usize)| name.starts_with("nvidia.com/");
    FallbackFacts {
        error: String::new(),
        module: host::module(&config.process.proc_root, &config.process.sysfs_root)
            .version
            .is_some(),
        served: endpoints
            .iter()
            .filter(|end| end.ours.is_some() && end.probe == SocketProbe::Answers)
            .count(),
        known: known.map(|known| known.iter().filter(nvidia).map(|(_, devices)| devices).sum()),
    }
}

/// How long a socket may take to answer when there is little time.
const SOON: Duration = Duration::from_millis(100);

fn settings(config: &Config, report: &Report, host_root: PathBuf) -> EffectiveSettings {
    let lines = |remarks: &[crate::config::Remark]| {
        remarks.iter().map(|remark| report.line(remark)).collect()
    };
    EffectiveSettings {
        file: config.process.config_file.as_ref().map(|file| file.display().to_string()),
        mistakes: lines(&report.mistakes),
        warnings: lines(&report.warnings),
        strategies: config.injector.strategies.clone(),
        ids: config.injector.ids,
        mig_strategy: config.layout.mig_strategy.as_str().to_owned(),
        driver_root: config.process.nvml.driver_root.clone(),
        host_root,
    }
}

fn node(config: &Config, kubelet: &Path) -> NodeFacts {
    let process = &config.process;
    let directory = |path: &Option<PathBuf>| {
        path.clone().map(|path| (path.clone(), host::own_directory(&path)))
    };
    let mut changed = vec![kubelet.join(kubelet::CHECKPOINT), kubelet.join("kubelet.sock")];
    let unreadable =
        process.state_dir.as_deref().and_then(|directory| StateFile::peek(directory).err());
    changed.extend(process.state_dir.as_ref().map(|state| state.join("health.json")));
    let changed: BTreeMap<SystemTime, PathBuf> = changed
        .into_iter()
        .filter_map(|file| Some((fs::metadata(&file).ok()?.modified().ok()?, file)))
        .collect();
    NodeFacts {
        inotify: host::inotify(&process.proc_root, kubelet),
        now: SystemTime::now(),
        newest: changed.into_iter().next_back().map(|(at, file)| (file, at)),
        state: directory(&process.state_dir),
        unreadable: unreadable.map(|error| error.to_string()),
        quarantine: directory(&process.quarantine_dir),
    }
}
