//! NVIDIA's config manager: links a file to the configuration that is chosen, and signals the
//! program that reads it. The plugin of this project needs no signal, but other charts send one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tracing::{info, warn};

use super::choice::{Choice, choose};
use super::directory::names;
use crate::api::ApiServer;
use crate::args::{ConfigArgs, Interval, ManagerArgs};
use crate::keep::{Target, keep};
use crate::node_labels::{NodeLabelValues, follow_labels};
use crate::outputs::on_scratch_thread;
use crate::retry::Failure;

/// What stands for a configuration in which every setting has its default.
const NULL: &str = "/dev/null";

/// Follows the label of a node and keeps the link, for good; or with `--oneshot` makes it once.
///
/// # Errors
/// The source is missing; or with `--oneshot` the link cannot be made.
pub async fn manage(
    api: Arc<ApiServer>,
    node: &str,
    config: &ConfigArgs,
    manager: &ManagerArgs,
    (oneshot, interval): (bool, Interval),
) -> Result<(), String> {
    let link = ConfigLink::new(config, manager)?;
    let (sender, labels) = watch::channel(None);
    let label = |labels: &NodeLabelValues| Some(config.label(labels.as_deref()?));
    let keeping = async {
        if oneshot {
            once(link, labels, label).await
        } else {
            keep(link, labels, label, interval).await;
            Ok(())
        }
    };
    tokio::select! {
        done = keeping => done,
        () = follow_labels(api, node, sender) => Ok(()),
    }
}

async fn once(
    mut link: ConfigLink,
    mut labels: watch::Receiver<NodeLabelValues>,
    label: impl Fn(&NodeLabelValues) -> Option<String>,
) -> Result<(), String> {
    let known = labels.wait_for(|labels| labels.is_some()).await;
    let label = known.ok().and_then(|labels| label(&labels)).unwrap_or_default();
    link.write(&label).await.map_err(|failure| failure.why)
}

/// The link, and who is told of its changes.
#[derive(Debug, Clone)]
pub struct ConfigLink {
    args: ConfigArgs,
    source: PathBuf,
    link: PathBuf,
    signal: Option<(Signal, String)>,
}

impl ConfigLink {
    /// The link of these arguments.
    ///
    /// # Errors
    /// The source is missing.
    pub fn new(config: &ConfigArgs, manager: &ManagerArgs) -> Result<Self, String> {
        let source = config.source().ok_or("--config-file-srcdir is needed")?;
        let link = manager.config_file_dst.clone();
        let signal = (manager.signal, manager.process_to_signal.clone());
        let signal = manager.send_signal.then_some(signal);
        Ok(Self { args: config.clone(), source, link, signal })
    }

    /// Where the link is to lead.
    fn target(&self, label: &str) -> Result<PathBuf, String> {
        let names = names(&self.source)
            .map_err(|error| format!("reading {}: {error}", self.source.display()))?;
        let there = || names.iter().take(16).cloned().collect::<Vec<_>>().join(", ");
        let ConfigArgs { default_config, fallback_strategies, .. } = &self.args;
        match choose(Some(label), default_config, &fallback_strategies.0, &names) {
            Choice::Named(name) if names.contains(&name) => Ok(self.source.join(name)),
            Choice::Named(name) => Err(format!(
                "the configuration {:?} is chosen, and {} has: {}",
                status::escaped(&name),
                self.source.display(),
                there()
            )),
            Choice::Empty => Ok(PathBuf::from(NULL)),
            Choice::Nothing => Err(format!(
                "neither label, default nor fallback chooses a configuration of {}, which has: {}",
                self.source.display(),
                there()
            )),
        }
    }

    fn is_right(&self, label: &str) -> Result<bool, String> {
        let target = self.target(label)?;
        Ok(fs::read_link(&self.link).is_ok_and(|there| there == target))
    }

    /// Links again, if it leads elsewhere, and tells the program.
    fn relink(&self, label: &str) -> Result<(), String> {
        if self.is_right(label)? {
            return Ok(());
        }
        let target = self.target(label)?;
        replace(&self.link, &target)
            .map_err(|error| format!("linking {}: {error}", self.link.display()))?;
        info!(target = %target.display(), "the configuration is linked");
        if let Some((signal, program)) = &self.signal
            && let Err(why) = send(*signal, program)
        {
            warn!(program, why, "the program that reads the configuration is not signalled");
        }
        Ok(())
    }
}

impl Target for ConfigLink {
    type Wanted = String;
    const WHAT: &'static str = "the links of --config-file-dst";
    // It is nothing to the API server, and somebody waits for it.
    const BETWEEN_WRITES: Duration = Duration::from_secs(1);

    async fn is_there(&mut self, label: &String) -> Result<bool, Failure> {
        let (link, label) = (self.clone(), label.clone());
        Ok(on_scratch_thread(move || link.is_right(&label)).await??)
    }

    async fn write(&mut self, label: &String) -> Result<(), Failure> {
        let (link, label) = (self.clone(), label.clone());
        Ok(on_scratch_thread(move || link.relink(&label)).await??)
    }
}

/// Replaces a link at once: nobody finds nothing there.
fn replace(link: &Path, target: &Path) -> io::Result<()> {
    let name = link.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = link.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &beside)?;
    fs::rename(&beside, link)
}

/// Signals the first process whose command is exactly this.
fn send(signal: Signal, program: &str) -> Result<(), String> {
    let processes = fs::read_dir("/proc").map_err(|error| format!("reading /proc: {error}"))?;
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // One that ends meanwhile is not it.
        let command = start(&process.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).next() == Some(program.as_bytes()) {
            return kill_process(pid, signal).map_err(|error| error.to_string());
        }
    }
    Err("no process has that command; the pod needs shareProcessNamespace for it".to_owned())
}

/// The start of a file.
fn start(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}
