//! The signals that ask for a stop, of the daemon and of the supervisor of MPS control daemons.

use std::future::Future;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// For how long after the first signal another one is the same request: `timeout` and shells signal
/// a process and its group.
const ECHO: Duration = Duration::from_millis(250);
/// How long an abort waits for its line to be written.
const LAST_LINE: Duration = Duration::from_millis(10);

/// Returns at the first signal to stop. A second one aborts the process, and so does a stop that
/// takes longer than `longest`: on a thread that does nothing else, so that nothing can hold it up.
///
/// # Errors
/// Signals cannot be waited for, or there is no thread for it.
pub fn stop_signal(longest: Duration) -> io::Result<impl Future<Output = ()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _context = runtime.enter();
        StopSignals::new()?
    };
    let (stop, stopped) = oneshot::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(signals.stop_once_and_abort(stop, longest)))?;
    Ok(async {
        let _ = stopped.await;
    })
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }

    async fn stop_once_and_abort(mut self, stop: oneshot::Sender<()>, longest: Duration) {
        let name = self.next().await;
        let asked = Instant::now();
        let _ = stop.send(());
        info!(signal = name, "asked to stop");
        let again = async {
            loop {
                let name = self.next().await;
                if asked.elapsed() >= ECHO {
                    return name;
                }
            }
        };
        match tokio::time::timeout(longest, again).await {
            Ok(name) => warn!(signal = name, "asked to stop a second time, aborting"),
            Err(_) => error!("stopping has taken {longest:?}, a thread is stuck: aborting"),
        }
        thread::sleep(LAST_LINE);
        std::process::abort();
    }
}
