//! The kubelet's podresources edge: which container holds which device, asked of the kubelet now
//! and then.
//!
//! Nothing waits for it. Where it is not there, or fails, labels are missing and devices that might
//! be held are taken to be held.

mod outage;
mod refresh;
mod wire;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use device::health::Moment;
use device::in_use::holders::Holders;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::socket_id::SocketId;
use crate::util::error_chain::ErrorChain;
use outage::{LogLine, Outage};
pub use refresh::RefreshTrigger;
use refresh::{LOOKED, QUIET};
use wire::AskError;

/// After so many failures in a row what was known is known no more.
const FORGOTTEN_AFTER: u32 = 3;

/// Asks the kubelet for as long as it is polled: once a minute, and as soon as the refresh wants it.
/// Each answer is published; its readers are woken by one that says something new, and by one that
/// was wanted. `None` is published where nothing is known: no socket, or no answer several times in
/// a row.
pub async fn follow(
    socket: Option<&Path>,
    refresh: &RefreshTrigger,
    now: impl Fn() -> Moment,
    publish: &watch::Sender<Option<Arc<Holders>>>,
) -> Infallible {
    let Some(socket) = socket else { return std::future::pending().await };
    let mut kubelet = Kubelet::default();
    let mut outage = Outage::default();
    let mut wanted = true;
    loop {
        let (asked, began) = (now(), Instant::now());
        let answer = kubelet.ask(socket, asked).await;
        if let Some(line) = outage.update(began.into_std(), &answer) {
            log(socket, &answer, line);
        }
        let pause = if answer.is_ok() { QUIET } else { LOOKED };
        match answer {
            Ok(holders) => {
                publish.send_if_modified(|known| {
                    let before = std::mem::replace(known, holders.map(Arc::new));
                    wanted || !agree(before.as_deref(), known.as_deref())
                });
            }
            Err(_) if outage.failures() < FORGOTTEN_AFTER => {}
            Err(_) => drop(publish.send_if_modified(|known| known.take().is_some())),
        }
        wanted = refresh.due(began, pause).await;
    }
}

fn agree(one: Option<&Holders>, other: Option<&Holders>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.agrees_with(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The kubelet processes that were met.
#[derive(Debug, Default)]
struct Kubelet {
    socket: Option<SocketId>,
    met: u64,
}

impl Kubelet {
    /// Asks the one that is there; `None`: none is.
    async fn ask(&mut self, path: &Path, asked: Moment) -> Result<Option<Holders>, AskError> {
        let Some(socket) = SocketId::of(path).map_err(AskError::Look)? else { return Ok(None) };
        let listed = wire::list(path).await?;
        if SocketId::of(path).map_err(AskError::Look)? != Some(socket) {
            return Err(AskError::Replaced);
        }
        if self.socket.replace(socket) != Some(socket) {
            self.met += 1;
        }
        Ok(Some(Holders::new(asked, self.met, listed.pods, listed.held)))
    }
}

fn log(socket: &Path, answer: &Result<Option<Holders>, AskError>, line: LogLine) {
    let socket = socket.display();
    match (line, answer) {
        (LogLine::NoSocket, _) => {
            info!(%socket, "there is no podresources socket: which pod holds which device is not \
                known");
        }
        (LogLine::Failed { failures }, Err(error)) => {
            let error = ErrorChain(error);
            warn!(%socket, %error, failures, "cannot ask the kubelet which pod holds which \
                device, will retry");
        }
        (LogLine::Recovered, _) => {
            info!(%socket, "the kubelet answers again which pod holds which device");
        }
        (LogLine::Failed { .. }, Ok(_)) => {}
    }
}
