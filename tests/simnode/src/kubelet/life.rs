//! One life of the kubelet: the thread that all its tasks run on.
//!
//! It is one thread so that the life can end as by SIGKILL: between two steps of its tasks, all at
//! once. With two of them a task on the one would go on while those on the other are gone already,
//! and would take that for the plugin's doing: a kubelet that is dead already would refuse a
//! registration.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A life; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Life {
    handle: Handle,
    alive: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Life {
    /// Begins one.
    pub(crate) fn begin() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, dead) = oneshot::channel();
        let live = move || {
            let _: Result<Infallible, _> = runtime.block_on(dead);
            // Every task is dropped with the runtime, and with it every connection.
        };
        let thread = thread::Builder::new().name("fake-kubelet".to_owned()).spawn(live)?;
        Ok(Self { handle, alive, thread })
    }

    /// Where its tasks are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it, and comes back when every task and connection of it is gone.
    pub(crate) async fn end(self) {
        let Self { alive, thread, .. } = self;
        drop(alive);
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        ended.expect("waiting does not panic").expect("ending a runtime does not panic");
    }
}
