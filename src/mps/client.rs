//! The control program, which passes a command on to a control daemon: `nvidia-cuda-mps-control`
//! with the command on its standard input (NVIDIA, "Multi-Process Service", 4.1.1).

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

pub(super) use super::programs::CONTROL;
use super::programs::DriverPrograms;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read: a list of 48 clients on each of 16 GPUs has less.
const MAX_OUTPUT: u64 = 64 << 10;
/// The variable that names the directory of a daemon's pipes.
pub(super) const PIPE_DIRECTORY: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// The protocol of all commands here, for drivers whose default is another one (r615 and later).
pub(super) const PROTOCOL: (&str, &str) = ("CUDA_MPS_PROTOCOL_VERSION", "2");

/// Why a control daemon does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MpsError {
    /// The program cannot be started or written to.
    #[error(
        "cannot run {CONTROL}: {0}; the container needs the driver's root at its \
         --driver-root-ctr-path, or the NVIDIA runtime with the capability compute \
         (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
    )]
    Program(String),
    /// It says that there is no daemon, or that the daemon refuses.
    #[error(
        "{CONTROL} says: {0}; does the MPS control daemon run on this node, and share its \
            directory as /mps?"
    )]
    Daemon(String),
    /// It says nothing.
    #[error("{CONTROL} did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// What a program has written, and how it ended.
pub(super) struct Written {
    pub(super) status: ExitStatus,
    pub(super) output: String,
    pub(super) error: String,
}

impl Written {
    /// All that it has written and how it ended, in one line.
    pub(super) fn in_words(&self) -> String {
        let words = [&*self.output, &self.error].map(|text| {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>()
        });
        format!("{} ({})", words.concat().join("; "), self.status)
    }
}

/// Has a daemon execute a command, and returns its answer.
///
/// # Errors
/// The program cannot be run, says that no daemon answers or that it refuses, or says nothing in
/// time.
pub(super) async fn command(
    programs: &DriverPrograms,
    pipes: &Path,
    line: &str,
) -> Result<String, MpsError> {
    let mut command = programs.command(CONTROL);
    command.env(PIPE_DIRECTORY, pipes).env(PROTOCOL.0, PROTOCOL.1);
    let input = format!("{line}\n");
    let written = run(command, input.as_bytes(), DEADLINE).await;
    let written = written.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => MpsError::Deadline,
        _ => MpsError::Program(error.to_string()),
    })?;
    if written.status.success() && written.error.is_empty() {
        return Ok(written.output);
    }
    Err(MpsError::Daemon(written.in_words()))
}

/// Runs a program to its end; it is killed where that takes longer than `deadline`.
///
/// # Errors
/// It cannot be started, or takes longer.
pub(super) async fn run(
    mut command: Command,
    input: &[u8],
    deadline: Duration,
) -> io::Result<Written> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let written = tokio::time::timeout(deadline, finish(&mut child, input)).await;
    written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn finish(child: &mut Child, input: &[u8]) -> io::Result<Written> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why by its status and output.
        let _ = stdin.write_all(input).await;
    }
    let (output, error) = (child.stdout.take(), child.stderr.take());
    let (output, error) = tokio::join!(beginning(output), beginning(error));
    Ok(Written { status: child.wait().await?, output, error })
}

/// The beginning of what is written; the rest is read and dropped.
async fn beginning(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut from).take(MAX_OUTPUT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).trim().to_owned()
}
