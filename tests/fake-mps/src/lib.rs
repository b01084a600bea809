//! NVIDIA's `nvidia-cuda-mps-control`, and of `nvidia-smi` the compute mode, without a GPU.
//!
//! It is strict where the real one would do something else in silence: a directory that is missing,
//! a device that is not there, a command of another protocol. Source: "Multi-Process Service",
//! docs.nvidia.com/deploy/mps, sections 4 (commands) and 5 (environment); the lines of control.log
//! are those that users show in NVIDIA/k8s-device-plugin #1094 and #647.
//!
//! A file, [`Behaviour`], says which GPUs there are and what fails. It is read again for each
//! command, so that a test can change it. Beside it, `trace` has a line for every start of a
//! program and every command, in their order.

mod behaviour;
mod client;
mod command;
mod control;
mod daemon;
mod smi;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

pub use behaviour::{Behaviour, Fault, Gpu};
pub use client::{CudaClient, Granted};

/// The variable that names the file with the [`Behaviour`].
pub const BEHAVIOUR: &str = "FAKE_MPS";

/// A program as it was started.
pub struct Invocation<'a> {
    /// The last part of its name: `nvidia-cuda-mps-control` or `nvidia-smi`.
    pub name: String,
    /// The words after it.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Its standard input.
    pub input: Box<dyn Read + 'a>,
    /// Its standard output.
    pub output: Box<dyn Write + 'a>,
    /// Its standard error.
    pub error: Box<dyn Write + 'a>,
}

/// Runs the program to its end and returns its exit code.
pub fn run(mut program: Invocation<'_>) -> i32 {
    let Some(file) = program.environment.get(BEHAVIOUR).map(PathBuf::from) else {
        let _ = writeln!(program.error, "{BEHAVIOUR} names no file");
        return 2;
    };
    match program.name.as_str() {
        "nvidia-smi" => smi::run(&file, program),
        "nvidia-cuda-mps-control" => match program.arguments.as_slice() {
            [] => client::run(&file, program),
            _ => daemon::run(&file, program),
        },
        other => {
            let _ = writeln!(program.error, "{other} is no program of this fake");
            2
        }
    }
}
