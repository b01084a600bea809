//! The queue between those who log and the thread that writes to standard error.
//!
//! Standard error is a pipe that another process reads, or does not read. Nobody who logs waits for
//! it: a line that finds the queue full is dropped and counted, and once lines are read again one
//! line says how many are missing.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::util::lock;

/// The most bytes of lines that wait: some thousand lines.
const MOST_BYTES: usize = 512 << 10;
/// A buffer of up to this size is kept for the next lines.
const KEPT_BYTES: usize = 16 << 10;
/// How long to wait after standard error took nothing and did not wait itself, as it does when
/// another process that has it made it non-blocking.
const RETRY: Duration = Duration::from_millis(50);

/// Lines of this process that were dropped.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many log lines of this process were dropped, because nobody read them.
#[must_use]
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.load(Relaxed)
}

/// Lines that wait to be written. One call of [`Write::write`] is one line.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines dropped since the last ones were taken. Until then no other is added, so that the gap
    /// is in one place.
    dropped: u64,
    /// Whether the thread has lines that are not written yet.
    busy: bool,
}

impl LogQueue {
    /// Starts the thread that writes the lines to `output`. After lines were dropped it calls
    /// `report` with their number and the reason, once lines can be written again.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        report: impl Fn(u64, &str) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = queue.clone();
        let body = move || writer.write_lines(output, &report);
        thread::Builder::new().name("log".to_owned()).spawn(body)?;
        Ok(queue)
    }

    /// Waits until all lines are written, but no longer than `at_most`.
    pub(super) fn flush(&self, at_most: Duration) {
        let unwritten = |state: &mut State| state.busy || !state.waiting.is_empty();
        drop(self.written.wait_timeout_while(lock(&self.state), at_most, unwritten));
    }

    fn push(&self, line: &[u8]) {
        let mut state = lock(&self.state);
        if state.dropped > 0 || state.waiting.len() + line.len() > MOST_BYTES {
            state.dropped = state.dropped.saturating_add(1);
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits for lines, and takes all. Returns how many were dropped after them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let empty = |state: &mut State| state.waiting.is_empty();
        let state = self.filled.wait_while(lock(&self.state), empty);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.busy = true;
        std::mem::swap(&mut state.waiting, lines);
        std::mem::take(&mut state.dropped)
    }

    /// Writes lines without end. No lock is held meanwhile.
    fn write_lines(&self, mut output: impl Write, report: &impl Fn(u64, &str)) {
        let (mut lines, mut lost, mut reason) = (Vec::new(), 0_u64, None);
        loop {
            lost = lost.saturating_add(self.take(&mut lines));
            match write_all(&mut output, &lines) {
                // Reported when something can be written again.
                Err((error, unwritten)) => {
                    let count = unwritten.iter().filter(|byte| **byte == b'\n').count() as u64;
                    DROPPED.fetch_add(count, Relaxed);
                    lost = lost.saturating_add(count);
                    reason = Some(format!("standard error could not be written: {error}"));
                }
                Ok(()) if lost > 0 => {
                    let reason = reason.take();
                    report(lost, reason.as_deref().unwrap_or("nobody read standard error"));
                    lost = 0;
                }
                Ok(()) => {}
            }
            lines.clear();
            lines.shrink_to(KEPT_BYTES);
            lock(&self.state).busy = false;
            self.written.notify_all();
        }
    }
}

impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, also to an output that does not wait; else the error and what is not written.
fn write_all<'l>(
    output: &mut impl Write,
    mut lines: &'l [u8],
) -> Result<(), (io::Error, &'l [u8])> {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), lines)),
            Ok(count) => lines = lines.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err((error, lines)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// An output that takes what it is given once it may, with the answer that it is told.
    struct Gate {
        answers: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.answers.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Report = (u64, String);

    fn queue() -> (Arc<LogQueue>, Sender<io::Result<()>>, Receiver<String>, Receiver<Report>) {
        let ((allow, answers), (written, seen)) = (channel(), channel());
        let (report, reported) = channel();
        let report = move |count, reason: &str| drop(report.send((count, reason.to_owned())));
        let queue = LogQueue::start(Gate { answers, written }, report).unwrap();
        (queue, allow, seen, reported)
    }

    fn log(queue: &LogQueue, line: &str) {
        let mut queue = queue;
        queue.write_all(line.as_bytes()).unwrap();
    }

    /// The thread has taken the lines and waits in a write.
    fn until_taken(queue: &LogQueue) {
        while !lock(&queue.state).waiting.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_are_dropped_and_counted_while_nobody_reads_and_the_gap_is_told_after_them() {
        let (queue, allow, seen, reported) = queue();
        let before = dropped_lines();
        log(&queue, "first\n");
        until_taken(&queue);
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..MOST_BYTES / 1024 + 5 {
            log(&queue, &line);
        }
        log(&queue, "small\n");
        assert!(dropped_lines() - before >= 6, "of other tests perhaps more");
        assert_eq!(lock(&queue.state).waiting.len(), MOST_BYTES);
        drop(allow);
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "first\n");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap().len(), MOST_BYTES);
        let expected = (6, "nobody read standard error".to_owned());
        assert_eq!(reported.recv_timeout(PATIENCE).unwrap(), expected);
        log(&queue, "last\n");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "last\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_told_once_others_can() {
        let (queue, allow, seen, reported) = queue();
        log(&queue, "one\ntwo\n");
        until_taken(&queue);
        for error in [ErrorKind::Interrupted, ErrorKind::WouldBlock, ErrorKind::BrokenPipe] {
            allow.send(Err(error.into())).unwrap();
        }
        queue.flush(PATIENCE);
        log(&queue, "three\n");
        drop(allow);
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "three\n");
        let (count, reason) = reported.recv_timeout(PATIENCE).unwrap();
        assert!(count == 2 && reason.contains("broken pipe"), "{count} {reason}");
    }

    #[test]
    fn a_flush_waits_for_the_last_line_and_not_for_a_reader_that_does_not_come() {
        let (queue, allow, seen, _reported) = queue();
        queue.flush(PATIENCE);
        log(&queue, "line\n");
        let began = Instant::now();
        queue.flush(Duration::from_millis(10));
        assert!(began.elapsed() >= Duration::from_millis(10));
        drop(allow);
        queue.flush(PATIENCE);
        assert_eq!(seen.try_recv().unwrap(), "line\n");
    }
}
