//! A process of its own that initialises NVML and says which GPUs answer: whether a new
//! initialisation sees more than this process does, without stopping the look at any GPU.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use device::names::Uuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::library;
use super::raw;
use super::session::{Session, count_gpus};
use super::settings::NvmlSettings;

/// The hidden subcommand of that process. Its arguments: the driver root, and the library if one is
/// named.
pub const SUBCOMMAND: &str = "list-gpus";
/// This program, whatever its name is.
const OURSELVES: &str = "/proc/self/exe";
/// How long the process may take; it is killed then.
const DEADLINE: Duration = Duration::from_secs(30);
/// After this time without an answer it ends, and does not wait for the other GPUs.
const SILENCE: Duration = Duration::from_secs(5);
/// The most bytes that are read of it: a thousand UUIDs and more.
const MOST_BYTES: u64 = 64 << 10;
/// The most GPUs that it looks at.
const MOST_GPUS: u32 = 1024;

/// Starts the process, and returns the GPUs that answered it. One that hangs is killed, and those
/// that answered before count.
pub(super) async fn look(settings: NvmlSettings) -> Result<BTreeSet<Uuid>, String> {
    let mut command = Command::new(OURSELVES);
    command.arg(SUBCOMMAND).arg(&settings.driver_root).args(settings.library);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| format!("cannot start {OURSELVES}: {error}"))?;
    let mut seen = BTreeSet::new();
    let Some(output) = child.stdout.take() else { return Ok(seen) };
    let mut lines = BufReader::new(output.take(MOST_BYTES)).lines();
    let read = async {
        while let Ok(Some(line)) = lines.next_line().await {
            seen.extend(line.parse::<Uuid>());
        }
    };
    // It is not waited for when it is killed: a driver may hold it in the kernel.
    if tokio::time::timeout(DEADLINE, read).await.is_ok() {
        let _ = tokio::time::timeout(DEADLINE, child.wait()).await;
    }
    Ok(seen)
}

/// The process: prints the UUID of each GPU that answers, one a line. Each is asked on a thread of
/// its own, so that one that hangs hides no other. NVML is not shut down, which would wait for it.
///
/// # Errors
/// NVML cannot be opened, or the output cannot be written.
pub fn list(driver_root: &Path, library: Option<PathBuf>) -> Result<(), String> {
    let loaded =
        library::open(library.as_deref(), driver_root).map_err(|error| error.to_string())?;
    let session: &Session = Box::leak(Box::new(Session::new(loaded.nvml, || {})));
    let count = count_gpus(session).map_err(|error| error.to_string())?;
    let (answers, answered) = mpsc::channel();
    for index in 0..count.min(MOST_GPUS) {
        let answers = answers.clone();
        // Nobody receives it any more: the process ends.
        let ask = move || drop(answers.send(ask(session, index)));
        if thread::Builder::new().spawn(ask).is_err() {
            break;
        }
    }
    drop(answers);
    let mut output = std::io::stdout();
    // An error: all have answered, or no more of them do.
    while let Ok(answer) = answered.recv_timeout(SILENCE) {
        if let Some(uuid) = answer {
            writeln!(output, "{uuid}")
                .and_then(|()| output.flush())
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// The GPU at an index, if it answers.
fn ask(session: &Session, index: u32) -> Option<Uuid> {
    let device = session.nvml().device_by_index(index).ok()?;
    let uuid = session.identify(&device).ok()?;
    raw::answers(session.nvml(), &device).then_some(uuid)
}
