//! Whether the kubelet supports CDI names from plugins: since 1.28, behind a feature gate that is
//! on from 1.29 on (KEP-4009).

use device::injection::DeviceListStrategy;

use super::strategies::runtimes_in_use;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.kubelet";
const CHECKED: &str = "CDI names in the kubelet's API";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let strategies = &facts.settings.strategies;
    let needed = strategies.contains(&DeviceListStrategy::CdiCri);
    if !needed || runtimes_in_use(facts).is_empty() {
        return Vec::new();
    }
    let old = facts.kubelet.version.filter(|version| *version < (1, 29));
    old.map(|version| too_old(version, strategies.len() == 1)).into_iter().collect()
}

/// It is a problem where no other strategy hands devices over.
fn too_old((major, minor): (u32, u32), alone: bool) -> Finding {
    let seen = format!("the kubelet is {major}.{minor}");
    let finding = match alone {
        true => Finding::problem(GROUP, ID, CHECKED, seen),
        false => Finding::warning(GROUP, ID, CHECKED, seen),
    };
    finding
        .why(
            "a kubelet before 1.29 ignores the CDI names of the strategy cdi-cri, unless its \
             feature gate is on",
        )
        .fix(
            "use cdi-annotations, upgrade the kubelet, or turn on its feature gate \
             DevicePluginCDIDevices (1.28)",
        )
}
