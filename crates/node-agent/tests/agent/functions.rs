//! The condition and the Events.

use serde_json::Value;

use crate::in_process::start;
use crate::rig::{NODE, NODE_PATH, Rig, h200, until, xid_79};

#[tokio::test(flavor = "local")]
async fn the_condition_is_true_with_its_reason_while_a_gpu_is_sick_and_taken_back() {
    let rig = Rig::new().await;
    let running = start(&rig, &["--node-condition", "--sleep-interval=1s"]);
    let healthy = rig.until_condition("False", "GPUsHealthy").await;
    assert_eq!(healthy["message"], "1 of 1 GPUs are Healthy");
    rig.plugin.set(xid_79());
    let sick = rig.until_condition("True", "GPUUnhealthy").await;
    let message = "1 of 1 GPUs are Unhealthy: GPU 0: Xid 79 (GPU has fallen off the bus)";
    assert_eq!(sick["message"], message);
    assert!(rig.api.condition(NODE, "Ready").is_some(), "those of others stay");
    // A restart is no transition, and no write.
    drop(running);
    let writes = rig.api.writes(NODE_PATH);
    let running = start(&rig, &["--node-condition", "--sleep-interval=1s"]);
    until("it has looked again", || {
        let looks = rig.api.received().iter().filter(|call| call.verb == "get").count();
        if looks >= 4 { Ok(()) } else { Err(looks.to_string()) }
    })
    .await;
    let again = rig.until_condition("True", "GPUUnhealthy").await;
    assert_eq!(again["lastTransitionTime"], sick["lastTransitionTime"]);
    assert!(rig.api.writes(NODE_PATH) <= writes + 1);
    rig.plugin.set(h200());
    rig.until_condition("False", "GPUsHealthy").await;
    drop(running);
}

/// Reason and note of each Event, sorted.
fn told(events: &[Value]) -> Vec<String> {
    let line = |event: &Value| {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        format!("{} {}: {}", text("type"), text("reason"), text("note"))
    };
    let mut told: Vec<String> = events.iter().map(line).collect();
    told.sort();
    told
}

#[tokio::test]
async fn events_tell_what_happened_once_and_a_second_apart() {
    let rig = Rig::new().await;
    let _agent = rig.agent(&["--events"]);
    let expected = [
        "Normal GPURecovered: GPU 0: it is Healthy again",
        "Warning GPUUnhealthy: GPU 0: Xid 79 (GPU has fallen off the bus); restart the node",
        "Warning XidError: GPU 0: Xid 79",
    ];
    for status in [h200(), xid_79(), h200()] {
        rig.plugin.set(status);
        rig.plugin.until_read().await;
    }
    let events = until("the recovery", || {
        let events = rig.api.events();
        if told(&events) == expected { Ok(events) } else { Err(told(&events).join("\n")) }
    })
    .await;
    for event in &events {
        assert_eq!(event["regarding"]["name"], NODE);
        assert_eq!(event["reportingController"], "gpu-node-agent");
        assert_eq!(event["reportingInstance"], "agent-x7k2p");
    }
    let refused: Vec<_> = rig.api.received().into_iter().filter(|call| call.code >= 400).collect();
    assert_eq!(refused, [], "every Event was valid");
    let mut times: Vec<&str> =
        events.iter().map(|event| event["eventTime"].as_str().unwrap()).collect();
    times.sort_unstable();
    let seconds: Vec<f64> = times.iter().map(|time| time[17..26].parse().unwrap()).collect();
    let apart = |two: &[f64]| (two[1] - two[0]).rem_euclid(60.0) >= 0.99;
    assert!(seconds.windows(2).all(apart), "{times:?}");
}

/// The keys of the node's taints.
fn taints(rig: &Rig) -> Vec<String> {
    let node = rig.api.object(NODE_PATH).unwrap();
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.map(|taint| taint["key"].as_str().unwrap().to_owned()).collect()
}

async fn until_tainted(rig: &Rig, expected: &[&str]) {
    until("the taints", || match taints(rig) {
        taints if taints == expected => Ok(()),
        taints => Err(format!("{taints:?}")),
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_node_without_a_gpu_that_works_is_tainted_beside_the_taints_of_others() {
    let rig = Rig::new().await;
    let others = serde_json::json!([{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]);
    let spec = serde_json::json!({"spec": {"taints": others}});
    rig.api.apply_as("admin", NODE_PATH, &spec);
    let running = start(&rig, &["--node-taint", "--sleep-interval=1s"]);
    rig.plugin.set(xid_79());
    until_tainted(&rig, &["nvidia.com/gpu", "nvidia.com/gpu-unhealthy"]).await;
    // Somebody else writes the list, and the write of the agent meets another version.
    rig.api.apply_as("admin", NODE_PATH, &spec);
    until_tainted(&rig, &["nvidia.com/gpu", "nvidia.com/gpu-unhealthy"]).await;
    rig.plugin.set(h200());
    until_tainted(&rig, &["nvidia.com/gpu"]).await;
    rig.plugin.set(xid_79());
    until_tainted(&rig, &["nvidia.com/gpu", "nvidia.com/gpu-unhealthy"]).await;
    drop(running);
    let (status, lines) = rig.agent(&["cleanup", "--node-taint"]).wait().await;
    assert!(status.success(), "{lines:?}");
    until_tainted(&rig, &["nvidia.com/gpu"]).await;
}

#[tokio::test(flavor = "local")]
async fn the_pods_that_hold_a_sick_gpu_have_an_event_each_in_their_namespace() {
    let rig = Rig::with(&["get pods", "create events", "patch events"], h200()).await;
    rig.api.add_pod("ml", "train-0", "uid-of-train-0");
    let held = |mut status: Value| {
        let gpu = status["gpus"][0]["uuid"].clone();
        status["resources"][0]["devices"] = serde_json::json!([{
            "id": gpu, "uuid": gpu, "index": "0", "gpu": gpu, "healthy": true,
            "holders": [
                {"namespace": "ml", "pod": "train-0", "container": "main"},
                {"namespace": "ml", "pod": "gone", "container": "main"},
                {"namespace": "ml", "pod": "../../nodes/node-a", "container": "main"},
            ],
        }]);
        status
    };
    let _running = start(&rig, &["--pod-events"]);
    for status in [held(h200()), held(xid_79())] {
        rig.plugin.set(status);
        rig.plugin.until_read().await;
    }
    let events = until("both Events", || match rig.api.events() {
        events if events.len() == 2 => Ok(events),
        events => Err(told(&events).join("\n")),
    })
    .await;
    for event in &events {
        let regarding = &event["regarding"];
        assert_eq!(event["metadata"]["namespace"], "ml");
        assert_eq!((&regarding["kind"], &regarding["name"]), (&"Pod".into(), &"train-0".into()));
        assert_eq!(regarding["uid"], "uid-of-train-0");
    }
    let outside = |call: &fake_apiserver::Received| !matches!(&*call.resource, "pods" | "events");
    assert_eq!(rig.api.received().into_iter().find(outside), None);
}
