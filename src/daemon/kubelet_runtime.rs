//! A thread with a runtime of its own, on which the kubelet is served, and one on which it is asked
//! what pods hold: work of the main thread, such as reading a file, delays no call, and a long
//! answer of the kubelet delays neither a call nor the decision about health.
//!
//! These are runtimes of one thread each and not one of several threads, so that each waits for its
//! own timers and connections and nothing moves between the threads.

use std::convert::Infallible;
use std::thread;

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread; it ends when this is dropped.
pub(super) struct KubeletRuntime {
    handle: Handle,
    /// The thread ends when it is dropped.
    _stop: oneshot::Sender<Infallible>,
    ended: oneshot::Receiver<Infallible>,
}

impl KubeletRuntime {
    /// Starts it with this name.
    ///
    /// # Errors
    /// The operating system gives no thread, or no file descriptors for it.
    #[allow(
        clippy::disallowed_methods,
        reason = "at the start, before there is anything to wait for it"
    )]
    pub(super) fn start(name: &str) -> anyhow::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let serve = move || {
            let _ending = ending;
            // An error: the sender was dropped.
            let _: Result<Infallible, _> = runtime.block_on(stopped);
            // A task that hangs must not delay the exit.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(serve).context("starting a thread")?;
        Ok(Self { handle, _stop: stop, ended })
    }

    /// Where its tasks are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns only if the thread ends by itself, which it never should.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let Err(_) = (&mut self.ended).await;
        anyhow!("a thread that speaks with the kubelet ended by itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_tasks_run_on_the_thread_and_end_with_it() {
        let runtime = KubeletRuntime::start("kubelet").unwrap();
        let name = runtime.handle().spawn(async { thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.unwrap().as_deref(), Some("kubelet"));
        let (held, dropped) = oneshot::channel::<Infallible>();
        runtime.handle().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(runtime);
        dropped.await.unwrap_err();
    }
}
