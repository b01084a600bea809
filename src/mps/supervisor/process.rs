//! The process of a control daemon, with its servers.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use device::names::ResourceName;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use super::settings::log_text;
use crate::mps::client::MpsError;

/// How long one that was told to quit, or killed, may take to end.
pub(super) const END_DEADLINE: Duration = Duration::from_secs(5);
/// How long what it has written is waited for after its end: a process that it has left may hold
/// its output open.
const DRAIN_DEADLINE: Duration = Duration::from_millis(200);
/// A line of its output is cut where it has more bytes.
const MAX_LINE: u64 = 4096;

/// A control daemon that runs in the foreground.
pub(super) struct DaemonProcess {
    resource: ResourceName,
    child: Child,
    /// Its process group, in which its servers are too, until it is killed.
    group: Option<Pid>,
    /// Passes on what it writes.
    output: JoinSet<()>,
}

impl DaemonProcess {
    /// Starts it, with pipes for its output.
    pub(super) fn start(resource: &ResourceName, mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| {
            let program = command.as_std().get_program().display().to_string();
            MpsError::Program(format!("{program}: {error}")).to_string()
        })?;
        let pid = child.id();
        info!(%resource, pid, "the MPS control daemon is started");
        let mut output = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            output.spawn(pass_on(resource.clone(), pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            output.spawn(pass_on(resource.clone(), pipe));
        }
        let group = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(Self { resource: resource.clone(), child, group, output })
    }

    /// How it has ended, if it has.
    pub(super) fn exit_status(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Waits for its end. Nothing is lost when it is dropped before.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Kills it and its servers, or what is left of them.
    pub(super) fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for its end, and until all that it has written is passed on.
    pub(super) async fn await_end(&mut self) -> Result<(), String> {
        let Ok(status) = timeout(END_DEADLINE, self.child.wait()).await else {
            return Err(format!("it does not end within {} s", END_DEADLINE.as_secs()));
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        self.drain().await;
        let resource = &self.resource;
        info!(%resource, status = %how, "the MPS control daemon has ended");
        Ok(())
    }

    /// Waits for a moment until all that it has written is passed on.
    pub(super) async fn drain(&mut self) {
        let all = async { while self.output.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_DEADLINE, all).await;
    }
}

/// Passes on what it writes, line by line.
async fn pass_on(resource: ResourceName, output: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => info!(%resource, "{}", log_text(&String::from_utf8_lossy(&line))),
        }
    }
}
