//! Whether the clock is wrong.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Node;
const ID: &str = "node.clock";
const CHECKED: &str = "the clock";

/// 2026-01-01, before this program existed, since the Unix epoch.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// A file may be this much newer than the clock: file systems round, and nodes of a network file
/// system differ.
const TOLERANCE: Duration = Duration::from_secs(60);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![of_time(facts.node.now, facts.node.newest.as_ref())]
}

fn of_time(now: SystemTime, newest: Option<&(PathBuf, SystemTime)>) -> Finding {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if seconds < EARLIEST {
        return wrong(format!(
            "it shows {} s since 1970, which was before 2026",
            seconds.as_secs()
        ));
    }
    match newest.map(|(file, changed)| (file, changed.duration_since(now))) {
        Some((file, Ok(ahead))) if ahead > TOLERANCE => wrong(format!(
            "it is {} s behind the last change of {}",
            ahead.as_secs(),
            file.display()
        )),
        _ => Finding::ok(GROUP, ID, CHECKED, "not before 2026, nor before the last file change"),
    }
}

fn wrong(seen: String) -> Finding {
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why(
            "the kubelet's certificates are not valid at a wrong time, so that the node is \
             NotReady; and times in logs and status are wrong",
        )
        .fix("set the node's clock: timedatectl set-ntp true, or chronyc makestep")
}
