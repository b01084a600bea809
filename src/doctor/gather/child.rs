//! The process that surveys the driver: this program again. A process that a driver holds in the
//! kernel cannot end, so it must not be the one that reports.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::doctor::facts::{DriverAnswer, DriverProbe};

/// This program, whatever its name is.
const OURSELVES: &str = "/proc/self/exe";
/// How long the survey may take: each call has a deadline of its own, and this one is for what
/// holds the whole process.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a process that has closed its output may take to end.
const END: Duration = Duration::from_secs(2);
/// How much of its standard error is reported, in bytes.
const MAX_STDERR: u64 = 2000;

/// Surveys the driver in a process of its own.
pub(super) async fn survey(arguments: Vec<OsString>) -> DriverProbe {
    let child = Command::new(OURSELVES)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return DriverProbe::NotStarted(error.to_string()),
    };
    let answer = tokio::time::timeout(DEADLINE, answer(&mut child)).await;
    // It is not waited for after that: it may never end.
    let _ = child.start_kill();
    match answer {
        Ok(answer) => answer,
        Err(_) => DriverProbe::TimedOut(DEADLINE),
    }
}

async fn answer(child: &mut Child) -> DriverProbe {
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // An error of reading is no answer.
        let _ = BufReader::new(output).read_line(&mut line).await;
    }
    if let Ok(survey) = serde_json::from_str::<DriverAnswer>(&line) {
        return DriverProbe::Answered(Box::new(survey));
    }
    let how = match tokio::time::timeout(END, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its output and does not end".to_owned(),
    };
    let mut stderr = Vec::new();
    if let Some(output) = child.stderr.take() {
        let _ = tokio::time::timeout(END, output.take(MAX_STDERR).read_to_end(&mut stderr)).await;
    }
    DriverProbe::Died { how, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() }
}
