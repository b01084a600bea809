//! What subcommands print. Neither a reader that has gone nor a full disk is a reason to panic.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// The exit code if the output could not be written (EX_IOERR of sysexits.h).
const NOT_WRITTEN: u8 = 74;

/// Prints a text to standard output, and returns `code`. A reader that stops early, such as `head`,
/// is no error, and what was found counts whether it is read or not; any other failure is one.
pub fn print(text: &str, code: u8) -> ExitCode {
    written(io::stdout().lock().write_all(text.as_bytes()), code)
}

/// Prints JSON to standard output as [`print()`] does. Nothing in it can control the terminal.
pub fn print_json(json: String, code: u8) -> ExitCode {
    print(&status::visible_json(json), code)
}

/// The exit code after standard output was written to, with the error printed if there is one.
pub fn written(result: io::Result<()>, code: u8) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            print_error(&format!("cannot write to standard output: {error}"));
            ExitCode::from(NOT_WRITTEN)
        }
        _ => ExitCode::from(code),
    }
}

/// Prints a line to standard error. Where that fails nobody can be told.
pub fn print_error(line: &str) {
    // At once: of two writes the other could be another process's between them.
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
