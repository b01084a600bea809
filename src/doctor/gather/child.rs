//! The process that asks the driver: this program once more. A process that is held in the kernel
//! by a driver cannot end, and whoever waits for it waits for good.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::doctor::facts::{Asked, Survey};

/// This program, whatever its name is.
const OURSELVES: &str = "/proc/self/exe";
/// How long all the asking may take: each call has a deadline of its own, and this is for what
/// holds the whole process.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a process that has closed its output may take to end.
const END: Duration = Duration::from_secs(2);
/// As much of its last words as is told.
const WORDS: u64 = 2000;

/// Has the driver asked.
pub(super) async fn ask(arguments: Vec<OsString>) -> Asked {
    let child = Command::new(OURSELVES)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Asked::NotStarted(error.to_string()),
    };
    let answer = tokio::time::timeout(DEADLINE, answer(&mut child)).await;
    // Not waited for after that: it may never end.
    let _ = child.start_kill();
    match answer {
        Ok(answer) => answer,
        Err(_) => Asked::Silent(DEADLINE),
    }
}

async fn answer(child: &mut Child) -> Asked {
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // What cannot be read is no answer.
        let _ = BufReader::new(output).read_line(&mut line).await;
    }
    if let Ok(survey) = serde_json::from_str::<Survey>(&line) {
        return Asked::Answered(Box::new(survey));
    }
    let how = match tokio::time::timeout(END, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its output and does not end".to_owned(),
    };
    let mut words = Vec::new();
    if let Some(output) = child.stderr.take() {
        let _ = tokio::time::timeout(END, output.take(WORDS).read_to_end(&mut words)).await;
    }
    Asked::Died { how, words: String::from_utf8_lossy(&words).trim().to_owned() }
}
