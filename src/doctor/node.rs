//! The rest of the node: inotify, the clock, and the plugin's own directories.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::facts::{Directory, Facts, Inotify};
use super::finding::{Finding, Group};

const GROUP: Group = Group::Node;
/// Nobody had this program before: 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// A file may be this much newer than the clock: file systems round, and nodes of a network file
/// system differ.
const TOLERANCE: Duration = Duration::from_secs(60);
/// From here on a limit is close.
const FEW_LEFT: u64 = 8;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let node = &facts.node;
    let mut findings = vec![inotify(&node.inotify), clock(node.now, node.newest.as_ref())];
    if let Some((path, state)) = &node.state {
        findings.push(directory("node.state", "the state directory", path, state).unwrap_or_else(
            |finding| {
                finding.why("a restart of the plugin forgets what GPUs went through").fix(STATE)
            },
        ));
    }
    if let (Some(error), Some((path, _))) = (&node.unreadable, &node.state) {
        let seen = format!("in {} it cannot be read: {error}", path.display());
        findings.push(
            Finding::warning(GROUP, "node.state", "the state file", seen)
                .why("what GPUs went through before is not known")
                .fix("nothing: the plugin sets it aside at its next start, and begins a new one"),
        );
    }
    if let Some((path, state)) = &node.quarantine {
        findings.push(
            directory("node.quarantine", "the quarantine directory", path, state).unwrap_or_else(
                |finding| {
                    finding.why("files that speak against GPUs cannot be put there").fix(STATE)
                },
            ),
        );
    }
    findings
}

const STATE: &str = "mount a directory of the node at /var/lib/gpu-device-plugin, writable, as the \
    manifest does, or name others with --state-dir and --quarantine-dir (empty: none)";

fn inotify(inotify: &Inotify) -> Finding {
    const ID: &str = "node.inotify";
    const CHECKED: &str = "inotify";
    const FIX: &str = "sysctl -w fs.inotify.max_user_instances=8192 \
        fs.inotify.max_user_watches=524288 on the node, and the same lines in a file of \
        /etc/sysctl.d";
    let Inotify { refused, instances, watches, used } = inotify;
    let limit =
        |limit: &Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
    let limits = format!(
        "max_user_instances {} ({used} in use, as far as can be seen), max_user_watches {}",
        limit(instances),
        limit(watches)
    );
    if let Some(error) = refused {
        return Finding::warning(
            GROUP,
            ID,
            CHECKED,
            format!("no watch can be had: {error}; {limits}"),
        )
        .why(
            "the plugin then looks once a second, and sees a kubelet's restart that much later; \
                others just fail",
        )
        .fix(FIX);
    }
    if instances.is_some_and(|instances| instances.saturating_sub(*used) < FEW_LEFT) {
        return Finding::warning(GROUP, ID, CHECKED, format!("the limit is close: {limits}"))
            .why("the next program that wants a watch gets none")
            .fix(FIX);
    }
    Finding::ok(GROUP, ID, CHECKED, limits)
}

fn clock(now: SystemTime, newest: Option<&(impl AsRef<Path>, SystemTime)>) -> Finding {
    const ID: &str = "node.clock";
    const CHECKED: &str = "the clock";
    const FIX: &str = "set the node's clock: timedatectl set-ntp true, or chronyc makestep";
    const WHY: &str = "the kubelet's certificates are not valid at a wrong time, so that the node \
        is NotReady; and nothing that is told of the GPUs has the right time";
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if seconds < EARLIEST {
        let seen = format!("it shows {} s since 1970, which was before 2026", seconds.as_secs());
        return Finding::problem(GROUP, ID, CHECKED, seen).why(WHY).fix(FIX);
    }
    if let Some((file, changed)) = newest
        && let Ok(ahead) = changed.duration_since(now)
        && ahead > TOLERANCE
    {
        let seen = format!(
            "it is {} s behind the last change of {}",
            ahead.as_secs(),
            file.as_ref().display()
        );
        return Finding::problem(GROUP, ID, CHECKED, seen).why(WHY).fix(FIX);
    }
    Finding::ok(GROUP, ID, CHECKED, "not before anything that has happened")
}

/// The error is a finding that still wants its reason.
fn directory(
    id: &'static str,
    checked: &str,
    path: &Path,
    state: &Directory,
) -> Result<Finding, Finding> {
    let path = path.display();
    let bad = |seen: String| Err(Finding::warning(GROUP, id, checked, seen));
    match state {
        Directory::Writable => Ok(Finding::ok(GROUP, id, checked, format!("{path} is writable"))),
        Directory::WouldBeMade => {
            Ok(Finding::ok(GROUP, id, checked, format!("{path} is not there and can be made")))
        }
        Directory::Missing => bad(format!("{path} is not there and cannot be made")),
        Directory::NotADirectory => bad(format!("{path} is no directory")),
        Directory::Deleted => bad(format!("{path} was deleted on the host under this mount")),
        Directory::NotWritable(error) => bad(format!("{path}: nothing can be written: {error}")),
    }
}
