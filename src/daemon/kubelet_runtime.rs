//! The thread that serves the kubelet, with a runtime of its own: what the main thread does, a look
//! at a file say, holds up no call.
//!
//! Two runtimes of one thread each, and not one of two threads: each waits for its own timers and
//! connections, so that nothing is handed over that the same thread goes on with.

use std::convert::Infallible;
use std::thread;

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread; it ends when this is dropped.
pub(super) struct Serving {
    handle: Handle,
    /// Its end is the thread's.
    _stop: oneshot::Sender<Infallible>,
    ended: oneshot::Receiver<Infallible>,
}

impl Serving {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system gives no thread, or no descriptors for it.
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let serve = move || {
            let _ending = ending;
            // An error: there is nobody any more to serve for.
            let _: Result<Infallible, _> = runtime.block_on(stopped);
            // A task that hangs must not hold up the exit.
            runtime.shutdown_background();
        };
        thread::Builder::new()
            .name("kubelet".to_owned())
            .spawn(serve)
            .context("starting a thread")?;
        Ok(Self { handle, _stop: stop, ended })
    }

    /// Where its tasks are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Comes back only if the thread ends by itself, which it never should.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let Err(_) = (&mut self.ended).await;
        anyhow!("the thread that serves the kubelet ended by itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_tasks_run_on_the_thread_and_end_with_it() {
        let serving = Serving::start().unwrap();
        let name = serving.handle().spawn(async { thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.unwrap().as_deref(), Some("kubelet"));
        let (held, dropped) = oneshot::channel::<Infallible>();
        serving.handle().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(serving);
        dropped.await.unwrap_err();
    }
}
