//! Labels, by each of the ways out.

use serde_json::json;

use crate::in_process::start;
use crate::rig::{NODE, NODE_PATH, Rig, h200, two_h200s, until, xid_79};

const COUNT: &str = "nvidia.com/gpu.count";
const PRODUCT: &str = "nvidia.com/gpu.product";

/// What GPU feature discovery would have written, and others that are not ours.
fn of_gfd(count: &str) -> serde_json::Value {
    json!({"metadata": {"labels": {COUNT: count, "nvidia.com/gpu.deploy.dcgm": "true"}}})
}

#[tokio::test(flavor = "local")]
async fn the_node_has_the_labels_and_they_move_with_the_status() {
    let rig = Rig::new().await;
    let running = start(&rig, &["--labels", "node", "--no-timestamp", "--sleep-interval", "1s"]);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    assert_eq!(rig.api.labels(NODE, "nvidia.com/")["nvidia.com/gpu.present"], "true");
    assert_eq!(rig.api.labels(NODE, "kubernetes.io/").len(), 1, "those of others stay");
    rig.plugin.set(two_h200s());
    rig.until_labels(COUNT, &[(COUNT, "2")]).await;
    // The driver is being replaced: nothing is known, and everything stays.
    let mut down = h200();
    (down["nvml"]["state"], down["gpus"]) = ("down".into(), json!([]));
    rig.plugin.set(down);
    rig.plugin.set(h200());
    rig.until_labels(COUNT, &[(COUNT, "1")]).await;
    assert_eq!(rig.api.writes(NODE_PATH), 3);
    // Somebody takes one away: it is put back.
    rig.api.apply_as("gpu-node-agent-labels", NODE_PATH, &of_gfd("1"));
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    drop(running);
    let (before, calls) = (rig.api.labels(NODE, ""), rig.api.calls());
    let agent = rig.agent(&["--labels", "node", "--no-timestamp"]);
    until("a request", || match rig.api.calls() {
        now if now > calls => Ok(()),
        now => Err(now.to_string()),
    })
    .await;
    let (status, log) = agent.stop().await;
    assert!(status.success(), "{}", log.join("\n"));
    assert_eq!(rig.api.labels(NODE, ""), before, "they are kept when it ends");
    let agent = rig.agent(&["--labels", "node", "--no-timestamp", "--oneshot"]);
    let writes = rig.api.writes(NODE_PATH);
    assert!(agent.wait().await.0.success());
    assert_eq!(rig.api.writes(NODE_PATH), writes, "a restart changes nothing");
}

#[tokio::test]
async fn what_another_owns_is_left_and_said_and_taken_over_when_the_other_goes() {
    let rig = Rig::new().await;
    let mut labels = of_gfd("7");
    labels["metadata"]["labels"]["nvidia.com/gpu.memory"] = "1".into();
    rig.api.apply_as("nfd-master", NODE_PATH, &labels);
    let agent = rig.agent(&["--labels", "node", "--sleep-interval", "1s"]);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    agent.logged("nvidia.com/gpu.count").await;
    assert!(agent.log().iter().any(|line| line.contains("nfd-master")), "{:?}", agent.log());
    rig.until_labels(COUNT, &[(COUNT, "7")]).await;
    // Node feature discovery is removed, and its labels with it.
    rig.api.apply_as("nfd-master", NODE_PATH, &json!({"metadata": {"labels": {}}}));
    rig.until_labels(COUNT, &[(COUNT, "1")]).await;
    assert!(!rig.api.labels(NODE, "").contains_key("nvidia.com/gpu.deploy.dcgm"));
}

#[tokio::test]
async fn a_node_feature_object_has_them_for_node_feature_discovery() {
    let rig = Rig::new().await;
    let path =
        "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpu/nodefeatures/nvidia-gpu-features-for-node-a";
    let agent = rig.agent(&["--use-node-feature-api", "--namespace=gpu", "--oneshot"]);
    assert!(agent.wait().await.0.success());
    let object = rig.api.object(path).unwrap();
    assert_eq!(object["spec"]["labels"][PRODUCT], "NVIDIA-H200");
    assert_eq!(object["spec"]["labels"]["nvidia.com/gpu.present"], "true");
    assert!(!object["spec"].to_string().contains("elements"), "no GPU unless asked for");
    assert_eq!(object["metadata"]["labels"]["nfd.node.kubernetes.io/node-name"], "node-a");
    assert_eq!(object["kind"], "NodeFeature");
    assert!(rig.api.labels(NODE, "nvidia.com/").is_empty());
}

#[tokio::test(flavor = "local")]
async fn on_request_there_are_more_of_them_and_each_gpu_for_rules() {
    let rig = Rig::new().await;
    let path = crate::nfd::feature("nvidia-gpu-features-for");
    let all = "--extra-labels=healthy-count,sharing,driver-branch,instances";
    let running = start(&rig, &["--labels=nodefeature", "--sleep-interval=1s", all]);
    let seen = async |healthy: &str| {
        until("health", || {
            let object = rig.api.object(&path).unwrap_or_default();
            let labels = &object["spec"]["labels"];
            let gpu = &object["spec"]["features"]["instances"]["nvidia.gpu"]["elements"][0];
            let found = (
                labels["nvidia.com/gpu-node-agent.healthy-count"].clone(),
                gpu["attributes"]["healthy"].clone(),
                gpu["attributes"]["product"].clone(),
            );
            let count = if healthy == "true" { "1" } else { "0" };
            let expected = (count.into(), healthy.into(), "NVIDIA-H200".into());
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    seen("true").await;
    rig.plugin.set(xid_79());
    seen("false").await;
    drop(running);
    // Turned off, they are gone.
    assert!(rig.agent(&["--labels=nodefeature", "--oneshot"]).wait().await.0.success());
    let object = rig.api.object(&path).unwrap();
    assert!(!object["spec"]["labels"].to_string().contains("gpu-node-agent."));
    assert!(!object["spec"].to_string().contains("elements"));
    let (status, lines) =
        rig.agent(&["--labels=node", "--oneshot", "--extra-labels=sharing,instances"]).wait().await;
    assert!(status.success(), "{lines:?}");
    let sharing = "nvidia.com/gpu-node-agent.sharing";
    rig.until_labels("nvidia.com/gpu-node-agent.", &[(sharing, "none")]).await;
    assert!(lines.iter().any(|line| line.contains("--extra-labels=instances")), "{lines:?}");
}

#[tokio::test]
async fn a_file_has_them_and_stays_and_needs_no_api_server() {
    let rig = Rig::with(&[], h200()).await;
    let file = rig.path("gfd");
    let to = file.to_str().unwrap();
    let agent = rig.agent(&["--labels=file", "--output-file", to, "--sleep-interval=1s"]);
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    let is_there = || match read() {
        text if text.contains("nvidia.com/gpu.present=true\n") => Ok(text),
        text => Err(text),
    };
    let text = until("the file", is_there).await;
    assert!(text.starts_with("# +expiry-time=20"), "{text}");
    std::fs::remove_file(&file).unwrap();
    until("the file again", is_there).await;
    agent.stop().await;
    assert!(read().contains("nvidia.com/gpu.count=1\n"));
    assert_eq!(rig.api.received(), []);
}

#[tokio::test]
async fn labels_are_printed() {
    let rig = Rig::with(&[], h200()).await;
    for arguments in [
        &["labels", "--no-timestamp"][..],
        &["--labels=file", "--output=", "--oneshot", "--no-timestamp"],
    ] {
        let (status, lines) = rig.agent(arguments).wait().await;
        assert!(status.success(), "{lines:?}");
        assert_eq!(lines.len(), 26, "{lines:?}");
        assert!(lines.contains(&"nvidia.com/gpu.product=NVIDIA-H200".to_owned()));
    }
    let mut unknown = h200();
    unknown["nvml"]["state"] = "down".into();
    rig.plugin.set(unknown);
    let (status, lines) = rig.agent(&["labels", "--timeout=1"]).wait().await;
    assert_eq!(status.code(), Some(1));
    assert!(lines.concat().contains("does not know the GPUs of this node within 1 s"), "{lines:?}");
}
