//! `mps-control-daemon`: supervises the MPS control daemons, in a container of its own.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::USAGE;
use super::args::MpsAction;
use super::output::print_error;
use crate::config::{Config, ConfigSource};
use crate::host::dir_watch::Watches;
use crate::mps::supervisor::{self, SupervisorSettings};
use crate::mps::{DriverPrograms, MpsPaths, program_directories, shm};
use crate::observe::http::status_socket_path;

/// Supervises the control daemons, or mounts the shared memory of their clients.
pub fn mps_control_daemon(action: Option<MpsAction>, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    // Dropped last: it waits for a moment until the last lines are read.
    let _log = match config.process.log.start(super::log_has_colours()) {
        Ok(log) => log,
        Err(error) => {
            print_error(&format!("cannot start the thread that writes the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match action {
        Some(MpsAction::MountShm) => mount_shm(&config),
        None => supervise(&config),
    }
}

fn mount_shm(config: &Config) -> ExitCode {
    let directory = MpsPaths::new(&config.process.mps_dir).shm();
    match shm::mount_shm(&directory, &config.process.roots.proc) {
        Ok(()) => {
            info!(directory = %directory.display(), "mounted the shared memory of MPS clients");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(
                directory = %directory.display(), %error,
                "cannot mount the shared memory of MPS clients; it needs a privileged container, \
                 with the MPS root mounted with mountPropagation: Bidirectional"
            );
            ExitCode::FAILURE
        }
    }
}

fn supervise(config: &Config) -> ExitCode {
    let Some(state_dir) = &config.process.state_dir else {
        error!("no --state-dir is set: there the plugin says what it shares by MPS");
        return ExitCode::from(USAGE);
    };
    let settings = settings(config, state_dir);
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start: no asynchronous runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let signals = StopSignals::new()?;
        info!(
            version = env!("CARGO_PKG_VERSION"), commit = env!("GIT_COMMIT"),
            status = %settings.status_socket.display(),
            "starting to supervise MPS control daemons"
        );
        supervisor::run(settings, signals.stop()).await;
        Ok::<_, std::io::Error>(())
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "cannot wait for signals");
            ExitCode::FAILURE
        }
    }
}

fn settings(config: &Config, state_dir: &Path) -> SupervisorSettings {
    let root = &config.process.nvml.driver_root;
    let paths = MpsPaths::new(&config.process.mps_dir);
    let programs = DriverPrograms::at(root).with_path(search_path(root));
    let programs = programs.clone().with_libraries(&paths.libraries()).unwrap_or_else(|error| {
        let directory = paths.libraries();
        warn!(
            directory = %directory.display(), %error,
            "cannot make links to the driver's libraries; those of the container runtime are used"
        );
        programs
    });
    SupervisorSettings {
        programs,
        paths,
        status_socket: status_socket_path(state_dir),
        selinux: config.process.nvml.sysfs_root.join("fs/selinux"),
        watches: Watches::default(),
    }
}

/// The directories of the driver's programs before those of this process: the control daemon starts
/// nvidia-cuda-mps-server by its name.
fn search_path(root: &Path) -> Option<OsString> {
    let ours = env::var_os("PATH").unwrap_or_default();
    env::join_paths(program_directories(root).chain(env::split_paths(&ours))).ok()
}

/// The signals that end it, and the one that has no effect.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the first signal to stop.
    async fn stop(mut self) {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.quit.recv() => "SIGQUIT",
                _ = self.hangup.recv() => {
                    info!("SIGHUP has no effect: what is shared follows the plugin at once");
                    continue;
                }
            };
            info!(signal = name, "asked to stop: the MPS control daemons end, and their clients");
            return;
        }
    }
}
