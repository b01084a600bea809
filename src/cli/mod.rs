//! The command line and the subcommands that do not serve.

pub mod args;
mod check;
mod clear;
mod command;
mod doctor;
mod invocation;
mod list_gpus;
mod status;

use std::io::Write;
use std::process::ExitCode;

use crate::config::{ConfigSource, Purpose, reference, show};
use args::ConfigAction;
pub use check::check;
pub use clear::clear;
pub use command::command;
pub use doctor::doctor;
pub use invocation::Invocation;
pub use list_gpus::list_gpus;
pub use status::status;

/// The exit code after a mistake in the command line or the configuration (EX_USAGE of
/// sysexits.h).
pub const USAGE: u8 = 64;

/// Checks or prints the configuration, or its documentation.
pub fn config(action: ConfigAction, source: &mut ConfigSource) -> ExitCode {
    let text = match action {
        ConfigAction::Reference => Ok(reference()),
        ConfigAction::Check { .. } => source.check(),
        ConfigAction::Show => source.load(Purpose::Serve).map(|loaded| {
            loaded.warnings().for_each(|warning| eprintln!("{warning}"));
            show(&loaded.config)
        }),
    };
    match text {
        Ok(text) => print(&text, 0),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints a text. A reader that stops early, such as `head`, is no error.
fn print(text: &str, code: u8) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::from(code),
    }
}

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
