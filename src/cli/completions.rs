//! `completions`: prints the commands with which a shell completes command lines.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use super::{command, print};

/// Prints the completions for a shell.
pub fn completions(shell: Shell) -> ExitCode {
    let (mut command, mut text) = (command(), Vec::new());
    let name = command.get_name().to_owned();
    // Into memory, since it panics on an output that cannot be written.
    generate(shell, &mut command, name, &mut text);
    print(&String::from_utf8_lossy(&text), 0)
}
