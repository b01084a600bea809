//! Reloads the configuration when the content of its file changes and on SIGHUP, and applies it
//! with the least disturbance.
//!
//! The file is watched by inotify, and checked from time to time, so that nothing depends on
//! inotify alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use device::health::Moment;
use device::injection::HostNodes;
use device::inventory::{Inventory, InventoryChanges};
use device::layout::{Layout, LayoutFinding};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{Span, error, error_span, info, warn};

use super::config_watch::ConfigWatch;
use super::findings;
use super::reload_history::ReloadHistory;
use crate::config::{Config, ConfigError, ConfigSource, Loaded, Purpose, Reload};
use crate::host::device_nodes::Roots;
use crate::host::dir_watch::Watches;
use crate::observe::log;

/// Pause after a change, so that a file that is written in several steps is read once.
const SETTLE: Duration = Duration::from_millis(50);

/// What there is to do.
pub(super) enum ReloadEvent {
    /// Apply a configuration.
    Load(Box<Loaded>, Cause),
    /// The configuration is the same; the host may have changed.
    CheckHost,
}

/// Why the configuration was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The signal.
    Sighup,
    /// The content of the file is another one.
    FileChanged,
}

/// The configuration in force, and its source.
pub(super) struct Reloader {
    source: ConfigSource,
    running: Config,
    roots: Roots,
    sighup: Signal,
    config_watch: ConfigWatch,
    /// When to read the file after a change.
    settled_at: Option<tokio::time::Instant>,
    watches: Watches,
    /// When to check in addition to the watches.
    next_check: tokio::time::Instant,
    reload_history: ReloadHistory,
}

impl Reloader {
    /// Handles SIGHUP from now on, which would otherwise end the process.
    ///
    /// # Errors
    /// The signal cannot be handled.
    pub(super) fn new(
        source: ConfigSource,
        running: Config,
        watches: Watches,
        reload_history: ReloadHistory,
    ) -> anyhow::Result<Self> {
        let mut reloader = Self {
            roots: running.process.roots.clone(),
            source,
            running,
            sighup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            config_watch: ConfigWatch::new(watches.clone()),
            settled_at: None,
            next_check: watches.next_check(),
            watches,
            reload_history,
        };
        reloader.update_watch();
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

    /// Waits until there is something to do. Nothing is lost when it is dropped before.
    pub(super) async fn next(&mut self) -> ReloadEvent {
        loop {
            tokio::select! {
                _ = self.sighup.recv() => {
                    if let Some(event) = self.reload() {
                        return event;
                    }
                }
                () = self.config_watch.changed() => {
                    self.settled_at = Some(tokio::time::Instant::now() + SETTLE);
                }
                () = sleep_until(self.settled_at) => {
                    self.settled_at = None;
                    if let Some(event) = self.check() {
                        return event;
                    }
                }
                () = tokio::time::sleep_until(self.next_check) => {
                    self.next_check = self.watches.next_check();
                    return self.check().unwrap_or(ReloadEvent::CheckHost);
                }
            }
        }
    }

    /// Reads the configuration, whether it has changed or not.
    fn reload(&mut self) -> Option<ReloadEvent> {
        let _span = self.span(Cause::Sighup).entered();
        info!("SIGHUP: reading the configuration again");
        self.update_watch();
        match self.source.load(Purpose::Serve) {
            Ok(loaded) => Some(ReloadEvent::Load(Box::new(loaded), Cause::Sighup)),
            Err(refused) => {
                self.refuse(&refused);
                None
            }
        }
    }

    /// Reads the configuration if it has changed.
    fn check(&mut self) -> Option<ReloadEvent> {
        self.update_watch();
        match self.source.reload() {
            Reload::Unchanged => None,
            Reload::Loaded(loaded) => Some(ReloadEvent::Load(loaded, Cause::FileChanged)),
            Reload::Refused(refused) => {
                let _span = self.span(Cause::FileChanged).entered();
                self.refuse(&refused);
                None
            }
        }
    }

    /// Applies a configuration, or refuses it whole and keeps the one in force.
    pub(super) fn apply(
        &mut self,
        loaded: Loaded,
        cause: Cause,
        now: Moment,
        inventory_tx: &watch::Sender<Arc<Inventory>>,
    ) {
        let _span = self.span(cause).entered();
        let began = Instant::now();
        for warning in loaded.warnings() {
            warn!("{warning}");
        }
        let mut config = loaded.config;
        let changes = self.running.changes(&config);
        if changes.is_empty() {
            info!("the configuration has not changed");
            return;
        }
        for setting in &changes.at_next_start {
            warn!(setting, "a change of this setting takes effect at the next start");
        }
        config.keep_process_of(&self.running);
        if let Err(error) = self.put_in_force(&config, changes.health, now, inventory_tx) {
            error!("the new configuration is refused, the one before stays in force: {error:#}");
            self.reload_history.refused(&format!("{error:#}"));
            return;
        }
        let resources: Vec<String> = changes.resources.iter().map(ToString::to_string).collect();
        let took = began.elapsed().as_secs_f64() * 1e3;
        info!(
            layout = changes.layout,
            resources = resources.join(","),
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
        health: bool,
        now: Moment,
        inventory_tx: &watch::Sender<Arc<Inventory>>,
    ) -> anyhow::Result<()> {
        let layout = config.layout.clone();
        let injector = config.injector_on(host(config, &self.roots)?);
        check_list_sizes(&inventory_tx.borrow(), &layout)?;
        let policy = health.then(|| config.policy());
        self.change(inventory_tx, |inventory| {
            let health = policy.map(|policy| inventory.set_health_policy(now, policy));
            [
                health.unwrap_or_default(),
                inventory.set_layout(layout),
                inventory.set_injector(injector),
                inventory.set_allocation_policy(config.allocation),
            ]
        });
        Ok(())
    }

    /// Applies what has changed on the host.
    pub(super) fn refresh_host(&self, inventory_tx: &watch::Sender<Arc<Inventory>>) {
        // A required channel that disappears is no reason to exit: the runtime fails the containers
        // that need it.
        let host = self.roots.read(self.running.injector.pass_device_specs);
        let injector = self.running.injector_on(host);
        if *inventory_tx.borrow().injector() == injector {
            return;
        }
        self.change(inventory_tx, |inventory| [inventory.set_injector(injector)]);
    }

    /// The one place where a configuration changes the inventory.
    fn change<const N: usize>(
        &self,
        inventory_tx: &watch::Sender<Arc<Inventory>>,
        how: impl FnOnce(&mut Inventory) -> [InventoryChanges; N],
    ) {
        let mut next = inventory_tx.borrow().clone();
        let changes = how(Arc::make_mut(&mut next));
        inventory_tx.send_replace(next.clone());
        for changes in &changes {
            log::changes(changes, &next, None);
            findings::log(changes);
            self.reload_history.event_log().record(self.reload_history.now(), changes, &next);
        }
    }

    fn refuse(&self, refused: &ConfigError) {
        let text = refused.to_string();
        for line in text.lines() {
            error!("{line}");
        }
        error!("the config file is refused, the configuration before stays in force");
        self.reload_history.refused(&text);
    }

    fn update_watch(&mut self) {
        if let Some(path) = self.source.path() {
            self.config_watch.update(path);
        }
    }

    /// The span of a reload, at the level of errors, so that every line of it has its fields.
    fn span(&self, cause: Cause) -> Span {
        let path = self.source.path().map(|path| tracing::field::display(path.display()));
        let cause = match cause {
            Cause::Sighup => "SIGHUP",
            Cause::FileChanged => "file changed",
        };
        error_span!("reload", cause, path)
    }
}

/// Sleeps until a time; for ever without one.
async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Refuses a layout with a list of devices that is too large for the kubelet.
fn check_list_sizes(inventory: &Inventory, layout: &Layout) -> anyhow::Result<()> {
    for finding in inventory.preview_layout(layout).findings {
        if let LayoutFinding::ListTooLarge { resource, why } = finding {
            bail!("the sharing of {resource} {why}");
        }
    }
    Ok(())
}

fn host(config: &Config, roots: &Roots) -> anyhow::Result<HostNodes> {
    let host = roots.read(config.injector.pass_device_specs);
    if config.requires_imex_channel() && !host.imex_channel {
        bail!(
            "imex.required is set and the host has no IMEX channel 0: no character device {} in {} \
             nor in our own container; create it (nvidia-modprobe -c 0), or do not require it",
            device::injection::IMEX_CHANNEL,
            roots.driver.display()
        );
    }
    Ok(host)
}
