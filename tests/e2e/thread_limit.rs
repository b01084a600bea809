//! A limit of the threads and processes that a running plugin may start, by the kernel's control
//! group of process numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the controller is, in the first and in the second version of control groups.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

/// No thread more, until this is dropped.
pub(crate) struct ThreadLimit {
    group: PathBuf,
    pid: u32,
}

impl ThreadLimit {
    /// `None`: this machine has no such controller, or not for this user.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let groups = ROOTS.iter().map(|root| Path::new(root).join(format!("plugin-{pid}")));
        let made = groups.filter_map(|group| fs::create_dir(&group).ok().map(|()| group));
        for group in made {
            let limit = Self { group, pid };
            let inside = fs::write(limit.group.join("cgroup.procs"), pid.to_string());
            if inside.is_ok() && fs::write(limit.group.join("pids.max"), "0").is_ok() {
                return Some(limit);
            }
        }
        println!("not tested without threads: there is no control group for them");
        None
    }
}

impl Drop for ThreadLimit {
    fn drop(&mut self) {
        // A process that has ended is in none.
        let _ = fs::write(self.group.with_file_name("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
