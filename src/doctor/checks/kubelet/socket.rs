//! The kubelet's registration socket.

use std::path::Path;

use crate::doctor::facts::{Facts, SocketProbe};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.socket";
const CHECKED: &str = "the kubelet's registration socket";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.kubelet.socket {
        Some((path, probe)) => of_probe(path, probe),
        None => Finding::warning(
            GROUP,
            ID,
            CHECKED,
            "the plugin is configured never to register (--kubelet-socket is empty)",
        )
        .why("a kubelet without the plugin's registration offers no GPUs")
        .fix("leave --kubelet-socket out, or name the socket"),
    }]
}

fn of_probe(path: &Path, probe: &SocketProbe) -> Finding {
    let Some(seen) = probe.problem(path) else {
        return Finding::ok(GROUP, ID, CHECKED, format!("{} answers", path.display()));
    };
    let fix = match probe {
        SocketProbe::TimedOut => {
            "the kubelet hangs or is overloaded: look at its log (journalctl -u kubelet)"
        }
        _ => {
            "is the kubelet running (systemctl status kubelet), and is its own directory the one \
             that is seen here?"
        }
    };
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("the plugin registers there; until it has, the node has no GPUs to allocate")
        .fix(fix)
}
