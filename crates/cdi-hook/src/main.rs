//! `gpu-cdi-hook`: what a container runtime calls while it makes a container with an NVIDIA GPU.
//! It runs as root on files that an image brings, so it is one static program that executes
//! nothing, loads nothing and believes no environment; [`cdi_hook`] says what else holds.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use cdi_hook::{Command, Hook, HookError, Host, StateSource, deadline, privileges, run};

/// The longest that a run may take. For 400 libraries it takes some milliseconds, and for the most
/// files that are read, from a disk that is slow, some ten seconds.
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let done = match Command::parse(std::env::args_os()) {
        Ok(Command::Help) => {
            println!("{}", cdi_hook::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("gpu-cdi-hook {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Command::Hook(hook, source)) => in_time(&hook, source),
        Err(error) => Err(error),
    };
    match done {
        Ok(notes) => {
            notes.iter().for_each(|note| eprintln!("gpu-cdi-hook: {note}"));
            ExitCode::SUCCESS
        }
        // The runtime quotes it where it says why the container was not started.
        Err(error) => {
            eprintln!("gpu-cdi-hook: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a hook, for as long as it may take.
fn in_time(hook: &Hook, source: StateSource) -> Result<Vec<String>, HookError> {
    // A thread that is started later has no more.
    privileges::keep(hook.capabilities())?;
    deadline::after(DEADLINE, give_up).map_err(HookError::Thread)?;
    run(hook, source, &mut io::stdin().lock(), &Host::default())
}

/// Ends the process, whose first thread hangs. A call that the kernel does not interrupt can still
/// delay that: no program can help it.
#[allow(clippy::exit, reason = "the first thread does not come back to return from main")]
fn give_up() {
    eprintln!("gpu-cdi-hook: {}", HookError::Late(DEADLINE));
    std::process::exit(1);
}
