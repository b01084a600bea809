//! The kubelet's version.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.version";
const CHECKED: &str = "the kubelet's version";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts.kubelet.version.map(of_version).into_iter().collect()
}

fn of_version((major, minor): (u32, u32)) -> Finding {
    let seen = format!("{major}.{minor}");
    match (major, minor) < (1, 26) {
        true => Finding::problem(GROUP, ID, CHECKED, seen)
            .why(
                "one before 1.26 sends an HTTP/2 header that the plugin's gRPC server refuses, so \
                 it cannot dial back",
            )
            .fix("upgrade the kubelet to 1.26 or later"),
        false => Finding::ok(GROUP, ID, CHECKED, seen),
    }
}
