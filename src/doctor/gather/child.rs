//! The process that surveys the driver: this program again. A process that a driver holds in the
//! kernel cannot end, so it must not be the one that reports.
//!
//! It answers on its standard input, which is a socket here: whatever a library writes to standard
//! output or error is in nobody's way. It answers in parts, so that one call that does not return
//! costs what comes after it alone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::doctor::facts::{DeviceNode, DriverAnswer, DriverProbe, SurveyPart};

/// This program, whatever its name is.
const OURSELVES: &str = "/proc/self/exe";
/// How many times the patience for one call the whole process may take.
const CALLS: u32 = 4;
/// How long a process that has closed its output may take to end.
const END: Duration = Duration::from_secs(2);
/// The most bytes of an answer that are read: 1,024 GPUs make less than 2 MiB.
const MAX_ANSWER: u64 = 16 << 20;
/// How much of its standard error is reported, in bytes.
const MAX_STDERR: usize = 2000;

/// What has come of an answer.
#[derive(Default)]
struct Received {
    nvml: Option<Box<DriverAnswer>>,
    nodes: Vec<DeviceNode>,
    ended: bool,
}

/// Surveys the driver in a process of its own. A call may take as long as `patience`.
pub(super) async fn survey(arguments: Vec<OsString>, patience: Duration) -> DriverProbe {
    let (mut child, answer) = match start(arguments) {
        Ok(started) => started,
        Err(error) => return DriverProbe::NotStarted(error.to_string()),
    };
    // Both are read to their ends, or a library that writes much would wait for a reader.
    let noise = child.stdout.take().map(|output| tokio::spawn(beginning(output)));
    let stderr = child.stderr.take().map(|output| tokio::spawn(beginning(output)));
    let mut received = Received::default();
    let deadline = patience * CALLS + END;
    let in_time = tokio::time::timeout(deadline, receive(answer, &mut received)).await.is_ok();
    let probe = match (received.nvml.take(), in_time) {
        (Some(nvml), _) => answered(*nvml, received, in_time),
        (None, true) => died(&mut child, stderr).await,
        (None, false) => DriverProbe::TimedOut(deadline),
    };
    // It is not waited for after that: it may never end.
    let _ = child.start_kill();
    drop(noise);
    probe
}

fn start(arguments: Vec<OsString>) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(OURSELVES)
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// Reads parts until the last one. An error of reading, or what is no part, is the end.
async fn receive(answer: UnixStream, received: &mut Received) {
    let mut lines = BufReader::new(answer.take(MAX_ANSWER)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(SurveyPart::Nvml(nvml)) => received.nvml = Some(nvml),
            Ok(SurveyPart::Node(node)) => received.nodes.push(node),
            Ok(SurveyPart::End) => {
                received.ended = true;
                return;
            }
            Err(_) => return,
        }
    }
}

fn answered(nvml: DriverAnswer, received: Received, in_time: bool) -> DriverProbe {
    let Received { nodes, ended, .. } = received;
    let unfinished = (!ended).then(|| match in_time {
        true => "the process that opens them ended".to_owned(),
        false => "the process that opens them did not go on".to_owned(),
    });
    DriverProbe::Answered(Box::new(DriverAnswer { nodes, unfinished, ..nvml }))
}

async fn died(child: &mut Child, stderr: Option<tokio::task::JoinHandle<Vec<u8>>>) -> DriverProbe {
    let how = match tokio::time::timeout(END, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its output and does not end".to_owned(),
    };
    let written = match stderr {
        Some(reader) => tokio::time::timeout(END, reader).await,
        None => Ok(Ok(Vec::new())),
    };
    let stderr = written.ok().and_then(Result::ok).unwrap_or_default();
    DriverProbe::Died { how, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() }
}

/// The beginning of what is written; the rest is read and dropped.
async fn beginning(mut output: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(count) = output.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = MAX_STDERR - kept.len();
        kept.extend(&buffer[..count.min(room)]);
    }
    kept
}

/// Where the process that surveys the driver answers.
///
/// # Errors
/// Its standard input is closed.
pub fn answer_channel() -> io::Result<std::fs::File> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}
