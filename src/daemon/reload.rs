//! Reloads the configuration when the content of its file changes and on SIGHUP, and applies it
//! with the least disturbance.
//!
//! The file is watched by inotify, and checked from time to time, so that nothing depends on
//! inotify alone. It is read on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use device::health::Moment;
use device::injection::HostNodes;
use device::inventory::{Inventory, InventoryChanges};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{Span, error, error_span, info, warn};

use super::config_reader::{ConfigReader, ReadAnswer, ReadRequest};
use super::findings;
use super::reload_checks::{check_host, check_list_sizes};
use super::reload_history::ReloadHistory;
use crate::config::{Config, ConfigError, ConfigSource, Loaded, Reload};
use crate::host::device_nodes::Roots;
use crate::host::dir_watch::Watches;
use crate::observe::log;

/// Pause after a change, so that a file that is written in several steps is read once.
const SETTLE: Duration = Duration::from_millis(50);

/// What there is to do.
pub(super) enum ReloadEvent {
    /// Apply a configuration on a host that has this.
    Load(Box<Loaded>, HostNodes, Cause),
    /// The configuration is the same; this is what the host has.
    CheckHost(HostNodes),
}

/// Why the configuration was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The signal.
    Sighup,
    /// The content of the file is another one.
    FileChanged,
    /// It was refused for what the host lacked, or for the devices that there were.
    Retry,
}

/// A configuration that is not in force, though it has no mistakes.
struct Refused {
    loaded: Loaded,
    why: String,
}

/// The configuration in force, and its source.
pub(super) struct Reloader {
    reader: ConfigReader,
    running: Config,
    /// The file that it is from.
    file: Option<PathBuf>,
    /// Tried again when the host is checked.
    refused: Option<Refused>,
    roots: Roots,
    sighup: Signal,
    /// Of the config file.
    changed: Arc<Notify>,
    /// When to read the file after a change, or after the start.
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
        mut source: ConfigSource,
        running: Config,
        watches: Watches,
        reload_history: ReloadHistory,
    ) -> anyhow::Result<Self> {
        let roots = running.process.roots.clone();
        let (file, refused_choice) =
            (source.file().map(Path::to_owned), source.take_refused_choice());
        reload_history.set_file(file.as_deref());
        let reader = ConfigReader::new(source, roots.clone(), watches.clone());
        let reloader = Self {
            changed: reader.changed(),
            reader,
            roots,
            running,
            file,
            refused: None,
            sighup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
            // The file may have changed since it was read, and is not watched before this.
            settled_at: Some(tokio::time::Instant::now() + SETTLE),
            next_check: watches.next_check(),
            watches,
            reload_history,
        };
        if let Some(ConfigError(report)) = refused_choice {
            let (count, mistakes) = (report.mistake_count(), report.mistakes_in_line());
            error!(
                count,
                mistakes,
                "the config file that was chosen by name is refused, and the one that was chosen \
                 before, or that of --config-file, is in force"
            );
            reloader.reload_history.refused(&mistakes_in_words(count, &mistakes));
        }
        Ok(reloader)
    }

    /// What the host has, as far as the configuration in force needs it.
    ///
    /// # Errors
    /// The configuration requires something that the host does not have.
    pub(super) fn host(&self) -> anyhow::Result<HostNodes> {
        let host = self.roots.read(self.running.injector.pass_device_specs);
        check_host(&self.running, &host, &self.roots)?;
        Ok(host)
    }

    /// The configuration in force.
    pub(super) fn running(&self) -> &Config {
        &self.running
    }

    /// Waits until there is something to do. Nothing is lost when it is dropped before.
    pub(super) async fn next(&mut self) -> ReloadEvent {
        loop {
            tokio::select! {
                answer = self.reader.answer(self.running.injector.pass_device_specs) => {
                    if let Some(event) = self.was_read(answer) {
                        return event;
                    }
                }
                _ = self.sighup.recv() => {
                    span(Cause::Sighup, self.file.as_deref())
                        .in_scope(|| info!("SIGHUP: reading the configuration again"));
                    self.reader.request(ReadRequest { anyway: true, host: false });
                }
                () = self.changed.notified() => {
                    self.settled_at = Some(tokio::time::Instant::now() + SETTLE);
                }
                () = sleep_until(self.settled_at) => {
                    self.settled_at = None;
                    self.reader.request(ReadRequest::default());
                }
                () = tokio::time::sleep_until(self.next_check) => {
                    self.next_check = self.watches.next_check();
                    self.check_host();
                }
            }
        }
    }

    /// Has it looked at whether the host has changed.
    pub(super) fn check_host(&mut self) {
        self.reader.request(ReadRequest { anyway: false, host: true });
    }

    fn was_read(&mut self, answer: ReadAnswer) -> Option<ReloadEvent> {
        let ReadAnswer { request, config, host } = answer;
        let cause = if request.anyway { Cause::Sighup } else { Cause::FileChanged };
        match (config, &self.refused) {
            (Reload::Loaded(loaded), _) => {
                return Some(ReloadEvent::Load(loaded, host, cause));
            }
            (Reload::Unchanged, Some(refused)) if request.host => {
                let loaded = Box::new(refused.loaded.clone());
                return Some(ReloadEvent::Load(loaded, host, Cause::Retry));
            }
            (Reload::Unchanged, _) => {}
            (Reload::Refused(refused), _) => {
                let _span = span(cause, refused.0.file.as_deref()).entered();
                self.refuse(&refused);
                self.refused = None;
            }
        }
        request.host.then_some(ReloadEvent::CheckHost(host))
    }

    /// Applies a configuration, or refuses it whole and keeps the one in force.
    pub(super) fn apply(
        &mut self,
        loaded: Loaded,
        host: HostNodes,
        cause: Cause,
        now: Moment,
        inventory_tx: &watch::Sender<Arc<Inventory>>,
    ) {
        let _span = span(cause, loaded.report.file.as_deref()).entered();
        let began = Instant::now();
        let before = self.refused.take().filter(|_| cause == Cause::Retry);
        let mut config = loaded.config.clone();
        let changes = self.running.changes(&config);
        if before.is_none() {
            for warning in loaded.warnings() {
                warn!("{warning}");
            }
            if changes.is_empty() {
                info!("the configuration has not changed");
                self.set_file(&loaded);
                self.reload_history.unchanged();
                return;
            }
            for setting in &changes.at_next_start {
                warn!(setting, "a change of this setting takes effect at the next start");
            }
        }
        config.keep_process_of(&self.running);
        if let Err(error) =
            self.put_in_force(&config, host.clone(), changes.health, now, inventory_tx)
        {
            let why = format!("{error:#}");
            if before.is_none_or(|before| before.why != why) {
                error!(why, "the new configuration is refused, the one before stays in force");
                self.reload_history.refused(&why);
            }
            // The one in force goes on.
            self.set_host(host, inventory_tx);
            self.refused = Some(Refused { loaded, why });
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
        self.set_file(&loaded);
        self.reload_history.applied();
        self.running = config;
    }

    fn set_file(&mut self, loaded: &Loaded) {
        self.file.clone_from(&loaded.report.file);
        self.reload_history.set_file(self.file.as_deref());
    }

    fn put_in_force(
        &self,
        config: &Config,
        host: HostNodes,
        health: bool,
        now: Moment,
        inventory_tx: &watch::Sender<Arc<Inventory>>,
    ) -> anyhow::Result<()> {
        let layout = config.layout.clone();
        check_host(config, &host, &self.roots)?;
        let injector = config.injector_on(host);
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

    /// Applies what has changed on the host, which has this now.
    pub(super) fn set_host(&self, host: HostNodes, inventory_tx: &watch::Sender<Arc<Inventory>>) {
        // A required channel that disappears is no reason to exit: the runtime fails the containers
        // that need it.
        let injector = self.running.injector_on(host);
        if *inventory_tx.borrow().wanted_injector() == injector {
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
        let (count, mistakes) = (refused.0.mistake_count(), refused.0.mistakes_in_line());
        error!(
            count,
            mistakes, "the config file is refused, the configuration before stays in force"
        );
        self.reload_history.refused(&mistakes_in_words(count, &mistakes));
    }
}

fn mistakes_in_words(count: usize, mistakes: &str) -> String {
    let count = if count == 1 { "1 mistake".to_owned() } else { format!("{count} mistakes") };
    format!("{count}: {mistakes}")
}

/// The span of a reload, at the level of errors, so that every line of it has its fields.
fn span(cause: Cause, file: Option<&Path>) -> Span {
    let path = file.map(|path| tracing::field::display(path.display()));
    let cause = match cause {
        Cause::Sighup => "SIGHUP",
        Cause::FileChanged => "file changed",
        Cause::Retry => "tried again",
    };
    error_span!("reload", cause, path)
}

/// Sleeps until a time; for ever without one.
async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
