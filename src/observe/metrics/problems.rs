//! Problems: what is wrong with each GPU and with the driver, since when, and what to do. Alerts
//! and tables of problems show these series.

use std::collections::BTreeMap;

use device::health::CauseKind;
use status::{Reason, Status, Timestamp};

use super::text::Text;

const LABELS: [&str; 6] = ["uuid", "effect", "reason", "xid", "message", "remedy"];

/// What is no failure of a GPU while NVML fails: it cannot answer then, and has to answer again.
const FOLLOWS_FROM_FAULT: [CauseKind; 3] =
    [CauseKind::NotAnswered, CauseKind::NvmlError, CauseKind::NvmlUnresponsive];

/// Most bytes of a message in a label; those of the program are shorter.
const MAX_MESSAGE: usize = 256;

/// One series for each cause and each degradation of a GPU, and one without a UUID for the fault
/// of NVML, which is not repeated for each GPU that it makes Unhealthy.
pub(super) fn problems(text: &mut Text, status: &Status) {
    let mut problems = BTreeMap::<[String; 6], Timestamp>::new();
    let mut add = |uuid: &str, effect: &str, reason: &Reason| {
        let xid = reason.xid.map(|xid| xid.to_string()).unwrap_or_default();
        let remedy = reason.remedy.clone().unwrap_or_default();
        let (kind, message) = (reason.kind.clone(), message(reason));
        let labels = [uuid.to_owned(), effect.to_owned(), kind, xid, message, remedy];
        let since = problems.entry(labels).or_insert(reason.since);
        *since = reason.since.min(*since);
    };
    let fault = status.nvml.fault.as_ref();
    if let Some(fault) = fault {
        add("", "unhealthy", fault);
    }
    for gpu in &status.gpus {
        let own = |reason: &&Reason| fault.is_none_or(|fault| is_own(reason, fault));
        gpu.reasons.iter().filter(own).for_each(|reason| add(&gpu.uuid, "unhealthy", reason));
        gpu.degradations.iter().for_each(|reason| add(&gpu.uuid, "degraded", reason));
    }
    let help = "What makes a GPU Unhealthy or degraded, and why NVML is down, by since when.";
    let mut family = text.gauge("gpu_device_plugin_problem_since_timestamp_seconds", help);
    for (values, since) in problems {
        let labels = std::array::from_fn::<_, 6, _>(|n| (LABELS[n], &*values[n]));
        family.add(&labels, since.unix_seconds());
    }
}

/// Whether a cause of a GPU is not that NVML fails.
fn is_own(reason: &Reason, fault: &Reason) -> bool {
    let follows = FOLLOWS_FROM_FAULT.iter().any(|kind| kind.as_str() == reason.kind);
    reason.kind != fault.kind && !follows
}

/// The message of a reason. The text of a quarantine is another program's, which may change it as
/// often as it likes: it is left out, so that the number of series stays bounded.
fn message(reason: &Reason) -> String {
    if reason.kind == CauseKind::Quarantined.as_str() {
        return "quarantined from outside".to_owned();
    }
    let fits = |end: &usize| *end <= MAX_MESSAGE;
    let ends = reason.message.char_indices().map(|(at, c)| at + c.len_utf8());
    reason.message[..ends.take_while(fits).last().unwrap_or(0)].to_owned()
}
