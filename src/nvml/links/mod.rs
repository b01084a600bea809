//! Reads how the GPUs are linked, once for each set of GPUs and again every few minutes, on a
//! thread that ends with the reading. Nothing waits for it, neither the first list nor the next
//! enumeration.
//!
//! What cannot be read is left out and logged once: placement is then less exact, which is no
//! failure. After a call that hangs the links of its GPU and of those after it are missing; what
//! was read before is used.

mod progress;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use device::inventory::InventoryEvent;
use device::names::Uuid;
use tokio::sync::mpsc;
use tracing::{debug_span, warn};

use super::channels::TimedObservation;
use super::clock::Clock;
use super::session::Session;
use super::telemetry::NvmlTelemetry;
use progress::LinkProgress;
use read::read;

/// Pause between two readings of the same GPUs: links go down and come back while a node is in use.
const READ_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long a reading may take until what it has so far is used. The largest machine takes some
/// hundredths of a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// Reads the links for one NVML session.
#[derive(Default)]
pub(super) struct LinkReader {
    progress: LinkProgress,
    last: Option<LinkReading>,
}

/// One reading.
struct LinkReading {
    thread: JoinHandle<()>,
    began: Instant,
    gpus: BTreeMap<u32, Uuid>,
    /// Whether a part of it was sent because it did not end.
    overdue: bool,
}

impl LinkReader {
    /// Starts to read the links of these GPUs, unless that was done a short while ago or is being
    /// done. Never blocks.
    pub(super) fn read_if_due(
        &mut self,
        session: &Arc<Session>,
        gpus: &BTreeMap<u32, Uuid>,
        clock: Clock,
        observations_tx: &mpsc::Sender<Vec<TimedObservation>>,
    ) {
        match &mut self.last {
            Some(last) if !last.thread.is_finished() => {
                if last.is_newly_overdue() {
                    warn!(
                        "NVML hangs in a call about the links between GPUs: what is known so \
                            far is used"
                    );
                    let observation = InventoryEvent::Links(self.progress.links());
                    let observation = TimedObservation { at: clock.now(), observation };
                    // If the channel is full or closed, the next reading will do.
                    let _ = observations_tx.try_send(vec![observation]);
                }
            }
            Some(last) if last.gpus == *gpus && last.began.elapsed() < READ_INTERVAL => {}
            _ => self.start(session.clone(), gpus.clone(), clock, observations_tx.clone()),
        }
    }

    fn start(
        &mut self,
        session: Arc<Session>,
        gpus: BTreeMap<u32, Uuid>,
        clock: Clock,
        observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    ) {
        let (updates, telemetry) = (self.progress.updates(), NvmlTelemetry::of_thread());
        let (to_read, span) = (gpus.clone(), debug_span!("read_links", gpus = gpus.len()));
        let body = move || {
            telemetry.bind_to_thread();
            let at = clock.now();
            if let Some(links) = span.in_scope(|| read(&session, &to_read, &updates)) {
                let observation =
                    TimedObservation { at, observation: InventoryEvent::Links(links) };
                let _ = observations_tx.blocking_send(vec![observation]);
            }
        };
        match thread::Builder::new().name("nvml-links".to_owned()).spawn(body) {
            Ok(thread) => {
                self.last =
                    Some(LinkReading { thread, began: Instant::now(), gpus, overdue: false });
            }
            Err(error) => warn!(%error, "cannot start a thread to read the links between GPUs"),
        }
    }
}

impl LinkReading {
    /// Whether it is past its deadline; `true` only once.
    fn is_newly_overdue(&mut self) -> bool {
        let newly = !self.overdue && self.began.elapsed() > DEADLINE;
        self.overdue |= newly;
        newly
    }
}
