//! `mps-control-daemon`: supervises the MPS control daemons, in a container of its own.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::args::MpsAction;
use super::output::print_error;
use crate::config::{Config, ConfigSource};
use crate::host::dir_watch::Watches;
use crate::mps::supervisor::{self, SupervisorSettings};
use crate::mps::{DriverPrograms, MpsPaths, program_directories, shm};

/// How long a stop may take, more than what it waits for and less than the 30 s of a pod.
const LONGEST_STOP: Duration = Duration::from_secs(28);

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
    let settings = settings(config);
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start: no asynchronous runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let hangup = signal(SignalKind::hangup())?;
        let stop = super::stop_signal(LONGEST_STOP)?;
        info!(
            version = env!("CARGO_PKG_VERSION"), commit = env!("GIT_COMMIT"),
            status = %settings.paths.status_socket().display(),
            "starting to supervise MPS control daemons"
        );
        tokio::select! {
            () = supervisor::run(settings, stop) => Ok::<_, std::io::Error>(()),
            never = ignore(hangup) => match never {},
        }
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

fn settings(config: &Config) -> SupervisorSettings {
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

/// Logs each SIGHUP, by which NVIDIA's daemon reads its configuration again.
async fn ignore(mut hangup: Signal) -> Infallible {
    loop {
        let _ = hangup.recv().await;
        info!("SIGHUP has no effect: what is shared follows the plugin at once");
    }
}
