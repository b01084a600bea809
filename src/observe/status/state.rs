//! The part of a status that somebody waits for: health, holders, configuration, registration and
//! findings, without counters and without the clock.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::time::SystemTime;

use serde::Serialize;
use status::{
    Configuration, Device, Finding, Gpu, GpuStageCounts, LastReload, Nvml, Reason, Registration,
    Resource, Sharing, Status, Timestamp,
};

/// The state, as it is compared.
#[derive(Serialize)]
struct State<'a> {
    nvml: Nvml,
    configuration: Configuration,
    resources: Vec<ResourceState<'a>>,
    gpus: Vec<Gpu>,
    gpu_counts: &'a GpuStageCounts,
    findings: &'a [Finding],
    holders_known: bool,
}

#[derive(Serialize)]
struct ResourceState<'a> {
    name: &'a str,
    kubelet: Registration,
    sharing: &'a Option<Sharing>,
    devices: &'a [Device],
}

/// A number that differs, but for a chance of one in 2^64, when the state of two statuses does.
///
/// It means nothing to another process.
pub(in crate::observe) fn digest(status: &Status) -> u64 {
    // Every field is named, so that a new one is either compared or left out on purpose.
    let Status {
        schema_version: _,
        generated_at: _,
        // The sentence and the problems follow from the rest.
        node: _,
        summary: _,
        problems: _,
        plugin: _,
        nvml,
        configuration,
        resources,
        gpus,
        gpu_counts,
        findings,
        events: _,
        holders_known,
    } = status;
    let state = State {
        nvml: nvml_state(nvml),
        configuration: configuration_state(configuration),
        resources: resources.iter().map(resource_state).collect(),
        gpus: gpus.iter().map(gpu_state).collect(),
        gpu_counts,
        findings,
        holders_known: *holders_known,
    };
    let mut hashed = Hashed::default();
    // Neither the writer nor the types can fail.
    let _ = serde_json::to_writer(&mut hashed, &state);
    hashed.0.finish()
}

fn nvml_state(nvml: &Nvml) -> Nvml {
    Nvml {
        fault: nvml.fault.as_ref().map(undated),
        released_until: nvml.released_until.map(|_| EPOCH),
        unanswered_calls: 0,
        ..nvml.clone()
    }
}

fn configuration_state(configuration: &Configuration) -> Configuration {
    let last_reload = configuration.last_reload.as_ref();
    Configuration {
        // One that is refused again for the same reason is no change.
        reloads_refused: 0,
        last_reload: last_reload.map(|last| LastReload { at: EPOCH, ..last.clone() }),
        ..configuration.clone()
    }
}

fn resource_state(resource: &Resource) -> ResourceState<'_> {
    // How many devices are healthy or held follows from the devices.
    let Resource { name, kubelet, sharing, healthy: _, offered: _, allocated: _, devices } =
        resource;
    let kubelet = Registration { since: None, streams: 0, registrations: 0, ..kubelet.clone() };
    ResourceState { name, kubelet, sharing, devices }
}

fn gpu_state(gpu: &Gpu) -> Gpu {
    Gpu {
        reasons: gpu.reasons.iter().map(undated).collect(),
        degradations: gpu.degradations.iter().map(undated).collect(),
        xids: Vec::new(),
        other_xids: 0,
        became_unhealthy: 0,
        became_healthy: 0,
        last_event: None,
        ..gpu.clone()
    }
}

/// Times of the past are computed from the system clock each time, so that they move with it.
fn undated(reason: &Reason) -> Reason {
    Reason { since: EPOCH, ..reason.clone() }
}

const EPOCH: Timestamp = Timestamp::of(SystemTime::UNIX_EPOCH);

/// Hashes what is written.
#[derive(Default)]
struct Hashed(DefaultHasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use device::testing::node;
    use status::{EventKind, Holder, XidCount};

    use super::*;
    use crate::observe::event_log::EventLog;
    use crate::observe::tests::{status_of, xid};

    type Change = fn(&mut Status);

    fn of_a_sick_gpu() -> Status {
        let (mut inventory, event_log) = (node(2), EventLog::default());
        xid(&mut inventory, &event_log, 1, 79, 40);
        let mut status = status_of(&inventory, &event_log);
        let refused = Some("line 3: what is that".to_owned());
        status.configuration.last_reload = Some(LastReload { at: EPOCH, refused });
        status.nvml.fault = status.gpus[1].reasons.first().cloned();
        status
    }

    #[test]
    fn it_moves_by_what_is_so_and_not_by_counters_or_the_clock() {
        let later = Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        assert_eq!(digest(&of_a_sick_gpu()), digest(&of_a_sick_gpu()));
        let still: [Change; 6] = [
            |status| {
                status.plugin.uptime_seconds += 1.0;
                status.plugin.not_ready.push("for 3 s".to_owned());
            },
            |status| status.gpus[0].xids.push(XidCount { xid: 13, count: 1 }),
            |status| {
                let gpu = &mut status.gpus[1];
                (gpu.other_xids, gpu.became_unhealthy, gpu.became_healthy) = (9, 9, 9);
            },
            |status| status.events.truncate(0),
            |status| {
                let kubelet = &mut status.resources[0].kubelet;
                (kubelet.streams, kubelet.registrations) = (9, 9);
            },
            |status| (status.nvml.unanswered_calls, status.configuration.reloads_refused) = (9, 9),
        ];
        for (number, change) in still.iter().enumerate() {
            let mut status = of_a_sick_gpu();
            change(&mut status);
            assert_eq!(digest(&status), digest(&of_a_sick_gpu()), "{number}");
        }
        let mut status = of_a_sick_gpu();
        status.generated_at = later;
        for gpu in &mut status.gpus {
            gpu.last_event = Some(later);
            gpu.reasons.iter_mut().for_each(|reason| reason.since = later);
        }
        status.resources[0].kubelet.since = Some(later);
        status.nvml.fault.as_mut().unwrap().since = later;
        status.configuration.last_reload.as_mut().unwrap().at = later;
        assert!(status.events.iter().any(|event| event.kind == EventKind::Xid));
        assert_eq!(digest(&status), digest(&of_a_sick_gpu()), "the clock");

        let moves: [Change; 13] = [
            |status| status.gpus[0].healthy = false,
            |status| status.gpus[1].reasons.clear(),
            |status| status.gpus[1].reasons[0].message.push('.'),
            |status| status.gpus[1].index_stale = true,
            |status| status.gpus[1].degradations = status.gpus[1].reasons.clone(),
            |status| status.resources[0].devices[0].healthy = false,
            |status| {
                let text = || "a".to_owned();
                let holder = Holder { namespace: text(), pod: text(), container: text() };
                status.resources[0].devices[0].holders.push(holder);
            },
            |status| status.holders_known = true,
            |status| status.resources[0].kubelet.registered = false,
            |status| status.resources[0].kubelet.problem = Some("no".to_owned()),
            |status| status.configuration.reloads_applied = 1,
            |status| status.configuration.last_reload.as_mut().unwrap().refused = None,
            |status| {
                let (kind, message) = ("left_out".to_owned(), "a".to_owned());
                status.findings.push(Finding { kind, message });
            },
        ];
        for (number, change) in moves.iter().enumerate() {
            let mut status = of_a_sick_gpu();
            change(&mut status);
            assert_ne!(digest(&status), digest(&of_a_sick_gpu()), "{number}");
        }
    }
}
