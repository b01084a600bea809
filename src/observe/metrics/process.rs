//! The process as Linux sees it, under the metric names of Prometheus's client
//! libraries.

use std::fs;
use std::path::Path;

/// Ticks of processor time in a second, as procfs counts them: 100 on every architecture that this
/// runs on (USER_HZ, include/asm-generic/param.h).
const TICKS: f64 = 100.0;

/// The process as procfs shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ProcessMetrics {
    /// When it began, in seconds since the Unix epoch. The same at each reading, which a difference
    /// of two clocks is not: by its changes restarts are counted.
    pub(crate) start_seconds: f64,
    /// Processor time in seconds, user and system.
    pub(crate) cpu_seconds: f64,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
    /// Virtual memory in bytes.
    pub(crate) virtual_bytes: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Open file descriptors.
    pub(crate) open_fds: u64,
    /// The limit of open file descriptors.
    pub(crate) max_fds: Option<u64>,
}

impl ProcessMetrics {
    /// Reads them from a process's directory in procfs.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "what the kernel's own file system says is there at once"
    )]
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let system = fs::read_to_string(directory.with_file_name("stat")).ok()?;
        let open_fds = fs::read_dir(directory.join("fd")).ok()?.count() as u64;
        let limits = text("limits").unwrap_or_default();
        // The listing itself has one open.
        let open_fds = open_fds.saturating_sub(1);
        Self::parse(&system, &text("stat")?, &text("status")?, &limits, open_fds)
    }

    fn parse(system: &str, stat: &str, status: &str, limits: &str, open_fds: u64) -> Option<Self> {
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: u64 = boot.trim().parse().ok()?;
        // The name in parentheses may contain anything, so the fields are read from the last one on
        // (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let line = |name: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Some(Self {
            // starttime, the 22nd field; the third is the first here.
            start_seconds: boot as f64 + ticks(19)? as f64 / TICKS,
            // utime and stime, the 14th and 15th field.
            cpu_seconds: (ticks(11)? + ticks(12)?) as f64 / TICKS,
            resident_bytes: line("VmRSS")? * 1024,
            virtual_bytes: line("VmSize")? * 1024,
            threads: line("Threads")?,
            open_fds,
            max_fds: max_fds.and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_read() {
        let process = ProcessMetrics::read(Path::new("/proc/self")).unwrap();
        assert!(
            process.resident_bytes > 100_000 && process.virtual_bytes >= process.resident_bytes,
            "{process:?}"
        );
        assert!(process.threads >= 1 && process.open_fds >= 3, "{process:?}");
        assert!(process.max_fds.is_none_or(|most| most >= process.open_fds), "{process:?}");
        let again = ProcessMetrics::read(Path::new("/proc/self")).unwrap();
        assert_eq!(process.start_seconds.to_bits(), again.start_seconds.to_bits());
        assert_eq!(ProcessMetrics::read(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 6 0 100 1000 200";
        let status = "Name:\ta\nVmSize:\t   2000 kB\nVmRSS:\t   1000 kB\nThreads:\t6\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        let system = "cpu  1 2 3\nbtime 1700000000\nprocesses 7\n";
        let process = ProcessMetrics::parse(system, stat, status, limits, 9).unwrap();
        let expected = ProcessMetrics {
            start_seconds: 1_700_000_001.0,
            cpu_seconds: 3.0,
            resident_bytes: 1_024_000,
            virtual_bytes: 2_048_000,
            threads: 6,
            open_fds: 9,
            max_fds: Some(1024),
        };
        assert_eq!(process, expected);
    }
}
