//! Does the steps of a control daemon's life, each within a time.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::names::{ResourceName, Uuid};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::compute_mode::ComputeModes;
use super::directories;
use super::log::{self, Commands, LogFollower};
use super::machine::{Outcome, Step};
use super::{SupervisorSettings, log_text};
use crate::mps::client::{self, CONTROL, MpsError, PIPE_DIRECTORY, PROTOCOL};
use crate::mps::published::{Published, Publisher};
use crate::mps::watch;
use crate::util::lock;

/// How long a daemon that was started may take until it answers.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long one that was told to quit, or killed, may take to end.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// How long what it has written is waited for after its end: a process that it has left may hold
/// its output open.
const DRAIN_DEADLINE: Duration = Duration::from_millis(200);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the lock is tried for: the plugin holds it for a moment whenever it looks.
const LOCK_TRIES: u32 = 20;
/// How often the mode of a GPU is tried to be restored.
const RESTORE_TRIES: u32 = 3;
/// The most servers of a daemon: one for each user.
const MAX_SERVERS: usize = 1024;

/// The steps of one control daemon.
pub(super) struct Steps {
    resource: ResourceName,
    settings: Arc<SupervisorSettings>,
    modes: ComputeModes,
    publisher: Option<Publisher>,
    child: Option<Child>,
    /// Its process group, in which its servers are too.
    group: Option<Pid>,
    /// Passes on what the daemon itself writes.
    output: JoinSet<()>,
    commands: Arc<Mutex<Commands>>,
    log: LogFollower,
    /// What it works on, as was told last.
    gpus: Vec<Uuid>,
}

impl Steps {
    pub(super) fn new(resource: ResourceName, settings: Arc<SupervisorSettings>) -> Self {
        let paths = &settings.paths;
        let modes = ComputeModes::new(settings.programs.clone(), &paths.directory(&resource));
        let commands = Arc::new(Mutex::new(Commands::default()));
        let (name, logs) = (resource.clone(), paths.logs(&resource));
        let log = LogFollower::new(name, logs, commands.clone(), settings.watches.clone());
        Self {
            resource,
            modes,
            settings,
            publisher: None,
            child: None,
            group: None,
            output: JoinSet::new(),
            commands,
            log,
            gpus: Vec::new(),
        }
    }

    /// Does a step, and says what came of it.
    pub(super) async fn perform(&mut self, step: &Step) -> Outcome {
        let resource = self.resource.clone();
        debug!(%resource, ?step, "a step of the MPS control daemon");
        match self.try_perform(step).await {
            Ok(count) => Outcome::Done(count),
            Err(error) => {
                let error = log_text(&error);
                let step = words(step);
                warn!(%resource, %error, "cannot {step} for the MPS control daemon");
                Outcome::Failed(error)
            }
        }
    }

    async fn try_perform(&mut self, step: &Step) -> Result<usize, String> {
        match step {
            Step::Prepare => self.prepare().await?,
            Step::EndLeftover => self.end_leftover().await?,
            Step::Exclusive(gpu) => self.modes.set_exclusive(gpu).await?,
            Step::Start { gpus, multi_user } => self.start(gpus, *multi_user)?,
            Step::AwaitAnswer => self.await_answer().await?,
            Step::LimitMemory(ordinal, mib) => {
                self.send(&format!("set_default_device_pinned_mem_limit {ordinal} {mib}M")).await?;
            }
            Step::LimitThreads(percent) => {
                self.send(&format!("set_default_active_thread_percentage {percent}")).await?;
            }
            Step::LimitServers { memory, threads } => self.limit_servers(memory, *threads).await?,
            Step::Announce(gpus) => self.announce(gpus)?,
            Step::Check => drop(self.ask().await.map_err(|error| error.to_string())?),
            Step::CountClients => return self.count_clients().await,
            Step::Withdraw(why) => self.withdraw(why)?,
            Step::Quit => self.quit().await?,
            Step::Kill => self.kill().await?,
            Step::Restore(gpu) => self.restore(gpu).await?,
        }
        Ok(0)
    }

    async fn prepare(&mut self) -> Result<(), String> {
        let paths = &self.settings.paths;
        let (pipes, logs) = (paths.pipes(&self.resource), paths.logs(&self.resource));
        directories::make(&[&pipes, &logs]).map_err(|error| error.to_string())?;
        directories::label(&pipes, &self.settings.selinux);
        if self.publisher.is_none() {
            self.publisher = Some(self.lock().await?);
        }
        self.publish(Published {
            cause: Some("it is being started".to_owned()),
            ..Published::default()
        })
    }

    async fn lock(&self) -> Result<Publisher, String> {
        let directory = self.settings.paths.directory(&self.resource);
        let mut tries = 0;
        loop {
            match Publisher::new(&directory) {
                Ok(publisher) => return Ok(publisher),
                Err(error) if tries == LOCK_TRIES => {
                    return Err(format!("{}: {error}", directory.display()));
                }
                Err(_) => tries += 1,
            }
            sleep(PAUSE).await;
        }
    }

    /// Another daemon on these pipes is one that this supervisor has lost.
    async fn end_leftover(&mut self) -> Result<(), String> {
        log::rotate(&self.settings.paths.logs(&self.resource));
        match self.ask().await {
            Ok(_) => {}
            Err(MpsError::Daemon(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        let resource = &self.resource;
        warn!(%resource, "an MPS control daemon of before is still there; it is told to quit, \
            which ends its clients");
        let _ = self.send("quit").await;
        let until = Instant::now() + END_DEADLINE;
        while Instant::now() < until {
            if matches!(self.ask().await, Err(MpsError::Daemon(_))) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err("another MPS control daemon uses its pipes, and does not quit".to_owned())
    }

    fn start(&mut self, gpus: &[Uuid], multi_user: bool) -> Result<(), String> {
        let paths = &self.settings.paths;
        let visible: Vec<&str> = gpus.iter().map(Uuid::as_str).collect();
        let mut command = self.settings.programs.command(CONTROL);
        command
            .arg("-f")
            .args(multi_user.then_some("-m"))
            .env(PIPE_DIRECTORY, paths.pipes(&self.resource))
            .env("CUDA_MPS_LOG_DIRECTORY", paths.logs(&self.resource))
            .env(PROTOCOL.0, PROTOCOL.1)
            // The daemon numbers what it sees from 0, in this order: so the ordinals are ours.
            .env("CUDA_VISIBLE_DEVICES", visible.join(","))
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // With its servers, so that all of them can be killed.
            .process_group(0)
            .kill_on_drop(true);
        self.spawn(command)?;
        self.gpus = gpus.to_vec();
        Ok(())
    }

    fn spawn(&mut self, mut command: Command) -> Result<(), String> {
        let mut child = command.spawn().map_err(|error| {
            let program = command.as_std().get_program().display().to_string();
            MpsError::Program(format!("{program}: {error}")).to_string()
        })?;
        let (resource, pid) = (&self.resource, child.id());
        info!(%resource, pid, "the MPS control daemon is started");
        if let Some(output) = child.stdout.take() {
            self.output.spawn(pass_on(self.resource.clone(), output));
        }
        if let Some(output) = child.stderr.take() {
            self.output.spawn(pass_on(self.resource.clone(), output));
        }
        self.group = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        self.child = Some(child);
        Ok(())
    }

    async fn await_answer(&mut self) -> Result<(), String> {
        let until = Instant::now() + ANSWER_DEADLINE;
        loop {
            if let Some(how) = self.exit_status() {
                return Err(format!("it has ended before it answered ({how})"));
            }
            match self.ask().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => {
                    let seconds = ANSWER_DEADLINE.as_secs();
                    return Err(format!("it does not answer within {seconds} s: {error}"));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self) -> Result<String, MpsError> {
        let pipes = self.settings.paths.pipes(&self.resource);
        watch::ask(&self.settings.programs, &pipes).await
    }

    /// Sends a command, as one of the supervisor's.
    async fn send(&self, line: &str) -> Result<String, String> {
        lock(&self.commands).sending(line);
        let pipes = self.settings.paths.pipes(&self.resource);
        client::command(&self.settings.programs, &pipes, line).await.map_err(|error| {
            // The daemon that refuses one has it in its log, and one that is not there has not.
            lock(&self.commands).not_sent(line);
            format!("{line}: {error}")
        })
    }

    async fn servers(&self) -> Result<Vec<u32>, String> {
        let text = self.send("get_server_list").await?;
        Ok(numbers(&text).take(MAX_SERVERS).collect())
    }

    /// A server that ends meanwhile needs no limits.
    async fn limit_servers(&self, memory: &[(usize, u64)], threads: u32) -> Result<(), String> {
        for server in self.servers().await? {
            for (ordinal, mib) in memory {
                let line = format!("set_device_pinned_mem_limit {server} {ordinal} {mib}M");
                let _ = self.send(&line).await;
            }
            let _ = self.send(&format!("set_active_thread_percentage {server} {threads}")).await;
        }
        Ok(())
    }

    async fn count_clients(&self) -> Result<usize, String> {
        let mut count = 0;
        for server in self.servers().await? {
            let text = self.send(&format!("get_client_list {server}")).await?;
            count += numbers(&text).count();
        }
        let resource = &self.resource;
        if count > 0 {
            debug!(%resource, clients = count, "a change of the MPS control daemon waits for them");
        }
        Ok(count)
    }

    fn announce(&self, gpus: &[Uuid]) -> Result<(), String> {
        let (resource, names) = (&self.resource, gpus.iter().map(Uuid::to_string).collect());
        self.publish(Published { up: true, cause: None, gpus: names })?;
        info!(%resource, gpus = gpus.len(), "the MPS control daemon works for clients");
        Ok(())
    }

    fn withdraw(&self, why: &str) -> Result<(), String> {
        let resource = &self.resource;
        let reason = log_text(why);
        warn!(%resource, %reason, "the MPS control daemon does not work for clients");
        self.publish(Published { cause: Some(log_text(why)), ..Published::default() })
    }

    fn publish(&self, published: Published) -> Result<(), String> {
        let Some(publisher) = &self.publisher else { return Ok(()) };
        publisher.publish(&published).map_err(|error| error.to_string())
    }

    async fn quit(&mut self) -> Result<(), String> {
        if self.child.is_none() {
            return Ok(());
        }
        self.send("quit").await?;
        self.await_end().await
    }

    async fn kill(&mut self) -> Result<(), String> {
        self.kill_group();
        let ended = self.await_end().await;
        // One that the driver holds is not waited for.
        self.child = None;
        ended
    }

    async fn await_end(&mut self) -> Result<(), String> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match timeout(END_DEADLINE, child.wait()).await {
            Ok(status) => {
                let how =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                (self.child, self.group) = (None, None);
                self.drain().await;
                let resource = &self.resource;
                info!(%resource, status = %how, "the MPS control daemon has ended");
                Ok(())
            }
            Err(_) => Err(format!("it does not end within {} s", END_DEADLINE.as_secs())),
        }
    }

    /// Kills what is left of it and its servers.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// All that it has written is passed on.
    async fn drain(&mut self) {
        let all = async { while self.output.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_DEADLINE, all).await;
        self.log.read();
    }

    async fn restore(&self, gpu: &Uuid) -> Result<(), String> {
        let mut tries = 1;
        loop {
            match self.modes.restore(gpu).await {
                Err(error) if tries == RESTORE_TRIES => {
                    return Err(format!(
                        "{error}; no process can use GPU {gpu} beside another until `nvidia-smi -i \
                         {gpu} -c DEFAULT`"
                    ));
                }
                Err(_) => tries += 1,
                Ok(()) => return Ok(()),
            }
            sleep(PAUSE).await;
        }
    }

    /// How the daemon has ended, if it has by itself.
    pub(super) async fn exited(&mut self) -> Option<String> {
        let how = self.exit_status()?;
        // Its servers would work on for clients that nobody can limit or count.
        self.kill_group();
        self.child = None;
        self.drain().await;
        let by_others = lock(&self.commands).take_quit();
        Some(match by_others {
            true => format!("it was told to quit by a command that is not the supervisor's, {how}"),
            false => how,
        })
    }

    fn exit_status(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait();
        match status {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Waits until the daemon ends or its log changes. Nothing is lost when it is dropped.
    pub(super) async fn changed(&mut self) {
        match &mut self.child {
            Some(child) => tokio::select! {
                _ = child.wait() => {}
                () = self.log.changed() => self.log.read(),
            },
            None => std::future::pending().await,
        }
    }

    /// Whether others have sent commands that change something, since this was last asked.
    pub(super) fn take_foreign_commands(&self) -> bool {
        lock(&self.commands).take_changed()
    }

    /// Leaves the directories as nobody's.
    pub(super) fn close(self) {
        if let Some(publisher) = self.publisher {
            publisher.close();
        }
    }

    /// Where it is, for people.
    pub(super) fn directory(&self) -> PathBuf {
        self.settings.paths.directory(&self.resource)
    }
}

/// The numbers that stand alone on a line.
fn numbers(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.lines().filter_map(|line| line.trim().parse().ok())
}

/// What a step is to do.
fn words(step: &Step) -> &'static str {
    match step {
        Step::Prepare => "make the directories",
        Step::EndLeftover => "end one of before",
        Step::Exclusive(_) => "set the compute mode EXCLUSIVE_PROCESS",
        Step::Start { .. } | Step::AwaitAnswer => "have a start",
        Step::LimitMemory(..) => "set a limit of memory",
        Step::LimitThreads(_) => "set the share of threads",
        Step::LimitServers { .. } => "set the limits of servers",
        Step::Announce(_) | Step::Withdraw(_) => "tell the plugin",
        Step::Check => "have an answer",
        Step::CountClients => "count the clients",
        Step::Quit => "have an end by `quit`",
        Step::Kill => "have an end by SIGKILL",
        Step::Restore(_) => "restore the compute mode",
    }
}

/// Passes on what the daemon writes, line by line.
async fn pass_on(resource: ResourceName, output: impl AsyncRead + Unpin) {
    /// A line is cut where it has more bytes.
    const MAX_LINE: u64 = 4096;
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let mut bounded = tokio::io::AsyncReadExt::take(&mut reader, MAX_LINE);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => info!(%resource, "{}", log_text(&String::from_utf8_lossy(&line))),
        }
    }
}
