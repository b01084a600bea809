//! The state file: causes of bad health that no later reading states again, and the GPUs that were
//! seen on this boot, kept over a restart of the plugin.
//!
//! It is one JSON document, written beside the old one, synced, and renamed into place. Losing it
//! is never an error: a file that cannot be used is logged and set aside, and where none can be
//! written the plugin works without. Nothing that was not read is overwritten, and of two plugins
//! with one directory only one writes.
//!
//! Versions read each other's files. An older file lacks parts, and they are taken for empty. Parts
//! of a newer one are kept for the version that knows them, and a file in a newer format is read
//! as far as it is understood, and kept beside.
//!
//! All of it is done on a thread of its own: no disk can hold up the start, health or the exit.

mod contents;
mod document;
mod stored;
#[cfg(test)]
mod tests;
mod unknown;
#[cfg(test)]
mod version_tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::util::helper_thread::HelperThread;
use contents::FILE;
pub use document::PersistedState;
use stored::{Stored, Written};

/// How long the start waits for the file.
const LOAD_DEADLINE: Duration = Duration::from_secs(1);
/// How long a write may take before that is told.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the last write may delay the exit.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// Time between two tries to write.
const RETRY: Duration = Duration::from_secs(10);

/// The state file, if there is a state directory.
#[derive(Debug, Clone)]
pub struct StateFile(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    thread: HelperThread<Stored>,
}

impl StateFile {
    /// The file in this directory, which is created if it is missing. Without one nothing is
    /// kept.
    #[must_use]
    pub fn open(directory: Option<&Path>) -> Self {
        let inner = |directory: &Path| {
            let thread = HelperThread::new("state-file", Stored::in_directory(directory));
            Arc::new(Inner { directory: directory.to_owned(), thread })
        };
        Self(directory.map(inner))
    }

    /// The contents of the file in this directory, without changing anything.
    ///
    /// # Errors
    /// There is a file, and it cannot be read.
    pub fn peek(directory: &Path) -> io::Result<Option<PersistedState>> {
        Ok(contents::read(&directory.join(FILE))?.map(|contents| contents.state))
    }

    /// Begins to read the file, at once; `None` if there is none, or none that can be read now. One
    /// that cannot be read in time, or for want of a resource, is read later: [`Self::run`] passes
    /// it on then.
    pub fn load(&self) -> impl Future<Output = Option<PersistedState>> + use<> {
        let begun = self.0.clone().map(|inner| (inner.thread.submit(Stored::load), inner));
        async move {
            let (loading, inner) = begun?;
            let loaded = match timeout(LOAD_DEADLINE, loading).await {
                Ok(loaded) => loaded.flatten(),
                Err(_) => Err(hanging(LOAD_DEADLINE)),
            };
            inner.loaded(loaded)
        }
    }

    /// Writes the file if the value differs from what is in it, and each time that it changes, for
    /// as long as it is polled. What another plugin has written, or what could not be read at the
    /// start, goes to `restore` first.
    pub async fn run(
        &self,
        mut state: watch::Receiver<PersistedState>,
        restore: impl AsyncFn(PersistedState),
    ) -> Infallible {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        let mut trouble = Trouble { directory: &inner.directory, told: None };
        // What was read may be of another boot or driver than the value.
        state.mark_changed();
        let mut retry = false;
        loop {
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep(RETRY), if retry => {}
            }
            let now = state.borrow_and_update().clone();
            let result = inner.write(now, &mut trouble).await;
            retry = !matches!(result, Ok(Written::AsGiven));
            match result {
                Ok(Written::AsGiven) => trouble.is_over(),
                Ok(Written::NotYet { found, news }) => {
                    restore(*news).await;
                    drop(inner.thread.submit(move |stored| stored.restored(*found)));
                }
                Err(error) => trouble.tell(&error),
            }
        }
    }

    /// Writes the file at the end, unless that takes too long.
    pub async fn flush(&self, state: PersistedState) {
        let Some(inner) = &self.0 else { return };
        let written = inner.thread.submit(move |stored| stored.write(&state));
        let problem = match timeout(FLUSH_DEADLINE, written).await {
            Ok(Ok(Ok(Written::AsGiven))) => return,
            Ok(Ok(Ok(Written::NotYet { .. }))) => {
                io::Error::other("it has what was not read before and is left as it is")
            }
            Ok(Ok(Err(error)) | Err(error)) => error,
            Err(_) => hanging(FLUSH_DEADLINE),
        };
        warn!(
            directory = %inner.directory.display(), error = %problem,
            "the state file was not written at the end: a restart may forget what GPUs went through"
        );
    }
}

impl Inner {
    fn loaded(&self, loaded: io::Result<Option<PersistedState>>) -> Option<PersistedState> {
        match loaded {
            Ok(state) => {
                let state = state?;
                let known = state.clone();
                // Whatever comes of it: a file that is not known to be read is read again.
                drop(self.thread.submit(move |stored| stored.restored(known)));
                Some(state)
            }
            Err(error) => {
                warn!(directory = %self.directory.display(), %error, "the state file cannot be \
                    read now: what GPUs went through before this start is taken into account \
                    later, if it can be read then");
                None
            }
        }
    }

    async fn write(&self, state: PersistedState, trouble: &mut Trouble<'_>) -> io::Result<Written> {
        let mut written = pin!(self.thread.submit(move |stored| stored.write(&state)));
        match timeout(WRITE_DEADLINE, &mut written).await {
            Ok(written) => written.flatten(),
            Err(_) => {
                trouble.tell(&hanging(WRITE_DEADLINE));
                written.await.flatten()
            }
        }
    }
}

fn hanging(deadline: Duration) -> io::Error {
    let text = format!("its disk has not answered for {} s", deadline.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// What keeps the file from being written, as far as it was logged.
struct Trouble<'a> {
    directory: &'a Path,
    told: Option<String>,
}

impl Trouble<'_> {
    /// Logs it, unless that was the last that was logged.
    fn tell(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            warn!(directory = %self.directory.display(), error = text, "the state file cannot be \
                written, will retry: a restart forgets what GPUs went through");
            self.told = Some(text);
        }
    }

    fn is_over(&mut self) {
        if self.told.take().is_some() {
            let directory = self.directory.display();
            info!(%directory, "the state file can be written again");
        }
    }
}
