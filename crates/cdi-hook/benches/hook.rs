//! What a call costs: the size of the program, and the time and memory of `update-ldcache` for a
//! container with a driver of 400 libraries. `CDI_HOOK_PROGRAM` names another build of it, such as
//! the static one; `cargo bench -p cdi-hook` prints.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::Bundle;
use support::elf::library;

const LIBRARIES: usize = 400;
const CALLS: usize = 200;
const FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/nvidia"];

fn main() {
    let program = support::program();
    println!("{}: {} bytes", program.display(), fs::metadata(&program).unwrap().len());

    let bundle = Bundle::new().with_glibc();
    for n in 0..LIBRARIES {
        let (name, folder) = (format!("libnvidia-{n}"), FOLDERS[n % 2]);
        // As large as most of the driver's, so that what is read lies in several pages.
        let mut bytes = library(&format!("{name}.so.1"));
        bytes.resize(200_000, 0);
        bundle.write(&format!("{folder}/{name}.so.580.95.05"), bytes);
        bundle.link(&format!("{folder}/{name}.so.1"), format!("{name}.so.580.95.05"));
    }
    let state = bundle.path().join("state.json");
    fs::write(&state, bundle.state()).unwrap();
    let folders = FOLDERS.iter().flat_map(|folder| ["--folder".to_owned(), format!("/{folder}")]);
    let args: Vec<String> = ["update-ldcache".to_owned()].into_iter().chain(folders).collect();
    // A container is new each time.
    let etc = bundle.root().join("etc");
    let renew = || drop(fs::remove_dir_all(&etc));
    report("update-ldcache, 400 libraries", &program, &args, &state, renew);
    report("the same in a container that is started again", &program, &args, &state, || {});
    report("nothing (--version)", &program, &["--version".to_owned()], &state, || {});
    peak(&program, &args, &state);
}

fn report(what: &str, program: &PathBuf, args: &[String], state: &PathBuf, before: impl Fn()) {
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            before();
            let mut command = Command::new(program);
            command.args(args).stdin(fs::File::open(state).unwrap()).stdout(Stdio::null());
            let begun = Instant::now();
            assert!(command.status().unwrap().success());
            begun.elapsed()
        })
        .collect();
    times.sort();
    let at = |percent: usize| times[(CALLS - 1) * percent / 100];
    let (least, median, most) = (at(0), at(50), at(95));
    println!("{what}: least {least:.2?}, median {median:.2?}, 95 % {most:.2?}");
}

/// The most memory that a call had, which GNU time asks the kernel for.
fn peak(program: &PathBuf, args: &[String], state: &PathBuf) {
    let done = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .arg(program)
        .args(args)
        .stdin(fs::File::open(state).unwrap())
        .output();
    match done {
        Ok(done) => println!("most memory: {} KiB", String::from_utf8_lossy(&done.stderr).trim()),
        Err(error) => println!("most memory: /usr/bin/time: {error}"),
    }
}
