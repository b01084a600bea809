//! Subcommands that ask nobody: `config`, `version`, `completions`, and the help of all.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the program with this on its standard input, in an empty environment.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-device-plugin"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read it is done before.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

const GOOD: &str = "version: v1\nflags: {migStrategy: mixed}\n";
const WARNED: &str = "version: v1\nflags: {renameByDefault: true}\n";
const BAD: &str = "version: v1\nflags: {migStrategy: sideways}\n";

#[test]
fn config_check_takes_several_files_and_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, warned, bad) =
        (file("good.yaml", GOOD), file("warned.yaml", WARNED), file("bad.yaml", BAD));
    for (arguments, code, texts) in [
        (vec![&*good], 0, vec!["good.yaml: no mistakes"]),
        (vec![&good, &warned], 0, vec!["good.yaml: no mistakes", "under sharing.timeSlicing"]),
        (vec!["--strict", &good, &warned], 64, vec!["1 warning"]),
        (vec!["--strict", &good], 0, vec!["no mistakes"]),
        (vec![&good, &bad, "-"], 64, vec!["bad.yaml:2: flags.migStrategy", "-: no mistakes"]),
        (vec!["/no/such/file", &good], 64, vec!["cannot be read", "good.yaml: no mistakes"]),
    ] {
        let output = run(&[&["config", "check"], &arguments[..]].concat(), GOOD);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?}: {text} is not in {said}");
        }
    }
    let output = run(&["config", "check", "-o", "json", &good, &bad, "-"], WARNED);
    let document: serde_json::Value = serde_json::from_str(&text(&output)).unwrap();
    let all = document["configurations"].as_array().unwrap();
    let valid: Vec<_> = all.iter().map(|one| one["valid"].as_bool().unwrap()).collect();
    assert_eq!((valid, &document["valid"]), (vec![true, false, true], &false.into()));
    assert_eq!(all[1]["mistakes"][0]["line"], 2);
    assert_eq!(all[2]["file"], "-");
}

/// NVIDIA's plugin takes all of these.
#[test]
fn config_check_takes_an_empty_version_an_empty_first_document_and_odd_times() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    for text in [
        "version: \"\"\n",
        "---\n---\nversion: v1\n",
        "version: v1\nflags: {gfd: {sleepInterval: 6e10}}\n",
        "version: v1\nflags: {gfd: {sleepInterval: -1s}}\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let output = run(&["config", "check", path.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(0), "{text}: {output:?}");
    }
}

#[test]
fn a_file_whose_aliases_mean_much_more_than_it_has_is_refused_in_little_memory() {
    const LIMITED: &str = "ulimit -v 400000 && exec \"$0\" config check \"$1\"";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let (long, aliases) = ("x".repeat(500_000), "*a, ".repeat(1000));
    std::fs::write(&path, format!("version: v1\na: &a {long}\nb: [{aliases}]\n")).unwrap();
    let binary = env!("CARGO_BIN_EXE_gpu-device-plugin");
    let output = Command::new("sh").args(["-c", LIMITED, binary]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

#[test]
fn what_config_show_prints_passes_config_check() {
    for arguments in [&["config", "show"][..], &["config", "show", "--defaults"]] {
        let shown = text(&run(arguments, ""));
        let checked = run(&["config", "check", "-"], &shown);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    }
    let every_key = text(&run(&["config", "show", "--defaults"], ""));
    assert!(every_key.contains("failRequestsGreaterThanOne"), "{every_key}");
}

#[test]
fn version_and_completions_are_printed() {
    let version = text(&run(&["version"], ""));
    assert_eq!(version, text(&run(&["--version"], "")));
    assert!(version.starts_with("gpu-device-plugin ") && version.contains("commit: "));
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(&["completions", shell], ""));
        assert!(script.contains("take-up") && script.contains("state-dir"), "{shell}");
    }
    // What the script for bash offers is what bash takes.
    let script = tempfile::NamedTempFile::new().unwrap();
    // It is longer than an argument may be.
    std::fs::write(script.path(), text(&run(&["completions", "bash"], ""))).unwrap();
    let checked = Command::new("bash").arg("-n").arg(script.path()).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_flag_that_the_help_of_a_subcommand_leaves_out_is_taken_all_the_same() {
    for arguments in [
        &["config", "show", "--mig-strategy=mixed"][..],
        &["--mig-strategy=mixed", "config", "show"],
        &["config", "--mig-strategy=mixed", "show"],
        &["--mig-strategy=none", "config", "show", "--mig-strategy=mixed"],
    ] {
        let shown = text(&run(arguments, ""));
        assert!(shown.contains("migStrategy: mixed"), "{arguments:?}: {shown}");
    }
}
