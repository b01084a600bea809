//! The kubelet's podresources edge: which container holds which device, asked of the kubelet now and then.
//!
//! Nothing waits for it. Where it is not there, or fails, labels are missing and devices that might be held are taken
//! to be held.

mod news;
mod wire;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::alarm::Alarm;
use crate::device::health::Moment;
use crate::device::holders::Holders;
use crate::socket_id::SocketId;
use news::{News, Said};
use wire::AskError;

/// The pause between two questions when nothing happens.
const INTERVAL: Duration = Duration::from_secs(10);
/// The shortest pause between two questions, whatever happens.
const GAP: Duration = Duration::from_secs(2);
/// How long the kubelet gets to enter what it has allocated before it is asked.
const SETTLE: Duration = Duration::from_millis(500);
/// After so many failures in a row what was known is known no more.
const FORGOTTEN_AFTER: u32 = 3;

/// Asks the kubelet for as long as it is polled, every 10 s, and at most every 2 s when `sooner` is notified, and
/// publishes each answer. `None` is published where nothing is known: no socket, or no answer several times in a row.
pub async fn follow(
    socket: Option<&Path>,
    sooner: &Notify,
    now: impl Fn() -> Moment,
    publish: &watch::Sender<Option<Arc<Holders>>>,
) -> Infallible {
    let Some(socket) = socket else { return std::future::pending().await };
    let (mut kubelet, alarm) = (Kubelet::default(), Alarm::new());
    let mut news = News::default();
    loop {
        let (asked, began) = (now(), Instant::now());
        let answer = kubelet.ask(socket, asked).await;
        say(socket, &answer, news.of(asked, &answer));
        match answer {
            Ok(holders) => {
                publish.send_replace(holders.map(Arc::new));
            }
            Err(_) if news.failures() < FORGOTTEN_AFTER => {}
            Err(_) => drop(publish.send_if_modified(|known| known.take().is_some())),
        }
        let next = began + INTERVAL;
        tokio::select! {
            () = alarm.at(next.into_std()) => {}
            () = sooner.notified() => {
                let settled = (began + GAP).max(Instant::now() + SETTLE);
                tokio::time::sleep_until(settled.min(next)).await;
            }
        }
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

fn say(socket: &Path, answer: &Result<Option<Holders>, AskError>, said: Said) {
    let socket = socket.display();
    match (said, answer) {
        (Said::Absent, _) => {
            info!(%socket, "there is no podresources socket: which pod holds which device is not known");
        }
        (Said::Failed { failures }, Err(error)) => {
            let error = chain(error);
            warn!(%socket, %error, failures, "cannot ask the kubelet which pod holds which device, trying on");
        }
        (Said::Back, _) => info!(%socket, "the kubelet says again which pod holds which device"),
        (Said::Nothing | Said::Failed { .. }, _) => {}
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
