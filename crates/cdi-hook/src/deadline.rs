//! The longest that a run may take. What is read has bounds, but a disk, a file system of a network
//! or whoever holds standard input open may take for ever.

use std::io;
use std::thread;
use std::time::Duration;

/// Of the thread that waits. What it does late is to print a line.
const STACK_BYTES: usize = 64 << 10;

/// Does something if the process still runs after this time. The work stays on the thread that
/// calls, whose heap and stack are there already: on a thread of its own it costs a tenth more.
///
/// # Errors
/// There is no thread to be had, so that the time could not be watched.
pub fn after(most: Duration, act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let wait = move || {
        thread::sleep(most);
        act();
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(wait)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_takes_too_long_is_noticed_while_it_hangs() {
        let (late, noticed) = mpsc::channel();
        after(Duration::from_millis(20), move || late.send(()).unwrap()).unwrap();
        noticed.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
