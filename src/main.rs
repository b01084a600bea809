//! The door: arguments, log, configuration, run, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use gpu_device_plugin::config::args::{Args, LogFormat};
use gpu_device_plugin::config::{Config, HealthEnvironment};
use gpu_device_plugin::daemon;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Threads that serve the kubelet: two, so that one that is held up does not hold up every pod of the node.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too. That they cannot be printed is nothing to act on.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    start_log(&args);
    match serve(&args, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(args: &Args) {
    let registry = tracing_subscriber::registry().with(args.log_level.clone());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}

fn serve(args: &Args, started: Instant) -> anyhow::Result<()> {
    let config = Config::new(args, &HealthEnvironment::of_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        info!(version = env!("CARGO_PKG_VERSION"), commit = env!("GIT_COMMIT"), "starting");
        daemon::run(config, started, stop).await
    });
    // A task that hangs must not hold up the exit: the process ends, and all with it.
    runtime.shutdown_background();
    result
}

/// Comes back at the first signal that asks to stop; a second one aborts the process.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = quit.recv() => "SIGQUIT",
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let name = next().await;
        info!(signal = name, "asked to stop");
        let _ = stop.send(());
        let name = next().await;
        warn!(signal = name, "asked to stop a second time, aborting");
        std::process::abort();
    });
    Ok(async {
        let _ = stopped.await;
    })
}
