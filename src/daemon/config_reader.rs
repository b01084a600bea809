//! Reads the configuration again, and with it what the host has, on a thread of its own: no file
//! system can take the task that owns the inventory with it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use device::injection::HostNodes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::config_watch::ConfigWatch;
use crate::config::{ConfigSource, Reload};
use crate::host::device_nodes::Roots;
use crate::host::dir_watch::Watches;
use crate::util::helper_thread::HelperThread;

/// How long reading may take before that is told.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReadRequest {
    /// The configuration, changed or not.
    pub(super) anyway: bool,
    /// Whether the host may have changed.
    pub(super) host: bool,
}

impl ReadRequest {
    fn and(self, other: Self) -> Self {
        Self { anyway: self.anyway || other.anyway, host: self.host || other.host }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct ReadAnswer {
    pub(super) request: ReadRequest,
    pub(super) config: Reload,
    /// As the configuration that was read needs it, or else the one in force.
    pub(super) host: HostNodes,
}

/// Reads one thing after the other.
pub(super) struct ConfigReader {
    thread: HelperThread<Reader>,
    changed: Arc<Notify>,
    waiting: Option<ReadRequest>,
    current: Option<Current>,
    /// What could not be read. The next request, which comes by itself, asks for it too.
    failed: ReadRequest,
    /// Whether it was logged that there is no answer.
    is_late: bool,
}

/// What the thread has.
struct Reader {
    source: ConfigSource,
    watch: ConfigWatch,
    changed: Arc<Notify>,
    roots: Roots,
}

struct Current {
    request: ReadRequest,
    answer: Pin<Box<dyn Future<Output = io::Result<ReadAnswer>>>>,
    late_at: Instant,
}

impl ConfigReader {
    /// Reads this source and host. The file is not watched before the first answer.
    pub(super) fn new(source: ConfigSource, roots: Roots, watches: Watches) -> Self {
        let changed = Arc::new(Notify::new());
        let watch = ConfigWatch::new(watches, changed.clone());
        let thread = HelperThread::new("config", {
            let changed = changed.clone();
            Reader { source, watch, changed, roots }
        });
        let failed = ReadRequest::default();
        Self { thread, changed, waiting: None, current: None, failed, is_late: false }
    }

    /// Notified of each change in a directory on the way to the file.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Has it read, after what is being read.
    pub(super) fn request(&mut self, request: ReadRequest) {
        let failed = std::mem::take(&mut self.failed);
        let waiting = self.waiting.unwrap_or_default();
        self.waiting = Some(waiting.and(request).and(failed));
    }

    /// Waits for an answer; for ever if nothing is to be read. `needs_capabilities` is of the
    /// configuration in force. Nothing is lost when it is dropped before.
    pub(super) async fn answer(&mut self, needs_capabilities: bool) -> ReadAnswer {
        loop {
            if self.current.is_none() {
                let Some(request) = self.waiting.take() else {
                    return std::future::pending().await;
                };
                self.begin(request, needs_capabilities);
            }
            let Some(current) = &mut self.current else { continue };
            let answer = tokio::select! {
                answer = &mut current.answer => answer,
                () = tokio::time::sleep_until(current.late_at), if !self.is_late => {
                    self.is_late = true;
                    warn!("the config file and the host's device nodes have not been read for \
                        {} s: the configuration stays as it is", DEADLINE.as_secs());
                    continue;
                }
            };
            let request = current.request;
            self.current = None;
            match answer {
                Ok(answer) => {
                    if std::mem::take(&mut self.is_late) {
                        info!("the config file can be read again");
                    }
                    return answer;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_late, true) {
                        warn!(%error, "the configuration cannot be read again, will retry");
                    }
                    let waiting = self.waiting.take().unwrap_or_default();
                    self.failed = waiting.and(request);
                }
            }
        }
    }

    fn begin(&mut self, request: ReadRequest, needs_capabilities: bool) {
        let answer = self.thread.submit(move |reader| reader.read(request, needs_capabilities));
        let late_at = Instant::now() + DEADLINE;
        self.current = Some(Current { request, answer: Box::pin(answer), late_at });
    }
}

impl Reader {
    fn read(&mut self, request: ReadRequest, needs_capabilities: bool) -> ReadAnswer {
        self.watch.update(&self.source.watched());
        let config =
            if request.anyway { self.source.reload_anyway() } else { self.source.reload() };
        // Another one may be chosen now, and may have changed before it was watched.
        if self.watch.update(&self.source.watched()) {
            self.changed.notify_one();
        }
        if let Err(error) = self.source.keep_name() {
            warn!(%error, "the name of the chosen configuration is not kept for the next start");
        }
        let needs_capabilities = match &config {
            // It may be refused yet, so that the one in force goes on.
            Reload::Loaded(loaded) => {
                needs_capabilities || loaded.config.injector.pass_device_specs
            }
            Reload::Unchanged | Reload::Refused(_) => needs_capabilities,
        };
        ReadAnswer { request, config, host: self.roots.read(needs_capabilities) }
    }
}
