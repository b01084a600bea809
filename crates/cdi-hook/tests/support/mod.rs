//! Containers and libraries for tests and the benchmark.
// Each of them uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod elf;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cdi_hook::{Hook, Host, StateSource, run};

/// A bundle as a runtime makes it, with a directory beside it that no hook may touch.
pub struct Bundle {
    directory: tempfile::TempDir,
}

impl Bundle {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Self { directory };
        fs::create_dir_all(bundle.root()).unwrap();
        fs::create_dir_all(bundle.outside()).unwrap();
        let config = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"}}"#;
        fs::write(bundle.path().join("config.json"), config).unwrap();
        bundle
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// What a runtime writes to the standard input of a hook.
    pub fn state(&self) -> String {
        let (pid, bundle) = (std::process::id(), self.path());
        format!(r#"{{"ociVersion":"1.2.0","id":"test","pid":{pid},"bundle":{bundle:?}}}"#)
    }

    /// Runs a hook in this process.
    pub fn run(&self, hook: &Hook) -> Result<Vec<String>, String> {
        self.run_on(hook, &Host::default())
    }

    pub fn run_on(&self, hook: &Hook, host: &Host) -> Result<Vec<String>, String> {
        let state = self.state();
        run(hook, StateSource::Input, &mut state.as_bytes(), host).map_err(|e| e.to_string())
    }

    /// Runs the program.
    pub fn program(&self, args: &[&str]) -> Output {
        self.program_with(args, &[])
    }

    pub fn program_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let state = self.path().join("state.json");
        fs::write(&state, self.state()).unwrap();
        let mut command = Command::new(program());
        command.args(args).envs(environment.iter().copied()).stdin(fs::File::open(state).unwrap());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// Runs the program with no more than 16 MiB of data, half a minute of processor time
    /// and 64 files. One that takes more is killed, or fails in its own words.
    pub fn bounded_program(&self, args: &[&str]) -> Output {
        let state = self.path().join("state.json");
        fs::write(&state, self.state()).unwrap();
        let mut command = Command::new("prlimit");
        command.args(["--data=16777216", "--cpu=30", "--nofile=64", "--core=0", "--"]);
        command.arg(program()).args(args).stdin(fs::File::open(state).unwrap());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.root(), path, content);
    }

    pub fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.root().join(path)).unwrap()).into_owned()
    }

    /// The loader of glibc, which makes the image one of glibc.
    pub fn with_glibc(self) -> Self {
        self.write("lib64/ld-linux-x86-64.so.2", "a loader");
        self.write("lib/ld-linux-aarch64.so.1", "a loader");
        self
    }
}

/// The static program that is shipped, where somebody has built it.
pub fn static_program() -> Option<PathBuf> {
    std::env::var_os("CDI_HOOK_PROGRAM").map(PathBuf::from)
}

/// The program to run.
pub fn program() -> PathBuf {
    static_program().unwrap_or_else(|| env!("CARGO_BIN_EXE_gpu-cdi-hook").into())
}

pub fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// All that is below a directory, with what a change would change.
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Option<PathBuf>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let facts = (meta.mode(), meta.size(), meta.mtime_nsec(), fs::read_link(&path).ok());
        found.insert(path.clone(), facts);
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// The (name, path) of each entry of a loader's cache.
pub fn cache_entries(bytes: &[u8]) -> Vec<(String, String)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(&bytes[..20], b"glibc-ld.so.cache1.1");
    let text = |at: usize| {
        let end = at + bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8_lossy(&bytes[at..end]).into_owned()
    };
    (0..word(20)).map(|n| (text(word(52 + n * 24)), text(word(56 + n * 24)))).collect()
}
