//! What /proc tells of a process.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::time::{ClockId, clock_gettime};

/// Figures of a running process, all read at about the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Threads.
    pub threads: usize,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Those of them that are files or directories, devices not counted.
    pub files: usize,
    /// Resident memory, in KiB (VmRSS).
    pub rss_kib: u64,
    /// The anonymous part of it, in KiB (RssAnon).
    pub anonymous_kib: u64,
    /// How often its threads went to sleep by themselves; those of threads that have ended do not count.
    pub voluntary_switches: u64,
    /// Processor time in user and kernel mode, in clock ticks (100 a second on Linux).
    pub cpu_ticks: u64,
}

/// The time by `CLOCK_MONOTONIC`, which all processes of a machine share.
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part is ever negative.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reads the figures of a process.
pub(super) fn figures(pid: u32) -> io::Result<Figures> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(proc.join("status"))?;
    let tasks = entries(&proc.join("task"))?;
    let switches = |task: &PathBuf| {
        // A thread may end while it is counted.
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        field(&status, "voluntary_ctxt_switches").unwrap_or(0)
    };
    let descriptors = entries(&proc.join("fd"))?;
    Ok(Figures {
        threads: tasks.len(),
        descriptors: descriptors.len(),
        files: descriptors.iter().filter(|descriptor| is_file(descriptor)).count(),
        rss_kib: field(&status, "VmRSS").unwrap_or(0),
        anonymous_kib: field(&status, "RssAnon").unwrap_or(0),
        voluntary_switches: tasks.iter().map(switches).sum(),
        cpu_ticks: cpu_ticks(&fs::read_to_string(proc.join("stat"))?),
    })
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

/// Its link is a path. A descriptor that is closed while it is counted was a file too, open in passing.
fn is_file(descriptor: &Path) -> bool {
    fs::read_link(descriptor).map_or(true, |target| target.is_absolute() && !target.starts_with("/dev"))
}

/// `Name:   number unit` in a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of a stat file. The second field may hold spaces and ends with the last parenthesis.
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
        let _open = fs::File::open("/proc/self/status").expect("this process is running");
        assert!(self::figures(std::process::id()).expect("this process is running").files >= 1);
        assert!(figures.rss_kib >= figures.anonymous_kib && figures.anonymous_kib > 0);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_no_harm() {
        assert_eq!(cpu_ticks("7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), 42);
    }
}
