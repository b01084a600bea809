//! Does the steps of a control daemon's life, each within a time.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::names::{ResourceName, Uuid};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::commands::Commands;
use super::compute_mode::ComputeModes;
use super::directories;
use super::log::{self, LogFollower};
use super::machine::{DaemonStep, Outcome};
use super::process::{DaemonProcess, END_DEADLINE};
use super::settings::{SupervisorSettings, log_text};
use crate::mps::client::{self, CONTROL, MpsError, PIPE_DIRECTORY, PROTOCOL};
use crate::mps::published::{Published, Publisher};
use crate::mps::watch;
use crate::util::lock;

/// How long a daemon that was started may take until it answers.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
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
    process: Option<DaemonProcess>,
    commands: Arc<Mutex<Commands>>,
    log: LogFollower,
}

impl Steps {
    pub(super) fn new(resource: ResourceName, settings: Arc<SupervisorSettings>) -> Self {
        let paths = &settings.paths;
        let modes = ComputeModes::new(settings.programs.clone(), &paths.directory(&resource));
        let commands = Arc::new(Mutex::new(Commands::default()));
        let (name, logs) = (resource.clone(), paths.logs(&resource));
        let log = LogFollower::new(name, logs, commands.clone(), settings.watches.clone());
        Self { resource, modes, settings, publisher: None, process: None, commands, log }
    }

    /// Does a step, and says what came of it.
    pub(super) async fn perform(&mut self, step: &DaemonStep) -> Outcome {
        let resource = self.resource.clone();
        debug!(%resource, ?step, "next for the MPS control daemon");
        match self.try_perform(step).await {
            Ok(count) => Outcome::Done(count),
            Err(error) => {
                let error = log_text(&error);
                let step = step.in_words();
                warn!(%resource, step, %error, "a step of the MPS control daemon failed");
                Outcome::Failed(error)
            }
        }
    }

    async fn try_perform(&mut self, step: &DaemonStep) -> Result<usize, String> {
        match step {
            DaemonStep::Prepare => self.prepare().await?,
            DaemonStep::EndLeftover => self.end_leftover().await?,
            DaemonStep::Exclusive(gpu) => self.modes.set_exclusive(gpu).await?,
            DaemonStep::Start { gpus, multi_user } => self.start(gpus, *multi_user)?,
            DaemonStep::AwaitAnswer => self.await_answer().await?,
            DaemonStep::LimitMemory(ordinal, mib) => {
                self.send(&format!("set_default_device_pinned_mem_limit {ordinal} {mib}M")).await?;
            }
            DaemonStep::LimitThreads(percent) => {
                self.send(&format!("set_default_active_thread_percentage {percent}")).await?;
            }
            DaemonStep::LimitServers { memory, threads } => {
                self.limit_servers(memory, *threads).await?
            }
            DaemonStep::Announce(gpus) => self.announce(gpus)?,
            DaemonStep::Check => drop(self.ask().await.map_err(|error| error.to_string())?),
            DaemonStep::CountClients => return self.count_clients().await,
            DaemonStep::Withdraw(why) => self.withdraw(why)?,
            DaemonStep::Quit => self.quit().await?,
            DaemonStep::Kill => self.kill().await?,
            DaemonStep::Restore(gpu) => self.restore(gpu).await?,
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
        self.process = Some(DaemonProcess::start(&self.resource, command)?);
        Ok(())
    }

    async fn await_answer(&mut self) -> Result<(), String> {
        let until = Instant::now() + ANSWER_DEADLINE;
        loop {
            let ended = self.process.as_mut().and_then(DaemonProcess::exit_status);
            if let Some(how) = ended {
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
        if self.process.is_none() {
            return Ok(());
        }
        self.send("quit").await?;
        self.await_end().await
    }

    async fn kill(&mut self) -> Result<(), String> {
        if let Some(process) = &mut self.process {
            process.kill();
        }
        let ended = self.await_end().await;
        // One that the driver holds is not waited for.
        self.process = None;
        ended
    }

    async fn await_end(&mut self) -> Result<(), String> {
        if let Some(process) = &mut self.process {
            process.await_end().await?;
        }
        self.process = None;
        self.log.read();
        Ok(())
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
        let process = self.process.as_mut()?;
        let how = process.exit_status()?;
        // Its servers would work on for clients that nobody can limit or count.
        process.kill();
        process.drain().await;
        self.process = None;
        self.log.read();
        let by_others = lock(&self.commands).take_quit();
        Some(match by_others {
            true => format!("it was told to quit by a command that is not the supervisor's, {how}"),
            false => how,
        })
    }

    /// Waits until the daemon ends or its log changes. Nothing is lost when it is dropped.
    pub(super) async fn changed(&mut self) {
        match &mut self.process {
            Some(process) => tokio::select! {
                _ = process.wait() => {}
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
