//! The rest of the node: its distribution, inotify, the clock, and the plugin's own directories.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::doctor::facts::{
    DirectoryState, DistributionFacts, EffectiveSettings, Facts, InotifyFacts, NodeFacts,
};
use crate::doctor::finding::{Check, Finding, Group};

const DISTRIBUTION: Check = Check::new(Group::Node, "node.distribution", "the distribution");
const INOTIFY: Check = Check::new(Group::Node, "node.inotify", "inotify");
const CLOCK: Check = Check::new(Group::Node, "node.clock", "the clock");
const STATE: Check = Check::new(Group::Node, "node.state", "the state directory");
const STATE_FILE: Check = Check::new(Group::Node, "node.state", "the state file");
const QUARANTINE: Check = Check::new(Group::Node, "node.quarantine", "the quarantine directory");

/// With fewer inotify instances left than this the limit is close.
const FEW_LEFT: u64 = 8;
/// 2026-01-01, before this program existed, since the Unix epoch.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// A file may be this much newer than the clock: file systems round, and nodes of a network file
/// system differ.
const TOLERANCE: Duration = Duration::from_secs(60);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let node = &facts.node;
    let mut findings =
        vec![distribution(node, &facts.settings), inotify(&node.inotify), clock(node)];
    if let Some(state) = &node.state {
        let why = "a restart of the plugin forgets causes that cannot be determined again";
        findings.push(own_directory(STATE, state, why, "--state-dir"));
        findings.extend(node.unreadable.as_ref().map(|error| {
            STATE_FILE
                .warning(format!("in {} it cannot be read: {error}", state.0.display()))
                .why("causes from before are not known")
                .fix("nothing: the plugin sets it aside at its next start, and begins a new one")
        }));
    }
    if let Some(quarantine) = &node.quarantine {
        let why = "files that quarantine GPUs cannot be put there";
        findings.push(own_directory(QUARANTINE, quarantine, why, "--quarantine-dir"));
    }
    findings
}

/// Which page of the documents is about this node.
fn distribution(node: &NodeFacts, settings: &EffectiveSettings) -> Finding {
    match &node.distribution {
        DistributionFacts::Known(known, sign) => DISTRIBUTION.ok(format!(
            "{}, since {sign}; {} is about it",
            known.name(),
            known.document()
        )),
        DistributionFacts::Other(id) => {
            DISTRIBUTION.ok(format!("none of those in docs/platforms; os-release has ID={id}"))
        }
        DistributionFacts::NotSeen => DISTRIBUTION
            .unknown(format!("no os-release below {}", settings.host_root.display()))
            .why("which page of docs/platforms is about this node cannot be told")
            .fix("name the place where the host's root is mounted with --host-root"),
    }
}

fn own_directory(
    check: Check<'_>,
    (path, state): &(PathBuf, DirectoryState),
    why: &str,
    flag: &str,
) -> Finding {
    match state.own_directory(path) {
        Ok(seen) => check.ok(seen),
        Err(seen) => check.warning(seen).why(why).fix(format!(
            "mount a directory of the node at /var/lib/gpu-device-plugin, writable, as the \
             manifest does, or name another with {flag} (empty: none)"
        )),
    }
}

/// Whether a watch can be created, and how close the limits are.
fn inotify(inotify: &InotifyFacts) -> Finding {
    let limit = |limit: Option<u64>| limit.map_or("unknown".to_owned(), |limit| limit.to_string());
    let limits = format!(
        "max_user_instances {} ({} in use, as far as can be seen), max_user_watches {}",
        limit(inotify.instances),
        inotify.used,
        limit(inotify.watches)
    );
    let is_close =
        inotify.instances.is_some_and(|most| most.saturating_sub(inotify.used) < FEW_LEFT);
    let finding = match &inotify.refused {
        Some(error) => INOTIFY.warning(format!("no watch can be had: {error}; {limits}")).why(
            "the plugin then polls once a second, and notices a kubelet's restart that much later; \
             other programs fail",
        ),
        None if is_close => INOTIFY
            .warning(format!("the limit is close: {limits}"))
            .why("the next program that wants a watch gets none"),
        None => return INOTIFY.ok(limits),
    };
    finding.fix(
        "sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288 on the \
         node, and the same lines in a file of /etc/sysctl.d",
    )
}

fn clock(node: &NodeFacts) -> Finding {
    let since_epoch = node.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ahead = node.newest.as_ref().and_then(|(file, changed)| {
        let ahead = changed.duration_since(node.now).ok().filter(|ahead| *ahead > TOLERANCE)?;
        Some((file.display(), ahead.as_secs()))
    });
    let seen = match ahead {
        _ if since_epoch < EARLIEST => {
            format!("it shows {} s since 1970, which was before 2026", since_epoch.as_secs())
        }
        Some((file, seconds)) => format!("it is {seconds} s behind the last change of {file}"),
        None => return CLOCK.ok("not before 2026, nor before the last file change"),
    };
    CLOCK
        .problem(seen)
        .why(
            "the kubelet's certificates are not valid at a wrong time, so that the node is \
             NotReady; and times in logs and status are wrong",
        )
        .fix("set the node's clock: timedatectl set-ntp true, or chronyc makestep")
}
