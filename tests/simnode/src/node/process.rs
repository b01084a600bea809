//! What /proc tells of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Figures of a running process, all read at about the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Threads.
    pub threads: usize,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Those of them that are files or directories which it has opened itself, devices not counted,
    /// those of a simulated node neither.
    pub files: usize,
    /// The device nodes of GPUs and of their driver that it has open, by name.
    pub gpu_devices: BTreeSet<String>,
    /// Address space, in KiB (VmSize).
    pub virtual_kib: u64,
    /// The numbers of the signals that it handles.
    pub handles: BTreeSet<u32>,
    /// Resident memory, in KiB (VmRSS).
    pub rss_kib: u64,
    /// The anonymous part of it, in KiB (RssAnon).
    pub anonymous_kib: u64,
    /// How often its threads went to sleep by themselves; those of threads that have ended do not
    /// count.
    pub voluntary_switches: u64,
    /// The same by the name of the thread.
    pub switches_by_thread: BTreeMap<String, u64>,
    /// Processor time in user and kernel mode, in clock ticks (100 a second on Linux).
    pub cpu_ticks: u64,
    /// The same to the nanosecond, of the threads that there are (proc-schedstat in the kernel's
    /// documentation).
    pub processor_time: Duration,
}

/// The time by `CLOCK_MONOTONIC`, which all processes of a machine share.
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part is ever negative.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Kills every process that was started with this variable in its environment, until there is none:
/// such as a daemon that outlives whoever started it.
pub fn kill_all_with(name: &str, value: &Path) {
    let entry = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
    let has_entry = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid()));
        environment.is_ok_and(|of| of.split(|byte| *byte == 0).any(|of| of == entry))
    };
    loop {
        let found: Vec<Pid> = processes().filter(has_entry).collect();
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// All processes but this one.
fn processes() -> impl Iterator<Item = Pid> {
    let names = entries(Path::new("/proc")).unwrap_or_default().into_iter();
    let pids = names.filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?));
    pids.filter(|pid| *pid != getpid())
}

/// Reads the figures of a process.
pub(super) fn figures(pid: u32) -> io::Result<Figures> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(proc.join("status"))?;
    let tasks = entries(&proc.join("task"))?;
    let mut switches_by_thread = BTreeMap::<String, u64>::new();
    let mut nanoseconds = 0;
    for task in &tasks {
        // A thread may end while it is counted.
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let name =
            status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
        *switches_by_thread.entry(name.to_owned()).or_default() +=
            field(&status, "voluntary_ctxt_switches").unwrap_or(0);
        let times = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let time = times.split_whitespace().next().and_then(|time| time.parse::<u64>().ok());
        nanoseconds += time.unwrap_or(0);
    }
    let descriptors = entries(&proc.join("fd"))?;
    // What this process was started with, the lock file of whoever runs the tests, say, its
    // children have too.
    let inherited: Vec<PathBuf> =
        entries(Path::new("/proc/self/fd"))?.iter().filter_map(|fd| file(fd).ok()?).collect();
    let own = |descriptor: &&PathBuf| match file(descriptor) {
        Ok(path) => path.is_some_and(|path| !inherited.contains(&path)),
        // Closed while it was counted: it was open in passing.
        Err(_) => true,
    };
    Ok(Figures {
        threads: tasks.len(),
        descriptors: descriptors.len(),
        files: descriptors.iter().filter(own).count(),
        gpu_devices: descriptors.iter().filter_map(|fd| gpu_device(fd)).collect(),
        virtual_kib: field(&status, "VmSize").unwrap_or(0),
        handles: handled(&status),
        rss_kib: field(&status, "VmRSS").unwrap_or(0),
        anonymous_kib: field(&status, "RssAnon").unwrap_or(0),
        voluntary_switches: switches_by_thread.values().sum(),
        switches_by_thread,
        cpu_ticks: cpu_ticks(&fs::read_to_string(proc.join("stat"))?),
        processor_time: Duration::from_nanos(nanoseconds),
    })
}

/// The virtual memory of a process, in bytes.
pub(super) fn virtual_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "VmSize").unwrap_or(0) * 1024)
}

/// The memory of one file's mappings, or of those that are of no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Resident, in KiB.
    pub rss_kib: u64,
    /// The anonymous part of it, in KiB: of a file, the pages that were written to.
    pub anonymous_kib: u64,
}

/// The memory of a process by the name of the mapped file; the heap, stacks and the rest under the
/// empty name.
pub(super) fn mapped(pid: u32) -> io::Result<BTreeMap<String, Mapped>> {
    Ok(by_file(&fs::read_to_string(format!("/proc/{pid}/smaps"))?))
}

fn by_file(smaps: &str) -> BTreeMap<String, Mapped> {
    let mut files = BTreeMap::<String, Mapped>::new();
    let mut current = String::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            // Addresses, permissions, offset, device, inode, and the path, if there is one.
            let path = words.nth(4).filter(|path| path.starts_with('/')).unwrap_or_default();
            current = path.rsplit('/').next().unwrap_or_default().to_owned();
            continue;
        }
        let kib = words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        match first {
            "Rss:" => files.entry(current.clone()).or_default().rss_kib += kib,
            "Anonymous:" => files.entry(current.clone()).or_default().anonymous_kib += kib,
            _ => {}
        }
    }
    files
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

/// The path of the file or directory that a descriptor is of; None for devices, sockets and the
/// like, and for the state directory, which the plugin keeps open: that is its lock.
fn file(descriptor: &Path) -> io::Result<Option<PathBuf>> {
    let target = fs::read_link(descriptor)?;
    let is_file = target.is_absolute() && !target.starts_with("/dev");
    let is_lock = target.ends_with("state");
    Ok(Some(target).filter(|target| is_file && !is_lock && device_name(target).is_none()))
}

/// The name of the NVIDIA device node that a descriptor is of.
fn gpu_device(descriptor: &Path) -> Option<String> {
    device_name(&fs::read_link(descriptor).ok()?)
}

/// A real node's devices are in `/dev`, those of a simulated one in a directory of that name.
fn device_name(path: &Path) -> Option<String> {
    let (directory, name) = (path.parent()?, path.file_name()?.to_str()?);
    (directory.ends_with("dev") && name.starts_with("nvidia")).then(|| name.to_owned())
}

/// `Name:   number unit` in a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The signals of the mask `SigCgt`, of which bit 0 is signal 1.
fn handled(status: &str) -> BTreeSet<u32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|number| mask >> (number - 1) & 1 == 1).collect()
}

/// Fields 14 and 15 of a stat file. The second field may hold spaces and ends with the last
/// parenthesis.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = after_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let figures = figures(std::process::id()).expect("this process is running");
        assert!(figures.threads >= 1 && figures.descriptors >= 3);
        let own = PathBuf::from("/proc/self/fd/0");
        assert_eq!(
            file(&own).expect("it is open"),
            fs::read_link(own).ok().filter(|path| path.is_file())
        );
        assert!(figures.rss_kib >= figures.anonymous_kib && figures.anonymous_kib > 0);
    }

    #[test]
    fn what_was_started_with_a_variable_is_killed_and_nothing_else() {
        use std::os::unix::process::ExitStatusExt;
        let start = |value: &Path| {
            let mut command = std::process::Command::new("sleep");
            command.arg("1000").env("OF_NODE", value).spawn().expect("it can be started")
        };
        let node = tempfile::tempdir().expect("a directory");
        let (ours, longer) = (node.path(), node.path().join("longer"));
        let (mut first, mut second, mut other) = (start(ours), start(ours), start(&longer));
        kill_all_with("OF_NODE", ours);
        for child in [&mut first, &mut second] {
            assert_eq!(child.wait().expect("it is ours").signal(), Some(9));
        }
        assert_eq!(other.try_wait().expect("it is ours"), None, "it runs");
        other.kill().expect("it runs");
        other.wait().expect("it is ours");
    }

    #[test]
    fn memory_is_added_up_by_file() {
        let smaps = "55e0-55e1 r-xp 00000000 fe:01 7    /usr/bin/plugin\nSize: 8 kB\nRss:  8 \
            kB\nAnonymous:  0 kB\n\
                     55e1-55e2 rw-p 00001000 fe:01 7    /usr/bin/plugin\nRss:  4 kB\nAnonymous:  4 \
                     kB\n\
                     55e3-55e4 rw-p 00000000 00:00 0    [heap]\nRss:  12 kB\nAnonymous:  12 kB\n\
                     7f00-7f01 rw-p 00000000 00:00 0\nRss:  4 kB\nAnonymous:  4 kB\n";
        let expected = [
            (String::new(), Mapped { rss_kib: 16, anonymous_kib: 16 }),
            ("plugin".to_owned(), Mapped { rss_kib: 12, anonymous_kib: 4 }),
        ];
        assert_eq!(by_file(smaps), BTreeMap::from(expected));
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_no_harm() {
        assert_eq!(cpu_ticks("7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), 42);
    }
}
