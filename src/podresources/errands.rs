//! What a connection wants done beside a call, done by the task that makes the call.
//!
//! A channel spawns tasks: one that queues the calls, one that moves the bytes. On a runtime of several threads each step
//! of a call then wakes one thread after the other, and to ask every now and then would be most of what an idle process
//! does.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::sync::mpsc;

/// Something to be done.
type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes errands in place of a spawn.
#[derive(Debug, Clone)]
pub(super) struct Errands(mpsc::UnboundedSender<Errand>);

impl hyper::rt::Executor<Errand> for Errands {
    fn execute(&self, errand: Errand) {
        // When the work is done nobody takes any more, and the connection is over.
        let _ = self.0.send(errand);
    }
}

/// Works, and does the errands of the work beside it. What is left of them when the work is done is dropped.
pub(super) async fn with_errands<T, F: Future<Output = T>>(work: impl FnOnce(Errands) -> F) -> T {
    let (take, mut taken) = mpsc::unbounded_channel();
    let mut work = pin!(work(Errands(take)));
    let mut errands: Vec<Errand> = Vec::new();
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        while let Poll::Ready(Some(errand)) = taken.poll_recv(context) {
            errands.push(errand);
        }
        // One that moves the work on has it woken by that: it is the same task.
        errands.retain_mut(|errand| errand.as_mut().poll(context).is_pending());
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn errands_are_done_beside_the_work_and_may_have_errands_of_their_own() {
        let done = with_errands(async |errands: Errands| {
            let (say, heard) = oneshot::channel();
            let inner = errands.clone();
            errands.execute(Box::pin(std::future::pending()));
            errands.execute(Box::pin(async move {
                tokio::task::yield_now().await;
                inner.execute(Box::pin(async move { say.send(7).unwrap() }));
            }));
            heard.await.unwrap()
        });
        assert_eq!(done.await, 7);
    }
}
