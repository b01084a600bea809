//! A thread for calls that may not return, such as those of a file system whose server is gone.
//!
//! Whoever gives it work waits for the answer as long as it wants to: work that does not return
//! holds up its own thread and nothing else. The process does not wait for it at its end.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::oneshot;

use super::lock;

/// Work that may wait while the thread is busy. Each user waits for one answer at a time, and gives
/// one more at the end.
const WAITING: usize = 4;

type Work<S> = Box<dyn FnOnce(&mut S) + Send>;

/// One long-lived thread for the work on one subject, whose state it alone touches.
pub struct HelperThread<S> {
    name: &'static str,
    state: Arc<Mutex<S>>,
    /// `None`: there is no thread yet.
    work: Mutex<Option<SyncSender<Work<S>>>>,
    #[cfg(test)]
    stack_size: Option<usize>,
}

impl<S> fmt::Debug for HelperThread<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HelperThread({:?})", self.name)
    }
}

impl<S: Send + 'static> HelperThread<S> {
    /// A thread of this name, which starts with the first work. If the operating system gives none,
    /// that is tried again with each work.
    #[must_use]
    pub fn new(name: &'static str, state: S) -> Self {
        Self {
            name,
            state: Arc::new(Mutex::new(state)),
            work: Mutex::new(None),
            #[cfg(test)]
            stack_size: None,
        }
    }

    /// Has the work done after all that was given before, whether or not the answer is awaited.
    ///
    /// The answer is an error if there is no thread to be had, too much work waits already, or the
    /// work panicked.
    pub fn submit<T: Send + 'static, W: FnOnce(&mut S) -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = io::Result<T>> + Send + use<T, W, S> {
        let (answer, answered) = oneshot::channel();
        let queued = self.queue(Box::new(move |state| drop(answer.send(work(state)))));
        let name = self.name;
        async move {
            queued?;
            let lost = |_| io::Error::other(format!("the thread \"{name}\" panicked"));
            answered.await.map_err(lost)
        }
    }

    fn queue(&self, work: Work<S>) -> io::Result<()> {
        let mut sender = lock(&self.work);
        let sender = match &mut *sender {
            Some(sender) => sender,
            none => none.insert(self.spawn()?),
        };
        sender.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => {
                io::Error::new(io::ErrorKind::WouldBlock, "earlier calls have not returned")
            }
            TrySendError::Disconnected(_) => io::Error::other("its thread has ended"),
        })
    }

    fn spawn(&self) -> io::Result<SyncSender<Work<S>>> {
        let (sender, receiver) = sync_channel(WAITING);
        let state = self.state.clone();
        let builder = thread::Builder::new().name(self.name.to_owned());
        #[cfg(test)]
        let builder = match self.stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        };
        builder.spawn(move || serve(&state, &receiver)).map_err(|error| {
            let text = format!("no thread can be started: {error}; see the pids limit");
            io::Error::new(error.kind(), text)
        })?;
        Ok(sender)
    }
}

/// Works until the sender is dropped.
fn serve<S>(state: &Mutex<S>, works: &Receiver<Work<S>>) {
    for work in works {
        // The hook has reported the panic, and whoever waits learns it by the lost answer.
        let _ = catch_unwind(AssertUnwindSafe(|| work(&mut lock(state))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_on_one_named_thread_also_after_a_panic() {
        let thread = HelperThread::new("helper", Vec::new());
        for number in 0..3 {
            thread.submit(move |state: &mut Vec<_>| state.push(number)).await.unwrap();
        }
        let name = thread.submit(|_| thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("helper"));
        let faulty = |_: &mut Vec<i32>| {
            if true {
                panic!("a fault")
            }
        };
        let error = thread.submit(faulty).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        assert_eq!(thread.submit(|state| state.clone()).await.unwrap(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn work_that_does_not_return_holds_up_nobody_and_a_bounded_number_waits_for_it() {
        let thread = HelperThread::new("helper", ());
        let (go_on, waits) = channel::<()>();
        let (begun_tx, begun) = oneshot::channel();
        let hanging = thread.submit(move |()| {
            let _ = begun_tx.send(());
            let _ = waits.recv();
        });
        begun.await.unwrap();
        let mut hanging = Box::pin(hanging);
        let late = tokio::time::timeout(Duration::from_millis(10), &mut hanging).await;
        assert!(late.is_err());
        let waiting: Vec<_> = (0..WAITING).map(|_| thread.submit(|()| ())).collect();
        let full = thread.submit(|()| ()).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(go_on);
        hanging.await.unwrap();
        for answer in waiting {
            answer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn without_a_thread_to_be_had_the_answer_is_an_error_and_it_is_tried_again() {
        let mut thread = HelperThread::new("helper", 7);
        // No address space has room for such a stack.
        thread.stack_size = Some(1 << 50);
        for _ in 0..2 {
            let error = thread.submit(|state| *state).await.unwrap_err();
            assert!(error.to_string().contains("no thread can be started"), "{error}");
        }
        thread.stack_size = None;
        assert_eq!(thread.submit(|state| *state).await.unwrap(), 7);
    }
}
