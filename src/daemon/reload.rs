//! The configuration over time: the file when its content changes and on SIGHUP, applied with the
//! least disturbance.
//!
//! An inotify watch on every directory that the file's path goes through tells of a ConfigMap's
//! symlink swap at once; a slow look beside it means that nothing rests on inotify alone.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use device::health::{HealthPolicy, Moment};
use device::injection::HostNodes;
use device::inventory::{Inventory, InventoryChanges};
use device::layout::LayoutFinding;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::findings;
use super::reload_history::ReloadHistory;
use crate::config::translate;
use crate::config::{Config, ConfigSource, Imex, Loaded, Purpose, Refused, Reload};
use crate::host::device_nodes::Roots;
use crate::host::dir_watch::{CHECK_INTERVAL, Watch, Watches};
use crate::observe::log;

/// Pause after a change, so that what is written in several steps is read once.
const SETTLE: Duration = Duration::from_millis(50);
/// Most symlinks that are followed on the way to the file.
const LINKS: usize = 8;

/// What there is to do.
pub(super) enum Wake {
    /// A configuration to apply.
    Reload(Box<Loaded>),
    /// Nothing new in the configuration; the host may have changed.
    Look,
}

/// The configuration in force, and where it comes from.
pub(super) struct Reloader {
    source: ConfigSource,
    running: Config,
    roots: Roots,
    hangup: Signal,
    changed: Arc<Notify>,
    due: Option<tokio::time::Instant>,
    watches: Watches,
    /// When to look beside the watches.
    look_at: tokio::time::Instant,
    /// `None`: it cannot be watched.
    watched: BTreeMap<PathBuf, Option<Watch>>,
    reload_history: ReloadHistory,
}

impl Reloader {
    /// Listens for SIGHUP from now on: before, the signal would end the process.
    ///
    /// # Errors
    /// The signal cannot be listened for.
    pub(super) fn new(
        source: ConfigSource,
        running: Config,
        watches: Watches,
        reload_history: ReloadHistory,
    ) -> anyhow::Result<Self> {
        let mut reloader = Self {
            roots: translate::roots(&running),
            source,
            running,
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            changed: Arc::new(Notify::new()),
            due: None,
            look_at: watches.next_check(),
            watches,
            watched: BTreeMap::new(),
            reload_history,
        };
        reloader.watch();
        Ok(reloader)
    }

    /// What the host has, as far as the configuration in force needs it.
    ///
    /// # Errors
    /// The configuration requires something that the host does not have.
    pub(super) fn host(&self) -> anyhow::Result<HostNodes> {
        host(&self.running, &self.roots)
    }

    /// The configuration in force.
    pub(super) fn running(&self) -> &Config {
        &self.running
    }

    /// Comes back when there is something to do. Nothing is lost when it is dropped before.
    pub(super) async fn next(&mut self) -> Wake {
        loop {
            let due = self.due;
            let settled = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.hangup.recv() => {
                    info!("SIGHUP: reading the configuration again");
                    self.watch();
                    match self.source.load(Purpose::Serve) {
                        Ok(loaded) => return Wake::Reload(Box::new(loaded)),
                        Err(refused) => self.refuse(&refused),
                    }
                }
                () = self.changed.notified() => self.due = Some(tokio::time::Instant::now() + SETTLE),
                () = settled => {
                    self.due = None;
                    self.watch();
                    if let Some(loaded) = self.look() {
                        return Wake::Reload(loaded);
                    }
                }
                () = tokio::time::sleep_until(self.look_at) => {
                    self.look_at = self.watches.next_check();
                    self.watch();
                    return self.look().map_or(Wake::Look, Wake::Reload);
                }
            }
        }
    }

    fn look(&mut self) -> Option<Box<Loaded>> {
        match self.source.reload() {
            Reload::Unchanged => None,
            Reload::Loaded(loaded) => Some(loaded),
            Reload::Refused(refused) => {
                self.refuse(&refused);
                None
            }
        }
    }

    /// Applies a configuration, or refuses it whole and leaves the one in force.
    pub(super) fn apply(
        &mut self,
        loaded: Loaded,
        now: Moment,
        publish: &watch::Sender<Arc<Inventory>>,
    ) {
        let began = Instant::now();
        for warning in loaded.warnings() {
            warn!("{warning}");
        }
        let mut config = loaded.config;
        let changes = self.running.changes(&config);
        if changes.is_empty() {
            info!("the configuration is what it was");
            return;
        }
        for setting in &changes.at_next_start {
            warn!(setting, "a change of this setting waits for the next start");
        }
        config.keep_process_of(&self.running);
        let policy = changes.health.then(|| translate::policy(&config));
        if let Err(error) = self.put_in_force(&config, policy, now, publish) {
            error!("the new configuration is refused, the one before stays in force: {error:#}");
            self.reload_history.refused(&format!("{error:#}"));
            return;
        }
        let took = began.elapsed().as_secs_f64() * 1e3;
        info!(
            layout = changes.layout,
            resources =
                changes.resources.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            injection = changes.injection,
            allocation = changes.allocation,
            health = changes.health,
            milliseconds = (took * 1e3).round() / 1e3,
            "the new configuration is in force"
        );
        self.reload_history.applied();
        self.running = config;
    }

    fn put_in_force(
        &self,
        config: &Config,
        policy: Option<HealthPolicy>,
        now: Moment,
        publish: &watch::Sender<Arc<Inventory>>,
    ) -> anyhow::Result<()> {
        let layout = translate::layout(config);
        let injector = translate::injector(config, host(config, &self.roots)?);
        let before = publish.borrow().clone();
        let too_large =
            before.preview_layout(&layout).findings.into_iter().find_map(|finding| match finding {
                LayoutFinding::ListTooLarge { resource, why } => Some((resource, why)),
                _ => None,
            });
        if let Some((resource, why)) = too_large {
            bail!("the sharing of {resource} {why}");
        }
        let policies = translate::policies(config);
        self.change(publish, |inventory| {
            let judged =
                policy.map(|policy| inventory.set_health_policy(now, policy)).unwrap_or_default();
            [
                judged,
                inventory.set_layout(layout),
                inventory.set_injector(injector),
                inventory.set_allocation_policy(policies),
            ]
        });
        Ok(())
    }

    /// Looks at the host again.
    pub(super) fn look_at_host(&self, publish: &watch::Sender<Arc<Inventory>>) {
        // A channel that goes is no reason to end: containers that are to have it are told by their
        // runtime.
        let host = self.roots.read(self.running.injection.pass_device_specs);
        let injector = translate::injector(&self.running, host);
        if *publish.borrow().injector() == injector {
            return;
        }
        self.change(publish, |inventory| [inventory.set_injector(injector)]);
    }

    /// The one place where a configuration changes the inventory.
    fn change<const N: usize>(
        &self,
        publish: &watch::Sender<Arc<Inventory>>,
        how: impl FnOnce(&mut Inventory) -> [InventoryChanges; N],
    ) {
        let mut next = publish.borrow().clone();
        let changes = how(Arc::make_mut(&mut next));
        publish.send_replace(next.clone());
        for changes in &changes {
            log::changes(changes, &next, None);
            findings::log(changes);
            self.reload_history.journal().take(self.reload_history.now(), changes, &next);
        }
    }

    fn refuse(&self, refused: &Refused) {
        let text = refused.to_string();
        for line in text.lines() {
            error!("{line}");
        }
        error!("the config file is refused, the configuration before stays in force");
        self.reload_history.refused(&text);
    }

    /// Watches the directories on the way to the file, which change with its symlinks. Trouble is
    /// no more than slowness.
    fn watch(&mut self) {
        let Some(path) = self.source.path() else { return };
        let wanted = directories(path);
        self.watched.retain(|directory, _| wanted.contains(directory));
        for directory in wanted {
            let Entry::Vacant(unwatched) = self.watched.entry(directory) else { continue };
            let changed = self.changed.clone();
            let heard = move |event: &notify::Event| {
                if !event.kind.is_access() {
                    changed.notify_one();
                }
            };
            let watch = self.watches.watch(unwatched.key(), heard).map_err(|error| {
                warn!(
                    directory = %unwatched.key().display(), %error,
                    "cannot watch for a change of the config file, looking at it every {} \
                        s", CHECK_INTERVAL.as_secs()
                );
            });
            unwatched.insert(watch.ok());
        }
    }
}

fn host(config: &Config, roots: &Roots) -> anyhow::Result<HostNodes> {
    let host = roots.read(config.injection.pass_device_specs);
    if config.injection.imex == Imex::Required && !host.imex_channel {
        bail!(
            "imex.required is set and the host has no IMEX channel 0: no character device {} in {} \
                nor in our own \
             container; create it (nvidia-modprobe -c 0), or do not require it",
            device::injection::IMEX_CHANNEL,
            roots.driver.display()
        );
    }
    Ok(host)
}

/// The directory of the file, and of everything that a symlink on the way to it leads through.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        directories.insert(parent.clone());
        // A ConfigMap's file leads through `..data`, which is the link that is swapped.
        if let Some(above) = parent.parent().filter(|_| parent.is_symlink()) {
            directories.insert(above.to_owned());
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => break,
        }
    }
    directories.retain(|directory| directory.is_dir());
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_on_the_way_to_the_file_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["config", "available/..1"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        std::fs::write(at("available/..1/a100"), "").unwrap();
        std::os::unix::fs::symlink("..1", at("available/..data")).unwrap();
        std::os::unix::fs::symlink("..data/a100", at("available/a100")).unwrap();
        std::os::unix::fs::symlink(at("available/a100"), at("config/config.yaml")).unwrap();
        let watched = directories(&at("config/config.yaml"));
        assert_eq!(watched, [at("config"), at("available"), at("available/..data")].into());
    }
}
