//! What subcommands do where their output cannot be written.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::rig::eight_h100s;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-device-plugin"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

const PRINTING: [&[&str]; 4] =
    [&["config", "show"], &["config", "reference"], &["--help"], &["--version"]];

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for arguments in PRINTING {
        let output = program(arguments).stdout(closed_pipe()).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_full_disk_is_one_and_is_told() {
    for arguments in PRINTING {
        let output = program(arguments).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{arguments:?}: {output:?}");
        assert!(said.contains("cannot write to standard output: No space left"), "{said}");
    }
}

#[test]
fn a_refusal_keeps_its_exit_code_where_nobody_can_be_told() {
    let node = eight_h100s();
    let file = node.root().join("config.yaml");
    std::fs::write(&file, "version: v1\nflags: {migStrategy: sideways}\n").unwrap();
    let file = file.to_str().unwrap();
    let state = node.state_directory();
    let state = state.to_str().unwrap();
    for (arguments, code) in [
        (&["--mig-strategy=sideways"][..], 64),
        (&["--no-such-flag"], 64),
        (&["config", "check", file], 64),
        (&["config", "show", "--config-file", file], 64),
        (&["clear", "0", "--state-dir", state], 2),
        (&["release", "--state-dir", state], 2),
        (&["status", "--http-address=", "--state-dir", state], 1),
        (&["list-gpus", "/nowhere"], 1),
    ] {
        for stderr in [Stdio::from(closed_pipe()), Stdio::from(full())] {
            let status = program(arguments).stdout(Stdio::null()).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}

#[test]
fn a_verdict_that_nobody_reads_is_the_exit_code_all_the_same() {
    let node = eight_h100s();
    let state = node.state_directory();
    for arguments in [&["check", "gpus"][..], &["doctor"]] {
        let arguments =
            [arguments, &["--http-address=", "--state-dir", state.to_str().unwrap()]].concat();
        let read = program(&arguments).stderr(Stdio::null()).output().unwrap().status.code();
        let unread = program(&arguments).stdout(closed_pipe()).stderr(Stdio::null()).status();
        assert_eq!(unread.unwrap().code(), read, "{arguments:?}");
        let full = program(&arguments).stdout(full()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(full.code(), Some(74), "{arguments:?}");
    }
}
