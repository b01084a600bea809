//! The edge to NVIDIA's MPS control daemon: whether the one of a resource answers. A client that is
//! started without it hangs, so a resource that MPS shares is served once it does.

use std::process::Stdio;
use std::time::Duration;

use device::injection::mps_pipe;
use device::names::ResourceName;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tracing::{info, warn};

use crate::util::backoff::Backoff;

/// The daemon's client, which the container runtime puts into our container.
const CONTROL: &str = "nvidia-cuda-mps-control";
/// What it is asked: cheap, and answered only by a daemon that is up (NVIDIA's plugin asks the
/// same).
const QUESTION: &[u8] = b"get_default_active_thread_percentage\n";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pauses between two tries: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Why a control daemon cannot be counted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The client cannot be started or talked to.
    #[error(
        "cannot run {CONTROL}: {0}; the container needs the NVIDIA runtime with the capability \
            utility"
    )]
    Client(String),
    /// It says that there is no daemon.
    #[error(
        "{CONTROL} says: {0}; does the MPS control daemon run on this node, and share its \
            directory as /mps?"
    )]
    Daemon(String),
    /// It says nothing.
    #[error("{CONTROL} did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Comes back when the control daemon of this resource answers; says each new reason for waiting
/// once.
pub async fn ready(resource: &ResourceName) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let mut said = None;
    loop {
        match ask(resource).await {
            Ok(percentage) => {
                info!(%resource, active_thread_percentage = percentage, "the MPS control daemon \
                    answers");
                return;
            }
            Err(reason) => {
                if said.as_ref() != Some(&reason) {
                    warn!(%resource, %reason, "cannot share by MPS yet, trying on; the other \
                        resources are served");
                    said = Some(reason);
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
pub async fn ask(resource: &ResourceName) -> Result<String, NoAnswer> {
    let client = |error: std::io::Error| NoAnswer::Client(error.to_string());
    let mut child = Command::new(CONTROL)
        .env("CUDA_MPS_PIPE_DIRECTORY", mps_pipe(resource))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(client)?;
    let answer = async {
        if let Some(mut input) = child.stdin.take() {
            // One that ends without reading says why by its status and words.
            let _ = input.write_all(QUESTION).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(DEADLINE, answer)
        .await
        .map_err(|_| NoAnswer::Deadline)?
        .map_err(client)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (answer, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() && answer.parse::<f64>().is_ok() {
        return Ok(answer);
    }
    let words: Vec<String> =
        [answer, complaint].into_iter().filter(|words| !words.is_empty()).collect();
    Err(NoAnswer::Daemon(format!("{} ({})", words.join("; "), output.status)))
}
