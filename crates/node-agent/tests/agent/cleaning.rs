//! What is left behind: nothing.

use fake_apiserver::Received;
use serde_json::{Value, json};

use crate::rig::{Agent, NODE, NODE_PATH, RIGHTS, Rig, until, xid_79};

/// All that writes to the Node.
const ALL: &[&str] = &["--labels=node", "--node-condition", "--node-summary", "--node-taint"];
const PRESENT: &str = "nvidia.com/gpu.present";

const FEATURE: &str =
    "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/default/nodefeatures/nvidia-gpu-features-for-node-a";

#[tokio::test]
async fn cleanup_removes_what_the_agent_wrote_and_nothing_else() {
    let rig = Rig::with(RIGHTS, xid_79()).await;
    let before = rig.api.object(NODE_PATH).unwrap();
    rig.api.apply_as(
        "other",
        NODE_PATH,
        &json!({"metadata": {"labels": {"nvidia.com/gpu.count": "1"}}}),
    );
    let agent = rig.agent(&["--labels=node", "--node-condition", "--node-summary"]);
    rig.until_condition("True", "GPUUnhealthy").await;
    until("the labels", || match rig.api.labels(NODE, "nvidia.com/").len() {
        labels if labels > 20 => Ok(()),
        labels => Err(labels.to_string()),
    })
    .await;
    until("the summary", || match rig.api.annotation(NODE, "nvidia.com/gpu.summary") {
        Some(text) if text.contains("\"healthy\":0") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    agent.stop().await;
    assert!(rig.agent(&["--use-node-feature-api", "--oneshot"]).wait().await.0.success());
    let file = rig.path("gfd");
    std::fs::write(&file, "").unwrap();
    let clean = ["cleanup", "--labels=file", "--output-file", file.to_str().unwrap()];
    let (status, lines) = rig.agent(&clean).wait().await;
    assert_eq!(status.code(), Some(1), "without the right to delete: {lines:?}");
    rig.api.grant(&["delete nodefeatures"]);
    let (status, lines) = rig.agent(&clean).wait().await;
    assert!(status.success(), "{lines:?}");
    assert_eq!(rig.api.labels(NODE, "nvidia.com/").len(), 1, "what another owns stays");
    rig.api.apply_as("other", NODE_PATH, &json!({"metadata": {"labels": {}}}));
    let after = rig.api.object(NODE_PATH).unwrap();
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    assert_eq!(after["status"], before["status"]);
    assert_eq!(rig.api.annotation(NODE, "nvidia.com/gpu.summary"), None);
    assert_eq!(rig.api.object(FEATURE), None);
    assert!(!file.exists());
    assert!(rig.agent(&clean).wait().await.0.success(), "once more there is nothing to do");
}

#[tokio::test]
async fn cleanup_of_the_cluster_touches_only_nodes_with_something_of_ours() {
    let rig = Rig::new().await;
    rig.api.add_nodes((0..1_200).map(|number| format!("worker-{number}")));
    assert!(rig.agent(&["--labels=node", "--oneshot"]).wait().await.0.success());
    rig.api.apply_as("gfd", FEATURE, &json!({"spec": {"labels": {"a": "b"}}}));
    rig.api.grant(&["list nodes", "delete nodefeatures"]);
    let calls = rig.api.received().len();
    let (status, lines) = rig.agent(&["cleanup", "--all-nodes"]).wait().await;
    assert!(status.success(), "{lines:?}");
    assert!(rig.api.labels(NODE, "nvidia.com/").is_empty());
    assert!(rig.api.object(FEATURE).is_some(), "that of another program stays");
    let calls = rig.api.received().split_off(calls);
    assert_eq!(calls.iter().filter(|call| call.verb == "list").count(), 3);
    assert!(calls.len() <= 8, "{calls:?}");
}

/// A node on which all functions have written, beside others.
async fn written(rights: &[&str]) -> Rig {
    let rig = Rig::with(rights, xid_79()).await;
    let others = json!({
        "metadata": {"labels": {"nvidia.com/other": "1"}, "annotations": {"nvidia.com/other": "1"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
    });
    rig.api.apply_as("other", NODE_PATH, &others);
    let agent = rig.agent(ALL);
    until_there(&rig, [true; 4]).await;
    agent.stop().await;
    rig
}

/// Whether labels, condition, summary and taint are there.
fn there(rig: &Rig) -> [bool; 4] {
    let node = rig.api.object(NODE_PATH).unwrap();
    let taints = node["spec"]["taints"].as_array().unwrap();
    [
        rig.api.labels(NODE, "nvidia.com/gpu.").len() > 1,
        rig.api.condition(NODE, "GPUUnhealthy").is_some(),
        rig.api.annotation(NODE, "nvidia.com/gpu.summary").is_some(),
        taints.iter().any(|taint| taint["key"] == "nvidia.com/gpu-unhealthy"),
    ]
}

async fn until_there(rig: &Rig, expected: [bool; 4]) {
    until("labels, condition, summary and taint", || match there(rig) {
        there if there == expected => Ok(()),
        there => Err(format!("{there:?}")),
    })
    .await;
    let node = rig.api.object(NODE_PATH).unwrap();
    let other = |of: &Value| of["key"] == "nvidia.com/gpu";
    assert!(node["spec"]["taints"].as_array().unwrap().iter().any(other), "{node:#}");
    assert_eq!(node["metadata"]["annotations"]["nvidia.com/other"], "1");
    assert_eq!(node["metadata"]["labels"]["nvidia.com/other"], "1");
    assert!(rig.api.condition(NODE, "Ready").is_some());
}

/// What was written since so many requests.
fn writes_since(rig: &Rig, calls: usize) -> Vec<Received> {
    let all = rig.api.received().split_off(calls);
    all.into_iter().filter(|call| call.verb != "get").collect()
}

/// Starts the agent, and waits until it has read the Node and written its labels.
async fn restarted(rig: &Rig) -> (Agent, usize) {
    let calls = rig.api.calls();
    let agent = rig.agent(&["--labels=node", "--no-timestamp"]);
    until("a read and a write", || {
        let received = rig.api.received().split_off(calls);
        let has = |verb: &str| received.iter().any(|call| call.verb == verb);
        if has("get") && has("patch") { Ok(()) } else { Err(format!("{received:?}")) }
    })
    .await;
    (agent, calls)
}

#[tokio::test]
async fn what_a_function_wrote_goes_when_it_is_turned_off_and_nothing_is_written_after_that() {
    let rig = written(RIGHTS).await;
    let (agent, _) = restarted(&rig).await;
    until_there(&rig, [true, false, false, false]).await;
    agent.stop().await;
    let (agent, calls) = restarted(&rig).await;
    agent.stop().await;
    let writes = writes_since(&rig, calls);
    assert!(writes.iter().all(|call| call.manager == "gpu-node-agent-labels"), "{writes:?}");
    until_there(&rig, [true, false, false, false]).await;
}

#[tokio::test]
async fn of_labels_that_are_turned_off_that_one_stays_by_which_the_plugin_has_its_node() {
    let rig = written(RIGHTS).await;
    let agent = rig.agent(&["--node-condition"]);
    until_there(&rig, [false, true, false, false]).await;
    assert_eq!(rig.api.labels(NODE, "nvidia.com/gpu").into_keys().collect::<Vec<_>>(), [PRESENT]);
    agent.stop().await;
    let calls = rig.api.calls();
    let (status, lines) = rig.agent(&["cleanup", "--functions=labels"]).wait().await;
    assert!(status.success(), "{lines:?}");
    assert_eq!(writes_since(&rig, calls).len(), 1);
    assert_eq!(rig.api.labels(NODE, PRESENT).len(), 1);
    rig.api.grant(&["list nodes"]);
    let calls = rig.api.calls();
    let all = ["cleanup", "--all-nodes", "--functions=labels,summary"];
    assert!(rig.agent(&all).wait().await.0.success());
    assert_eq!(writes_since(&rig, calls).len(), 1, "the list alone: nothing is there");
    assert!(rig.agent(&["cleanup"]).wait().await.0.success());
    assert_eq!(rig.api.labels(NODE, PRESENT).len(), 0, "with the agent all goes");
}

#[tokio::test]
async fn without_its_right_what_a_function_wrote_is_left_and_said_and_cleanup_removes_it() {
    let rig = written(RIGHTS).await;
    rig.api.revoke(&["patch nodes/status"]);
    let (agent, _) = restarted(&rig).await;
    agent.logged("the condition: left, since the function is off and its right too").await;
    until_there(&rig, [true, true, false, false]).await;
    agent.stop().await;
    rig.api.grant(&["list nodes", "patch nodes/status"]);
    let calls = rig.api.calls();
    let flags = ["cleanup", "--all-nodes", "--functions=condition,summary"];
    let (status, lines) = rig.agent(&flags).wait().await;
    assert!(status.success(), "{lines:?}");
    until_there(&rig, [true, false, false, false]).await;
    let writes = writes_since(&rig, calls);
    assert_eq!(writes.len(), 2, "the list, and the condition: {writes:?}");
}

#[tokio::test]
async fn a_taint_is_removed_from_all_nodes_by_its_key_whoever_wrote_the_list_last() {
    let rig = written(RIGHTS).await;
    let both = ["nvidia.com/gpu", "nvidia.com/gpu-unhealthy"];
    let both = both.map(|key| json!({"key": key, "effect": "NoSchedule"}));
    let others = json!({"nvidia.com/other": "1"});
    let metadata = json!({"labels": others, "annotations": others});
    rig.api.apply_as("other", NODE_PATH, &json!({"metadata": metadata, "spec": {"taints": both}}));
    rig.api.grant(&["list nodes"]);
    let (status, lines) = rig.agent(&["cleanup", "--all-nodes", "--functions=taint"]).wait().await;
    assert!(!status.success() && lines.concat().contains("--node-taint=KEY"), "{lines:?}");
    let flags = ["cleanup", "--all-nodes", "--functions=taint", "--node-taint"];
    let (status, lines) = rig.agent(&flags).wait().await;
    assert!(status.success(), "{lines:?}");
    until_there(&rig, [true, true, true, false]).await;
}
