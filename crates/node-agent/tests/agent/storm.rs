//! What becomes an Event, and how often, by a clock that the test moves.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::in_process::{agent, pass, settle, stop_clock};
use crate::rig::{Rig, h200};

const XIDS: u64 = 1_000_000;
const GPUS: u64 = 16;
/// For how long they come.
const SECONDS: u64 = 200;

/// A node with 16 GPUs, of which each has had so many Xids and the first ones are Unhealthy.
fn status(xids: u64, sick: u64) -> Value {
    let mut status = h200();
    let first = status["gpus"][0].clone();
    let gpu = |index: u64| {
        let mut gpu = first.clone();
        (gpu["index"], gpu["uuid"]) = (index.into(), format!("GPU-{index}").into());
        gpu["xids"] = json!([{"xid": 13, "count": xids}]);
        if index < sick {
            gpu["healthy"] = false.into();
            gpu["reasons"] = json!([{
                "kind": "xid", "xid": 79, "message": "Xid 79", "since": "2026-11-28T00:00:00Z",
            }]);
        }
        gpu
    };
    status["gpus"] = (0..GPUS).map(gpu).collect();
    status
}

/// How often something was written by a manager, or as an Event.
fn writes(rig: &Rig, resource: &str) -> u64 {
    let received = rig.api.received().into_iter();
    let wrote = |call: &fake_apiserver::Received| {
        call.resource == resource && matches!(call.verb, "create" | "patch") && call.code < 300
    };
    received.filter(wrote).count() as u64
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_million_xids_on_16_gpus_are_an_event_a_second_and_the_condition_moves_by_changes() {
    let _clock = stop_clock();
    let rig = Rig::with(crate::rig::RIGHTS, status(0, 0)).await;
    let _agent = agent(&rig, &["--events", "--node-condition"]);
    settle(&rig).await;
    let began = Instant::now();
    for second in 1..=SECONDS {
        // One GPU after the other fails.
        rig.plugin.set(status(XIDS / GPUS * second / SECONDS, GPUS * second / SECONDS));
        pass(&rig, Duration::from_secs(1)).await;
        let written = writes(&rig, "events");
        assert!(written <= began.elapsed().as_secs() + 1, "{written} in {second} s");
    }
    for _ in 0..120 {
        pass(&rig, Duration::from_secs(1)).await;
    }
    let conditions = writes(&rig, "nodes/status");
    assert!((2..=GPUS + 1).contains(&conditions), "{conditions} writes of the condition");
    let events = rig.api.events();
    let count = |event: &Value| event["series"]["count"].as_u64().unwrap_or(1);
    let xids = events.iter().filter(|event| event["reason"] == "XidError");
    assert_eq!(xids.map(count).sum::<u64>(), XIDS);
    let sick = events.iter().filter(|event| event["reason"] == "GPUUnhealthy");
    assert_eq!(sick.count() as u64, GPUS);
    println!(
        "{} Events in {} writes, {conditions} of the condition",
        events.len(),
        writes(&rig, "events")
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_reason_becomes_a_valid_event_of_its_type() {
    let _clock = stop_clock();
    let since = "2026-11-28T00:00:00Z";
    let cause = |kind: &str| json!({"kind": kind, "message": kind, "since": since});
    let gpu = |key: &str, value: Value| {
        let mut status = h200();
        status["gpus"][0][key] = value;
        status
    };
    let mut unregistered = h200();
    unregistered["resources"][0]["kubelet"]["registered"] = false.into();
    let mut down = h200();
    (down["nvml"]["state"], down["nvml"]["fault"]) = ("down".into(), cause("driver_not_loaded"));
    let mut refused = h200();
    refused["configuration"]["lastReload"] = json!({"at": since, "refused": "line 3"});
    let steps = [
        gpu("reasons", json!([cause("xid")])),
        gpu("reasons", json!([cause("lost")])),
        gpu("reasons", json!([cause("external")])),
        gpu("degradations", json!([cause("row_remap_pending")])),
        gpu("xids", json!([{"xid": 13, "count": 1}])),
        down,
        unregistered,
        refused,
    ];
    let rig = Rig::new().await;
    let _agent = agent(&rig, &["--events"]);
    settle(&rig).await;
    for status in steps {
        for status in [status, h200()] {
            rig.plugin.set(status);
            settle(&rig).await;
        }
    }
    for _ in 0..30 {
        pass(&rig, Duration::from_secs(1)).await;
    }
    let events = rig.api.events();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let line = |event: &Value| text(event, "type") + " " + &text(event, "reason");
    let told: BTreeSet<String> = events.iter().map(line).collect();
    let expected = [
        "Normal DriverUp",
        "Normal GPURecovered",
        "Normal QuarantineCleared",
        "Normal QuarantineSet",
        "Warning ConfigRefused",
        "Warning DriverDown",
        "Warning GPUDegraded",
        "Warning GPUMissing",
        "Warning GPUUnhealthy",
        "Warning KubeletRegistrationLost",
        "Warning XidError",
    ];
    assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(rig.api.received().iter().find(|call| call.code >= 400), None);
}
