//! The real plugin as a process on the node.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::Node;
use super::http::HttpAddress;
use super::lines::Lines;
use super::process::{self, Figures, Mapped};

/// How the plugin is started.
#[derive(Debug, Clone)]
pub struct PluginOptions {
    /// The plugin's executable.
    pub binary: PathBuf,
    /// Arguments after those that place it on the node.
    pub args: Vec<OsString>,
    /// Environment, on top of PATH and the fake library's state file.
    pub env: Vec<(OsString, OsString)>,
    /// The value of `--log-level`; None leaves the plugin's own.
    pub log_level: Option<String>,
    /// True: no arguments but [`args`](Self::args).
    pub bare: bool,
    /// True: nobody reads what it writes, until [`Plugin::read_log`].
    pub unread: bool,
}

impl PluginOptions {
    /// The plugin with the arguments that place it on the node, and nothing else.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            args: Vec::new(),
            env: Vec::new(),
            log_level: None,
            bare: false,
            unread: false,
        }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The same with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The same with a log level.
    #[must_use]
    pub fn log_level(self, level: impl Into<String>) -> Self {
        Self { log_level: Some(level.into()), ..self }
    }

    /// The same without the arguments that place it on the node.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// The same with a log that nobody reads.
    #[must_use]
    pub fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    /// The command that starts it, for who has other streams for it.
    #[must_use]
    pub fn std_command(&self, node: &Node) -> std::process::Command {
        self.command(node).into_std()
    }

    fn command(&self, node: &Node) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.env("FAKE_NVML_STATE", node.state_file());
        // Off unless somebody asks for it: plugins that run side by side would take the default
        // port from each other.
        command.env("HTTP_ADDRESS", "");
        command.envs(self.env.iter().cloned());
        if !self.bare {
            command.arg("--kubelet-socket").arg(node.kubelet_socket());
            command.arg("--pod-resources-socket").arg(node.pod_resources_socket());
            command.arg("--nvml-library").arg(node.nvml_library());
            command.arg("--sysfs-root").arg(node.sysfs());
            command.arg("--proc-root").arg(node.proc());
            command.arg("--driver-root-ctr-path").arg(node.driver_root());
            command.arg("--state-dir").arg(node.state_directory());
            command.arg("--quarantine-dir").arg(node.quarantine_directory());
            command.arg("--cdi-spec-dir").arg(node.cdi_directory());
            if let Some(level) = &self.log_level {
                command.arg("--log-level").arg(level);
            }
        }
        command.args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// The running plugin; killed when it goes out of scope.
#[derive(Debug)]
pub struct Plugin {
    child: Child,
    pid: u32,
    started_at: Instant,
    lines: Lines,
    /// What it writes to, as long as nobody reads it.
    unread: Option<(ChildStdout, ChildStderr)>,
    readers: Vec<JoinHandle<io::Result<()>>>,
}

impl Plugin {
    /// Starts the plugin on the node. To be called inside a tokio runtime, which reads what the
    /// plugin writes.
    ///
    /// # Errors
    /// The executable cannot be started.
    pub fn start(node: &Node, options: &PluginOptions) -> anyhow::Result<Self> {
        let mut command = options.command(node);
        let started_at = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("starting {}", options.binary.display()))?;
        let pid = child.id().expect("it was not waited for yet");
        let unread = child.stdout.take().zip(child.stderr.take());
        let (lines, readers) = (Lines::default(), Vec::new());
        let mut plugin = Self { child, pid, started_at, lines, unread, readers };
        if !options.unread {
            plugin.read_log();
        }
        Ok(plugin)
    }

    /// Begins to read what it writes, and what it has written.
    pub fn read_log(&mut self) {
        if let Some((stdout, stderr)) = self.unread.take() {
            self.readers.push(tokio::spawn(self.lines.clone().collect(stdout)));
            self.readers.push(tokio::spawn(self.lines.clone().collect(stderr)));
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The moment just before it was started.
    #[must_use]
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Where it serves HTTP; it must have been started with an address.
    ///
    /// # Errors
    /// It has not said so in time.
    pub async fn http(&self, timeout: Duration) -> anyhow::Result<HttpAddress> {
        let (_, line) =
            self.wait_for_log("serving metrics, probes and status over HTTP", timeout).await?;
        let address = line.split("address=").nth(1).context("an address in the log")?;
        Ok(HttpAddress::parse(address.split_whitespace().next().unwrap_or_default()))
    }

    /// All lines that it has written so far, to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lines.all().iter().map(|line| line.text.to_string()).collect()
    }

    /// Waits for a line that contains the text; one that was written before counts.
    ///
    /// # Errors
    /// No such line came in time; the error has all lines.
    pub async fn wait_for_log(
        &self,
        text: &str,
        timeout: Duration,
    ) -> anyhow::Result<(Instant, String)> {
        self.wait_for_log_after(0, text, timeout).await
    }

    /// Waits for a line that contains the text and is not among the first `seen` lines.
    ///
    /// # Errors
    /// No such line came in time; the error has all lines.
    pub async fn wait_for_log_after(
        &self,
        seen: usize,
        text: &str,
        timeout: Duration,
    ) -> anyhow::Result<(Instant, String)> {
        let line = self.lines.wait_for(seen, timeout, |line| line.contains(text)).await;
        line.map(|line| (line.at, line.text.to_string())).ok_or_else(|| {
            anyhow!("no line with {text:?} within {timeout:?}\n{}", self.log().join("\n"))
        })
    }

    /// Passes each line on as it comes, from the first on.
    pub fn follow_log(&self, show: impl FnMut(&str) + Send + 'static) {
        tokio::spawn(self.lines.follow(show));
    }

    /// Asks it to stop: SIGTERM.
    ///
    /// # Errors
    /// It has been waited for already.
    pub fn terminate(&self) -> io::Result<()> {
        self.send(Signal::TERM)
    }

    /// Sends a signal by its number.
    ///
    /// # Errors
    /// There is no such signal, or it has been waited for already.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(number);
        self.send(
            signal.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such signal"))?,
        )
    }

    /// Waits for its end, however it comes, and until all that it has written is in the log.
    ///
    /// # Errors
    /// It is still running when the time is over; the error has all lines.
    pub async fn wait_exit(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let ended = async {
            let status = self.child.wait().await;
            for reader in self.readers.drain(..) {
                // It ends with the pipe, which ended with the plugin.
                let _ = reader.await;
            }
            status
        };
        match tokio::time::timeout(timeout, ended).await {
            Ok(status) => status.context("waiting for the plugin"),
            Err(_) => Err(anyhow!("still running after {timeout:?}\n{}", self.log().join("\n"))),
        }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What /proc tells of it.
    ///
    /// # Errors
    /// It has ended.
    pub fn figures(&self) -> io::Result<Figures> {
        process::figures(self.pid)
    }

    /// Its memory by the name of the mapped file; heap, stacks and the rest under the empty name.
    ///
    /// # Errors
    /// It has ended, or is another user's.
    pub fn mapped(&self) -> io::Result<BTreeMap<String, Mapped>> {
        process::mapped(self.pid)
    }

    /// Its threads.
    ///
    /// # Errors
    /// It has ended.
    pub fn threads(&self) -> io::Result<usize> {
        Ok(self.figures()?.threads)
    }

    /// Its open file descriptors.
    ///
    /// # Errors
    /// It has ended.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(self.figures()?.descriptors)
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_kib(&self) -> io::Result<u64> {
        Ok(self.figures()?.rss_kib)
    }

    /// The anonymous part of its resident memory.
    ///
    /// # Errors
    /// It has ended.
    pub fn anonymous_kib(&self) -> io::Result<u64> {
        Ok(self.figures()?.anonymous_kib)
    }

    /// Lets it have so many bytes of memory more than it has now, for stacks and all else.
    ///
    /// # Errors
    /// It has ended, or is another user's.
    pub fn limit_memory(&self, more: u64) -> io::Result<()> {
        let most = Some(process::virtual_bytes(self.pid)? + more);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        prlimit(pid, Resource::As, Rlimit { current: most, maximum: most })?;
        Ok(())
    }

    /// How often its threads went to sleep by themselves.
    ///
    /// # Errors
    /// It has ended.
    pub fn voluntary_switches(&self) -> io::Result<u64> {
        Ok(self.figures()?.voluntary_switches)
    }

    /// Processor time, in clock ticks.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_ticks(&self) -> io::Result<u64> {
        Ok(self.figures()?.cpu_ticks)
    }

    /// Sees that it gets no further thread: its address space may not grow, also where it has
    /// shrunk by the stacks of threads that end. Its allocator has some memory left.
    ///
    /// # Errors
    /// It has ended.
    pub fn gets_no_threads(&self) -> io::Result<()> {
        let most = self.figures()?.virtual_kib.saturating_sub(64 << 10) * 1024;
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.running()?), Resource::As, limit)?;
        Ok(())
    }

    /// `Child::id` is None as soon as the process was waited for: its number may be another one's
    /// then.
    fn running(&self) -> io::Result<Pid> {
        let running = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        running.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the plugin has ended"))
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        kill_process(self.running()?, signal).map_err(io::Error::from)
    }
}
