//! Causes that the running plugin has for a GPU and that cannot be determined again from outside.

use status::{Gpu, Reason};

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let (Ok(status), Some(answer)) = (&facts.plugin, facts.initialised_driver()) else {
        return Vec::new();
    };
    let known = |reason: &Reason| {
        let mut causes = answer.gpus.iter().flat_map(|gpu| &gpu.causes);
        causes.any(|(cause, _)| *cause == reason.message)
    };
    let reasons = status.gpus.iter().flat_map(|gpu| gpu.reasons.iter().map(move |of| (gpu, of)));
    let unknown = reasons.filter(|(_, reason)| !known(reason));
    unknown.map(|(gpu, reason)| unhealthy(gpu, reason)).collect()
}

fn unhealthy(gpu: &Gpu, reason: &Reason) -> Finding {
    let checked = format!("GPU {}, by the running plugin", gpu.index);
    let seen = format!("Unhealthy since {}: {}", reason.since, reason.message);
    let remedy = reason.remedy.as_deref();
    Finding::problem(Group::Gpus, "gpus.plugin", &checked, seen)
        .why(
            "no new pod gets an Unhealthy GPU; a cause in the hardware is over when there is \
             evidence of a repair",
        )
        .fix(remedy.unwrap_or("`gpu-device-plugin status` and the plugin's log have the details"))
}
