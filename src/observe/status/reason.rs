//! Why a GPU is Unhealthy or degraded, for the status.

use device::health::{Cause, Degradation, Scope};
use status::{Reason, Timestamp};

/// What makes a GPU, or NVML, Unhealthy.
pub(super) fn of_cause(cause: &Cause, since: Timestamp, remembered: bool) -> Reason {
    let xid = match cause {
        Cause::Xid { xid, .. } => Some(xid.0),
        _ => None,
    };
    let part = match cause.scope() {
        Scope::Gpu => None,
        part => Some(part.to_string()),
    };
    Reason {
        kind: cause.as_str().to_owned(),
        xid,
        message: cause.summary().to_string(),
        remedy: cause.remedy().map(str::to_owned),
        since,
        part,
        remembered,
    }
}

/// What is wrong with a GPU that stays Healthy.
pub(super) fn of_degradation(degradation: Degradation, since: Timestamp) -> Reason {
    Reason {
        kind: degradation.as_str().to_owned(),
        xid: None,
        message: degradation.to_string(),
        remedy: None,
        since,
        part: None,
        remembered: false,
    }
}
