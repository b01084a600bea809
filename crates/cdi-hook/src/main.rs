//! `gpu-cdi-hook`: what a container runtime calls while it makes a container with an NVIDIA GPU.
//! It runs as root on files that an image brings, so it is one static program that executes
//! nothing, loads nothing and believes no environment; [`cdi_hook`] says what else holds.

use std::io;
use std::process::ExitCode;

use cdi_hook::{Command, Host, privileges, run};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os()) {
        Ok(Command::Help) => println!("{}", cdi_hook::USAGE),
        Ok(Command::Version) => println!("gpu-cdi-hook {}", env!("CARGO_PKG_VERSION")),
        Ok(Command::Hook(hook, spec)) => {
            let done = privileges::keep(hook.capabilities())
                .and_then(|()| run(&hook, spec, &mut io::stdin().lock(), &Host::default()));
            match done {
                Ok(notes) => notes.iter().for_each(|note| eprintln!("gpu-cdi-hook: {note}")),
                Err(error) => return failed(&error),
            }
        }
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

/// Tells the runtime, which quotes it where it says why the container was not started.
fn failed(error: &cdi_hook::HookError) -> ExitCode {
    eprintln!("gpu-cdi-hook: {error}");
    ExitCode::FAILURE
}
