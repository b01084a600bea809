//! The status of an inventory.

mod one_cause;
pub(crate) mod states;
mod table;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use device::health::{Moment, NodeObservation, Observation as GpuObservation, Scope, Xid};
use device::inventory::{Inventory, InventoryEvent};
use device::names::ResourceName;
use device::testing::{enumeration, gpu, node};
use status::*;

use super::event_log::{Event, EventLog};
use super::status::{StatusInputs, build};
use super::wall_clock::WallClock;

pub(crate) fn nvml() -> Nvml {
    Nvml {
        state: NvmlState::Up,
        fault: None,
        driver_version: Some("570.86.15".to_owned()),
        cuda_version: Some("12.8".to_owned()),
        nvml_version: Some("12.570.86.15".to_owned()),
        unanswered_calls: 0,
        released_until: None,
    }
}

/// The status of an inventory, 100 seconds after the start and at a fixed time of day.
pub(crate) fn status_of(inventory: &Inventory, event_log: &EventLog) -> Status {
    let wall = WallClock::new(at(100), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_784_617));
    let registration = Registration {
        registered: true,
        since: Some(wall.at(at(1))),
        endpoint: Some("nvidia-gpu-abcd1234.sock".to_owned()),
        streams: 1,
        registrations: 1,
        problem: None,
    };
    build(StatusInputs {
        wall,
        version: ("0.1.0", "abcdef"),
        node: Some("node-a"),
        hostname: Some("gpu-device-plugin-x7k2p"),
        machine_type: None,
        not_ready: Vec::new(),
        inventory,
        nvml: nvml(),
        registrations: inventory
            .resources()
            .map(|name| (name.clone(), registration.clone()))
            .collect(),
        holders: None,
        findings: Vec::new(),
        configuration: Configuration::default(),
        events: event_log.events(wall, []),
        last_events: event_log.last_events(wall),
    })
}

pub(crate) fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

/// An Xid on the GPU at this index, applied to the inventory and recorded in the event log.
pub(crate) fn xid(
    inventory: &mut Inventory,
    event_log: &EventLog,
    index: u32,
    xid: u32,
    seconds: u64,
) {
    let observation = GpuObservation::Xid { xid: Xid(xid), scope: Scope::Gpu };
    let observation = InventoryEvent::Health(NodeObservation::Gpu(gpu(index).uuid, observation));
    let changes = inventory.apply(at(seconds), observation);
    event_log.record(at(seconds), &changes, inventory);
}

#[test]
fn a_failed_gpu_has_its_reason_since_when_and_what_to_do() {
    let (mut inventory, event_log) = (node(2), EventLog::default());
    xid(&mut inventory, &event_log, 1, 79, 40);
    let status = status_of(&inventory, &event_log);
    let resource = &status.resources[0];
    assert_eq!(
        (resource.name.as_str(), resource.healthy, resource.devices.len()),
        ("nvidia.com/gpu", 1, 2)
    );
    assert_eq!(resource.devices[1].reasons, ["xid"]);
    let gpu = &status.gpus[1];
    assert!(!gpu.healthy && status.gpus[0].healthy);
    let reason = &gpu.reasons[0];
    assert_eq!((reason.kind.as_str(), reason.xid), ("xid", Some(79)));
    assert_eq!(status.generated_at.since(reason.since), Duration::from_secs(60));
    assert!(reason.remedy.as_deref().is_some_and(|remedy| remedy.contains("reboot the node")));
    assert!(!reason.message.contains("reboot"), "the remedy stands by itself: {}", reason.message);
    assert_eq!(gpu.xids, [XidCount { xid: 79, count: 1 }]);
    assert_eq!((gpu.became_unhealthy, gpu.became_healthy), (1, 0));
    let kinds: Vec<_> = status.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::GpuUnhealthy, EventKind::Xid]);
    assert_eq!(gpu.last_event, Some(status.events[0].at));
}

#[test]
fn the_status_is_read_back_as_it_was_written() {
    let (mut inventory, event_log) = (node(8), EventLog::default());
    xid(&mut inventory, &event_log, 1, 79, 40);
    let status = status_of(&inventory, &event_log);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    assert!(text.starts_with("{\"schemaVersion\":1,"), "{text}");
}

#[test]
fn a_storm_of_xids_is_one_event_and_pushes_nothing_out() {
    let (mut inventory, event_log) = (node(2), EventLog::default());
    xid(&mut inventory, &event_log, 0, 79, 1);
    for second in 2..2_000 {
        xid(&mut inventory, &event_log, 1, 13, second);
    }
    let status = status_of(&inventory, &event_log);
    assert_eq!(status.events.len(), 3, "{:#?}", status.events);
    let storm = &status.events[0];
    assert_eq!((storm.xid, storm.times), (Some(13), 1_998));
    let lasted = storm.first_at.map(|first| storm.at.since(first));
    assert_eq!(lasted, Some(Duration::from_secs(1_997)), "the first and the last time");
    assert_eq!(status.events[1].first_at, None, "it happened once");
}

#[test]
fn the_event_log_is_bounded() {
    let event_log = EventLog::default();
    for n in 0..1_000 {
        event_log.add(Event::new(at(n), EventKind::Finding, format!("finding {n}")));
    }
    let events = event_log.events(WallClock::new(at(1_000), SystemTime::UNIX_EPOCH), []);
    assert_eq!((events.len(), events[0].message.as_str()), (256, "finding 999"));
}

#[test]
fn a_gpu_that_is_gone_is_still_in_the_status() {
    let (mut inventory, event_log) = (node(2), EventLog::default());
    let changes = inventory.apply(at(5), enumeration([0]));
    event_log.record(at(5), &changes, &inventory);
    let status = status_of(&inventory, &event_log);
    assert_eq!(status.gpus.len(), 2);
    assert_eq!(status.gpus[1].reasons[0].kind, "not_enumerated");
    assert_eq!(status.gpus[1].resources, [ResourceName::gpu().to_string()]);
    let _: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
}
