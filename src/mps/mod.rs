//! NVIDIA's MPS control daemon: whether the one of a resource answers. A client that is started
//! without it hangs, so the devices of a resource that MPS shares are Healthy only once it does.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use device::injection::mps_pipe;
use device::names::ResourceName;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tracing::{info, warn};

use crate::util::backoff::Backoff;

/// The daemon's client, which the container runtime puts into our container.
const CONTROL: &str = "nvidia-cuda-mps-control";
/// A cheap command that only a running daemon answers, the same as in NVIDIA's plugin.
const COMMAND: &[u8] = b"get_default_active_thread_percentage\n";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The first pause between two tries, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Why a control daemon does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MpsError {
    /// The client cannot be started or written to.
    #[error(
        "cannot run {CONTROL}: {0}; the container needs the NVIDIA runtime with the capability \
            utility"
    )]
    Client(String),
    /// The client says that there is no daemon.
    #[error(
        "{CONTROL} says: {0}; does the MPS control daemon run on this node, and share its \
            directory as /mps?"
    )]
    Daemon(String),
    /// The client says nothing.
    #[error("{CONTROL} did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Waits until the control daemon of this resource answers, and logs each new error once.
pub async fn ready(resource: &ResourceName) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let mut last = None;
    loop {
        match ask(resource).await {
            Ok(percentage) => {
                info!(%resource, active_thread_percentage = percentage, "the MPS control daemon \
                    answers");
                return;
            }
            Err(reason) => {
                if last.as_ref() != Some(&reason) {
                    warn!(%resource, %reason, "cannot share by MPS yet, will retry; the other \
                        resources are served");
                    last = Some(reason);
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Asks the control daemon for its default share of threads.
///
/// # Errors
/// Its client cannot be run, or says that no daemon answers.
pub async fn ask(resource: &ResourceName) -> Result<String, MpsError> {
    let output = tokio::time::timeout(DEADLINE, run_client(resource))
        .await
        .map_err(|_| MpsError::Deadline)?
        .map_err(|error| MpsError::Client(error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (answer, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() && answer.parse::<f64>().is_ok() {
        return Ok(answer);
    }
    let words: Vec<String> =
        [answer, complaint].into_iter().filter(|words| !words.is_empty()).collect();
    Err(MpsError::Daemon(format!("{} ({})", words.join("; "), output.status)))
}

async fn run_client(resource: &ResourceName) -> io::Result<Output> {
    let mut child = Command::new(CONTROL)
        .env("CUDA_MPS_PIPE_DIRECTORY", mps_pipe(resource))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A client that exits without reading says why by its status and output.
        let _ = input.write_all(COMMAND).await;
    }
    child.wait_with_output().await
}
