//! The podresources socket, which tells which pod holds which device.

use std::path::Path;

use crate::doctor::facts::{Facts, SocketProbe};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.podresources";
const CHECKED: &str = "the podresources socket";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let probed = facts.kubelet.pod_resources.iter();
    probed.map(|(path, probe)| of_probe(path, probe)).collect()
}

fn of_probe(path: &Path, probe: &SocketProbe) -> Finding {
    let Some(seen) = probe.problem(path) else {
        return Finding::ok(GROUP, ID, CHECKED, format!("{} answers", path.display()));
    };
    Finding::warning(GROUP, ID, CHECKED, seen)
        .why("metrics and status do not say which pod holds which GPU; allocation does not need it")
        .fix(
            "mount the host's /var/lib/kubelet/pod-resources (it is in the kubelet's --root-dir), \
             or set --pod-resources-socket to empty",
        )
}
