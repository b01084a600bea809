//! The plugin directory.

use crate::doctor::facts::{DirectoryState, Facts};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.directory";
const CHECKED: &str = "the plugin directory";

/// The longest path of a unix socket, in bytes, and the length of our file names without the
/// resource's part.
const MAX_SOCKET_PATH: usize = 107;
const OUR_NAME: usize = "nvidia-.sock".len() + 9 + 24;

const WHY: &str = "the plugin's sockets are in it, and the kubelet looks for them nowhere else";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let kubelet = &facts.kubelet;
    let path = kubelet.directory.display();
    let too_long = kubelet.directory.as_os_str().len() + 1 + OUR_NAME > MAX_SOCKET_PATH;
    vec![match &kubelet.state {
        DirectoryState::Writable if too_long => problem(format!(
            "{path}: the path is too long for a socket in it ({MAX_SOCKET_PATH} bytes in all)"
        ))
        .fix("use a shorter path; the kubelet's own is /var/lib/kubelet/device-plugins"),
        DirectoryState::Writable => {
            Finding::ok(GROUP, ID, CHECKED, format!("{path} is there and writable"))
        }
        DirectoryState::Missing | DirectoryState::CanBeCreated => {
            problem(format!("{path} is not there")).fix(
                "mount the host's /var/lib/kubelet/device-plugins at this path; on the node the \
                 kubelet creates it when it starts. It is there whatever the kubelet's --root-dir \
                 is",
            )
        }
        DirectoryState::NotADirectory => problem(format!("{path} is no directory"))
            .fix("name the right socket with --kubelet-socket"),
        DirectoryState::Deleted => {
            problem(format!("{path} was deleted on the host under this mount"))
                .why("what is created there afterwards cannot be seen from here")
                .fix("delete the plugin's pod: a new one gets a fresh mount")
        }
        DirectoryState::NotWritable(error) => {
            problem(format!("{path}: nothing can be created in it: {error}")).fix(
                "mount it without readOnly, and run the plugin as root; then look for SELinux or \
                 AppArmor denials",
            )
        }
    }]
}

fn problem(seen: String) -> Finding {
    Finding::problem(GROUP, ID, CHECKED, seen).why(WHY)
}
