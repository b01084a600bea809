//! Whether the running plugin reports that it is ready.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.ready";
const CHECKED: &str = "the running plugin's status";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.plugin {
        Err(error) => Finding::ok(GROUP, ID, CHECKED, format!("not available: {error}")),
        Ok(status) if status.plugin.ready => {
            let names = status.resources.iter().map(|resource| resource.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Finding::ok(GROUP, ID, CHECKED, format!("ready: {names}"))
        }
        Ok(status) => not_ready(&status.plugin.not_ready),
    }]
}

fn not_ready(reasons: &[String]) -> Finding {
    Finding::problem(GROUP, ID, CHECKED, format!("not ready: {}", reasons.join("; ")))
        .why("what is not registered with the kubelet, or not watched by it, is not allocatable")
        .fix(
            "see the findings above; `gpu-device-plugin status -o wide` and the plugin's log have \
             the details",
        )
}
