//! What the subcommands print, and the exit code after it.

use std::io::Write;
use std::process::ExitCode;

/// Prints a text. A reader that stops early, such as `head`, is no error.
pub(super) fn print(text: &str, code: u8) -> ExitCode {
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
pub(super) fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}
