//! Arguments, log, run, exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use gpu_node_agent::args::{Action, Args, LogFormat};
use gpu_node_agent::{cleanup, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, error, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The command by which NVIDIA's charts start their config manager.
const CONFIG_MANAGER: &str = "config-manager";

fn main() -> ExitCode {
    let args = Args::parse_from(command_line());
    start_log(&args);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start: no asynchronous runtime");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = act(&args) => done,
            signal = stopped() => {
                info!(signal, "stopping; what was written stays");
                Ok(())
            }
        }
    });
    // A write to a file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments. Under the name of NVIDIA's config manager it is that program.
fn command_line() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().and_then(|name| Path::new(name).file_name());
    if name.is_some_and(|name| name == CONFIG_MANAGER) {
        words.insert(1, CONFIG_MANAGER.into());
    }
    words
}

async fn act(args: &Args) -> Result<(), String> {
    match &args.action {
        None => run::run(args, |name| std::env::var_os(name).is_some()).await,
        Some(Action::Labels { timeout }) => {
            let text = run::print_labels(args, *timeout).await?;
            io::stdout().write_all(text.as_bytes()).map_err(|error| format!("printing: {error}"))
        }
        Some(Action::Cleanup(cleanup)) => cleanup::run(args, cleanup).await,
        Some(Action::ConfigManager(manager)) => run::manage_config(args, manager).await,
    }
}

/// Returns when a signal asks to stop, with its name.
async fn stopped() -> &'static str {
    let kinds = [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::quit(), "SIGQUIT"),
    ];
    let [terminate, interrupt, quit] = kinds.map(|(kind, name)| async move {
        match signal(kind) {
            Ok(mut received) => {
                received.recv().await;
                name
            }
            Err(_) => std::future::pending().await,
        }
    });
    tokio::select! { name = terminate => name, name = interrupt => name, name = quit => name }
}

/// Log lines go to standard error: standard output is for labels.
fn start_log(args: &Args) {
    let level = if args.verbose { Level::DEBUG } else { Level::INFO };
    // The client's crates log each failed request themselves, which is told here with its reason.
    let targets =
        Targets::new().with_targets(["gpu_node_agent", "status_stream"].map(|of| (of, level)));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(targets);
    match args.log_format {
        LogFormat::Text => registry.with(lines.with_target(false)).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}
