//! The command line and the subcommands that do not serve.

pub mod args;
mod cdi;
mod check;
mod cleanup;
mod command;
mod completions;
mod config;
mod doctor;
mod invocation;
mod list_gpus;
mod migrate;
mod mps;
mod output;
mod request;
mod status;
mod stop_signal;
mod terminal;
mod xid;

pub use cdi::cdi;
pub use check::check;
pub use cleanup::{CleanupArgs, cleanup};
pub use command::{command, version};
pub use completions::completions;
pub use config::config;
pub use doctor::doctor;
pub use invocation::{Invocation, log_of_process, subcommand_of_name};
pub use list_gpus::list_gpus;
pub use migrate::migrate;
pub use mps::mps_control_daemon;
pub use output::{print, print_error, print_json, written};
pub use request::{clear, release, take_up};
pub use status::status;
pub use stop_signal::stop_signal;
pub use terminal::log_has_colours;
pub use xid::xid;

/// The exit code after a mistake in the command line or the configuration (EX_USAGE of
/// sysexits.h).
pub const USAGE: u8 = 64;

/// Runs to the end, without waiting for a blocking call that does not return.
fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}
