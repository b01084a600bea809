//! Whether the container runtime supports CDI.

use super::strategies::{need_cdi, readable_runtimes};
use crate::doctor::facts::{ContainerRuntime, Facts};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.cdi";
const CHECKED: &str = "CDI in the container runtime";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match need_cdi(&facts.settings.strategies) {
        true => readable_runtimes(facts).map(of_runtime).collect(),
        false => Vec::new(),
    }
}

fn of_runtime(runtime: &ContainerRuntime) -> Finding {
    let name = runtime.name;
    match runtime.cdi {
        Some(true) => Finding::ok(GROUP, ID, CHECKED, format!("{name} supports CDI")),
        Some(false) => off(name),
        None => Finding::warning(
            GROUP,
            ID,
            CHECKED,
            format!("{name} has no setting for it, and its version decides"),
        )
        .why("containerd has it on by default from 2.0 on, and off before")
        .fix(
            "nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl restart \
             containerd",
        ),
    }
}

fn off(name: &str) -> Finding {
    Finding::problem(GROUP, ID, CHECKED, format!("CDI is off in {name}"))
        .why("it ignores the CDI names that the plugin gives, and containers see no GPU")
        .fix(match name {
            "docker" => {
                "nvidia-ctk runtime configure --runtime=docker --cdi.enabled && systemctl restart \
                 docker"
            }
            _ => {
                "set enable_cdi = true in the table of the CRI plugin and restart the runtime: \
                 nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl \
                 restart containerd"
            }
        })
}
