//! NVML is released for as long as a file says, in seconds since the Unix epoch: the node agent
//! writes it while the node's label says that somebody needs the GPUs for themselves.
//!
//! A file, as for the name of the configuration: there is nothing in it but a time, and who writes
//! it can ask for nothing else. The time is a bound: a writer that is gone holds nothing up.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::config_watch;
use crate::host::dir_watch::Watches;
use crate::host::file::{self, Links};
use crate::nvml::Release;
use crate::util::helper_thread::HelperThread;

/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 32;
/// The pause before NVML is asked for again, which may be being initialised.
const RETRY: Duration = Duration::from_secs(2);
/// A time in the file is of whole seconds.
const SECOND: Duration = Duration::from_secs(1);
/// The longest time that one text is good for: the writer renews it while it lives.
const LONGEST: Duration = Duration::from_secs(300);

/// Releases NVML by the file, for good; without a file it does nothing.
pub(super) async fn follow(
    path: Option<PathBuf>,
    watches: Watches,
    release: Release,
) -> Infallible {
    let Some(path) = path else { return std::future::pending().await };
    let changed = Arc::new(Notify::new());
    let thread = HelperThread::new("release-file", ());
    // Its directory is mounted before this process starts.
    let directory = path.parent().unwrap_or(Path::new("/"));
    let _watch = config_watch::watch(&watches, directory, "the release file", changed.clone());
    let mut releasing = Releasing { release, asked: false, done: None, told: false };
    loop {
        let (now, file) = (unix_now(), path.clone());
        let read = thread.submit(move |()| file::read(&file, Links::Refuse, MAX_TEXT)).await;
        let until = read.ok().and_then(Result::ok).and_then(|text| until(&text));
        let is_done = tokio::select! {
            is_done = releasing.follow(until.filter(|until| *until > now), now) => is_done,
            // It is read again; what was asked for goes on.
            () = changed.notified() => continue,
        };
        let left = |until: u64| Duration::from_secs(until.saturating_sub(now)).min(LONGEST);
        let over = releasing.done.map_or(LONGEST, |until| left(until) + SECOND);
        let check = watches.next_check().min(Instant::now() + over);
        let again = if is_done { check } else { Instant::now() + RETRY };
        tokio::select! {
            () = changed.notified() => {}
            () = sleep_until(again) => {}
        }
    }
}

/// What was asked for.
struct Releasing {
    release: Release,
    /// Whether NVML is released, or about to be, by the file.
    asked: bool,
    /// The time for which that is done.
    done: Option<u64>,
    /// Whether it was logged that it is not.
    told: bool,
}

impl Releasing {
    /// Has NVML released until a time, or taken up. Returns whether it is.
    async fn follow(&mut self, until: Option<u64>, now: u64) -> bool {
        let Some(until) = until else {
            if std::mem::take(&mut self.asked) {
                info!("the release file asks for NVML to be taken up");
                self.release.request_take_up();
            }
            (self.done, self.told) = (None, false);
            return true;
        };
        if self.done == Some(until) {
            return true;
        }
        if !std::mem::replace(&mut self.asked, true) {
            info!("the release file asks for a release of NVML");
        }
        let time = Duration::from_secs(until - now).min(LONGEST);
        match self.release.release(Some(time)).await {
            Ok(_) => (self.done, self.told) = (Some(until), false),
            Err(why) if std::mem::replace(&mut self.told, true) => debug!(%why, "no release yet"),
            Err(why) => warn!(%why, "NVML is not released as the release file asks, will retry"),
        }
        self.done == Some(until)
    }
}

/// The time in a file; anything else is none.
fn until(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_all_else_is_none() {
        for (text, expected) in [
            ("1795784000\n", Some(1_795_784_000)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1.5", None),
            ("99999999999999999999999", None),
            ("\u{1b}", None),
        ] {
            assert_eq!(until(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(until(&[0xff]), None);
    }
}
