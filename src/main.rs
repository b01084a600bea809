//! Arguments, configuration, log, run, exit code.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Subcommand;
use gpu_device_plugin::cli::args::Action;
use gpu_device_plugin::cli::{self, Invocation, USAGE};
use gpu_device_plugin::config::{Config, ConfigError, ConfigSource, Loaded};
use gpu_device_plugin::daemon;
use gpu_device_plugin::observe::log::{LogConfig, LogFormat, LogGuard};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// How long a stop may take, more than the sum of what it waits for. Only a thread that is stuck
/// takes longer.
const LONGEST_STOP: Duration = Duration::from_millis(1900);

fn main() -> ExitCode {
    let started = Instant::now();
    // Where it fails, so does the daemon, which says why.
    let runtime = is_for_daemon().then(runtime_of_daemon).and_then(Result::ok);
    match on_scratch_thread(dispatch) {
        Ok((loaded, source)) => serve(loaded, source, started, runtime),
        Err(code) => code,
    }
}

/// The runtime of the daemon. From now on a signal with a meaning for the daemon does not end it
/// before it listens for it: whoever starts it cannot know when that is.
fn runtime_of_daemon() -> std::io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
        // The handler stays, and what it notes goes to the next that listens.
        drop(signal(kind)?);
    }
    drop(context);
    Ok(runtime)
}

/// Whether no word of the command line is a subcommand.
fn is_for_daemon() -> bool {
    let mut words = std::env::args_os();
    let name = words.next();
    let is_subcommand = |word: OsString| word.to_str().is_some_and(Action::has_subcommand);
    cli::subcommand_of_name(name.as_ref()).is_empty() && !words.any(is_subcommand)
}

/// Runs it on a thread that ends with it, for the sake of memory: what a stack has once touched
/// stays resident, and parsing a command line needs more of it than all that comes later.
fn on_scratch_thread<T: Send>(what: fn() -> T) -> T {
    thread::scope(|scope| {
        match thread::Builder::new().spawn_scoped(scope, what).map(ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // Without another thread it needs more memory, and that is all.
            Err(_) => what(),
        }
    })
}

/// The configuration to serve by; or the exit code of another subcommand, or after a mistake.
fn dispatch() -> Result<(Loaded, ConfigSource), ExitCode> {
    let mut invocation = Invocation::of_process().map_err(|error| {
        // Help and version are such errors too.
        if !error.use_stderr() {
            return cli::written(error.print(), 0);
        }
        refuse_command_line(&error);
        ExitCode::from(USAGE)
    })?;
    if !matches!(
        invocation.action,
        Action::Serve
            | Action::Config(_)
            | Action::ListGpus { .. }
            | Action::Migrate { .. }
            | Action::MpsControlDaemon { .. }
            | Action::Xid { .. }
            | Action::Completions { .. }
            | Action::Version
    ) {
        invocation.add_flags_of_daemon();
    }
    let mut source = ConfigSource::new(invocation.sources);
    Err(match invocation.action {
        Action::Serve => match source.load() {
            Ok(loaded) => return Ok((loaded, source)),
            Err(error) => {
                refuse(&error, &source.load_lossy().0.process.log);
                ExitCode::from(USAGE)
            }
        },
        Action::Config(action) => cli::config(action, &mut source),
        Action::Status { output, exit_code } => cli::status(output, exit_code, &mut source),
        Action::Check(args) => cli::check(args, &mut source),
        Action::Clear { gpu, cause } => cli::clear(gpu, cause, &mut source),
        Action::Release { seconds } => cli::release(seconds, &mut source),
        Action::TakeUp => cli::take_up(&mut source),
        Action::Doctor(args) => {
            let arguments = std::env::args_os().skip(1).collect();
            cli::doctor(args, &mut source, arguments)
        }
        Action::Cdi(action) => cli::cdi(action, &mut source),
        Action::Cleanup(args) => cli::cleanup(args, &mut source),
        Action::MpsControlDaemon { action } => cli::mps_control_daemon(action, &mut source),
        Action::Xid { number, markdown } => cli::xid(number, markdown),
        Action::Migrate { files } => cli::migrate(&files),
        Action::Completions { shell } => cli::completions(shell),
        Action::Version => cli::print(&cli::version(), 0),
        Action::ListGpus { driver_root, library } => cli::list_gpus(&driver_root, library),
    })
}

/// Says why the configuration is refused: to a person at a terminal in lines, else as the log is
/// written.
fn refuse(error: &ConfigError, log: &LogConfig) {
    let (count, mistakes) = (error.0.mistake_count(), error.0.mistakes_in_line());
    match log_of_refusal(log) {
        Some(_log) => error!(
            count,
            mistakes,
            "the configuration was refused and nothing of it is in force; `gpu-device-plugin \
             config check FILE` checks a file and starts nothing"
        ),
        None => cli::print_error(&error.to_string()),
    }
}

/// Says why the command line is refused, in the same way; of a subcommand always to a person.
fn refuse_command_line(error: &clap::Error) {
    let log = if is_for_daemon() { log_of_refusal(&cli::log_of_process()) } else { None };
    match log {
        Some(_log) => {
            let error = error.to_string();
            let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
            let why = lines.collect::<Vec<_>>().join(" | ");
            error!(why, "the command line was refused");
        }
        None => drop(error.print()),
    }
}

/// The log for a refusal; `None`: it is to be printed.
fn log_of_refusal(log: &LogConfig) -> Option<LogGuard> {
    if log.format == LogFormat::Text && std::io::stderr().is_terminal() {
        return None;
    }
    log.start(cli::log_has_colours()).ok()
}

fn serve(
    loaded: Loaded,
    source: ConfigSource,
    started: Instant,
    runtime: Option<Runtime>,
) -> ExitCode {
    // Dropped last: it waits for a moment until the last lines are read.
    let _log = match loaded.config.process.log.start(cli::log_has_colours()) {
        Ok(log) => log,
        Err(error) => {
            cli::print_error(&format!(
                "cannot start the thread that writes the log: {error}; see the pids limit of the \
                 container"
            ));
            return ExitCode::FAILURE;
        }
    };
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
    match run(loaded.config, source, started, runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    config: Config,
    source: ConfigSource,
    started: Instant,
    runtime: Option<Runtime>,
) -> anyhow::Result<()> {
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => runtime_of_daemon().context("starting the runtime")?,
    };
    let result = runtime.block_on(async {
        let stop = cli::stop_signal(LONGEST_STOP).context("waiting for signals")?;
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("GIT_COMMIT"));
        info!(version, commit, node = config.process.node_name.as_deref(), "starting");
        daemon::run(config, source, started, stop).await
    });
    // A task that hangs must not hold up the exit: the process ends, and all with it.
    runtime.shutdown_background();
    result
}
