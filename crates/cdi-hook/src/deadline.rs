//! The longest that a run may take. What is read has bounds, but a disk, a file system of a network
//! or whoever holds standard input open may take for ever.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What the work comes to; `None`: it has taken longer than this. It then goes on until the process
/// ends, which a call that the kernel does not interrupt can still delay: no program can help that.
///
/// # Errors
/// There is no thread to be had, so that the time could not be watched.
pub fn within<T: Send + 'static>(
    most: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, result) = mpsc::sync_channel(1);
    let worker = thread::Builder::new().spawn(move || {
        // Nobody takes it after the deadline.
        let _ = done.send(work());
    })?;
    match result.recv_timeout(most) {
        Ok(result) => Ok(Some(result)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            // It ends without an answer in a panic alone.
            Ok(()) => Ok(None),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_given_up() {
        let (_kept, never) = mpsc::channel::<()>();
        let hangs = move || never.recv();
        assert!(within(Duration::from_millis(20), hangs).unwrap().is_none());
        assert_eq!(within(Duration::from_secs(60), || 1).unwrap(), Some(1));
    }
}
