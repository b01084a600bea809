//! What is left behind: nothing.

use serde_json::json;

use crate::rig::{NODE, NODE_PATH, RIGHTS, Rig, until, xid_79};

const FEATURE: &str =
    "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/default/nodefeatures/nvidia-features-for-node-a";

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
    for number in 0..1_200 {
        rig.api.add_node(&format!("worker-{number}"));
    }
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
