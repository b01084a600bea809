//! The kubelet's podresources API: which container holds which device.
//!
//! Nothing waits for it. Without it, labels are missing, and devices that might be held are treated
//! as held.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod answer;
mod outage;
mod refresh;
mod wire;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use device::health::Moment;
use device::in_use::holders::{Holder, Holders};
use status::error_chain::ErrorChain;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::socket_id::SocketId;
pub use answer::Allocatable;
use outage::{LogLine, Outage};
pub use refresh::RefreshTrigger;
use refresh::{INTERVAL, RETRY_INTERVAL};
use wire::ListError;

/// How many devices of this plugin's form the kubelet can allocate, by resource, for a command that
/// asks once.
///
/// # Errors
/// In words: nobody answers, not in time, or what nobody can read.
pub async fn allocatable(socket: &Path) -> Result<Allocatable, String> {
    wire::allocatable(socket).await.map_err(|error| ErrorChain(&error).to_string())
}

/// The containers that hold devices of this plugin's form, for a command that asks once.
///
/// # Errors
/// In words, as of [`allocatable`].
pub async fn holders(socket: &Path) -> Result<BTreeSet<Holder>, String> {
    let list = wire::list(socket).await.map_err(|error| ErrorChain(&error).to_string())?;
    Ok(list.assignments.into_iter().map(|assignment| assignment.holder).collect())
}

/// After so many failures in a row, nothing counts as known.
const MAX_FAILURES: u32 = 3;

/// Calls the kubelet for as long as it is polled: once a minute, and sooner on request. Each answer
/// is published. Receivers are woken by one that differs from the last one, and by one that was
/// requested. `None` is published where nothing is known: there is no socket, or the call failed
/// several times in a row.
pub async fn run(
    socket: Option<&Path>,
    refresh: &RefreshTrigger,
    now: impl Fn() -> Moment,
    holders: &watch::Sender<Option<Arc<Holders>>>,
) -> Infallible {
    let Some(socket) = socket else { return std::future::pending().await };
    let mut instances = KubeletInstances::default();
    let mut outage = Outage::default();
    let mut requested = true;
    loop {
        let (asked, began) = (now(), Instant::now());
        let answer = instances.list(socket, asked).await;
        if let Some(line) = outage.update(began.into_std(), &answer) {
            log(socket, &answer, line);
        }
        let interval = if answer.is_ok() { INTERVAL } else { RETRY_INTERVAL };
        match answer {
            Ok(answer) => drop(holders.send_if_modified(|known| {
                let before = std::mem::replace(known, answer.map(Arc::new));
                requested || !agree(before.as_deref(), known.as_deref())
            })),
            Err(_) if outage.failures() < MAX_FAILURES => {}
            Err(_) => drop(holders.send_if_modified(|known| known.take().is_some())),
        }
        requested = refresh.wait(began, interval).await;
    }
}

/// The kubelet processes that answered so far, told apart by their socket.
#[derive(Debug, Default)]
struct KubeletInstances {
    socket: Option<SocketId>,
    /// How many there were.
    count: u64,
}

impl KubeletInstances {
    /// Lists what pods hold; `None` if there is no socket.
    async fn list(&mut self, path: &Path, asked: Moment) -> Result<Option<Holders>, ListError> {
        let Some(socket) = SocketId::of(path).map_err(ListError::Socket)? else { return Ok(None) };
        let list = wire::list(path).await?;
        if SocketId::of(path).map_err(ListError::Socket)? != Some(socket) {
            return Err(ListError::Replaced);
        }
        if self.socket.replace(socket) != Some(socket) {
            self.count += 1;
        }
        Ok(Some(Holders::new(asked, self.count, list.pods, list.assignments)))
    }
}

fn agree(one: Option<&Holders>, other: Option<&Holders>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.agrees_with(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn log(socket: &Path, answer: &Result<Option<Holders>, ListError>, line: LogLine) {
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
