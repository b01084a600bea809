//! The resources that are offered to the kubelet.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Gpus;
const ID: &str = "gpus.offered";
const CHECKED: &str = "what the kubelet is offered";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    let offered: Vec<_> = answer.resources.iter().filter(|resource| resource.devices > 0).collect();
    if offered.is_empty() {
        return vec![nothing(&facts.settings.mig_strategy, answer.gpus.is_empty())];
    }
    let list = offered.iter();
    let list = list.map(|of| format!("{}: {} ({} Healthy)", of.name, of.devices, of.healthy));
    let seen = list.collect::<Vec<_>>().join(", ");
    vec![match offered.iter().any(|resource| resource.healthy > 0) {
        true => Finding::ok(GROUP, ID, CHECKED, seen),
        false => Finding::problem(GROUP, ID, CHECKED, seen)
            .why("the kubelet allocates only Healthy devices, and there are none")
            .fix("see the findings about each GPU above"),
    }]
}

fn nothing(mig_strategy: &str, no_gpus: bool) -> Finding {
    Finding::problem(GROUP, ID, CHECKED, "nothing: no device of this node would be offered")
        .why("the node has no allocatable GPU, and `kubectl describe node` shows none or 0")
        .fix(match no_gpus {
            true => "see the findings about the driver and the bus above".to_owned(),
            false => {
                format!("see the findings above, --devices, and --mig-strategy ({mig_strategy})")
            }
        })
}
