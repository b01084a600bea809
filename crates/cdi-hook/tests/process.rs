//! What a run of the program may do, for how long, and what it takes no notice of.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::elf::library;
use support::{Bundle, cache_entries};

/// A run whose standard input nobody ends.
fn hanging(call: &[&str]) -> Child {
    let mut command = Command::new(support::program());
    command.args(call).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A line of each thread's status, once there are as many threads as a hook has.
fn of_threads(run: &Child, key: &str) -> Vec<u64> {
    let began = Instant::now();
    loop {
        let tasks = fs::read_dir(format!("/proc/{}/task", run.id())).unwrap();
        // All of them before the first is read: there are two only once both have what they keep.
        let tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
        let status = |task| fs::read_to_string(Path::join(task, "status")).ok();
        let status: Vec<_> = tasks.iter().filter_map(|task| status(task)).collect();
        let value = |text: &String| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        if status.len() == 2 {
            return status.iter().map(value).collect();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{status:?}");
        thread::yield_now();
    }
}

#[test]
fn a_run_has_no_more_rights_than_its_hook_needs() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
    let own = u64::from_str_radix(own.trim(), 16).unwrap();
    // CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_SYS_ADMIN (capabilities(7)).
    let (files, admin) = (1 << 1 | 1 << 3, 1 << 21);
    for (call, expected) in [
        (&["create-symlinks", "--link", "a::/b"][..], files),
        (&["update-ldcache", "--folder", "/a"], files),
        (&["disable-device-node-modification"], files | admin),
        (&["apply-cuda-memory-limits", "--limit", "0000:01:00.0=1"], 1 << 1),
    ] {
        let mut run = hanging(call);
        for key in ["CapEff:", "CapPrm:"] {
            assert_eq!(of_threads(&run, key), [expected & own; 2], "{call:?} {key}");
        }
        for key in ["CapInh:", "CapAmb:"] {
            assert_eq!(of_threads(&run, key), [0; 2], "{call:?} {key}");
        }
        assert_eq!(of_threads(&run, "NoNewPrivs:"), [1; 2], "{call:?}");
        drop(run.stdin.take());
        assert_eq!(run.wait().unwrap().code(), Some(1));
    }
}

/// As of a disk that hangs.
#[test]
#[ignore = "it takes the minute that a run may take"]
fn a_run_that_hangs_ends_by_itself() {
    let mut run = hanging(&["create-symlinks", "--link", "a::/b"]);
    let open = run.stdin.take();
    let done = run.wait_with_output().unwrap();
    drop(open);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("it has taken more than 60 s"), "{said}");
}

#[test]
fn the_environment_changes_nothing() {
    let (with, without) = (Bundle::new().with_glibc(), Bundle::new().with_glibc());
    let preload = with.outside().join("libpreload.so");
    for image in [&with, &without] {
        image.write("usr/lib/libcuda.so.580.1", library("libcuda.so.1"));
    }
    fs::write(&preload, library("libpreload.so")).unwrap();
    let preload = preload.display().to_string();
    let outside = with.outside().display().to_string();
    let mut environment = vec![
        ("NVIDIA_GPU_MEMORY_LIMIT", "1"),
        ("NVIDIA_CTK_DEBUG", "true"),
        ("PATH", outside.as_str()),
        ("TMPDIR", outside.as_str()),
        ("HOME", "/none"),
    ];
    // The program of a debug build is dynamic, and these are for its loader.
    if support::static_program().is_some() {
        let of_loader = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"];
        environment.extend(of_loader.map(|name| (name, preload.as_str())));
    }
    let call = ["update-ldcache", "--folder", "/usr/lib"];
    let one = with.program_with(&call, &environment);
    let other = without.program(&call);
    assert!(one.status.success() && other.status.success(), "{one:?} {other:?}");
    let cache = |image: &Bundle| fs::read(image.root().join("etc/ld.so.cache")).unwrap();
    assert_eq!(cache_entries(&cache(&with)), cache_entries(&cache(&without)));
}

#[test]
fn the_root_of_the_host_is_refused() {
    let bundle = Bundle::new();
    fs::write(bundle.path().join("config.json"), r#"{"root":{"path":"/"}}"#).unwrap();
    let done = bundle.program(&["create-symlinks", "--link", "a::/none-such/b"]);
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("it is the root of the host"));
    assert!(!Path::new("/none-such").exists());
}
