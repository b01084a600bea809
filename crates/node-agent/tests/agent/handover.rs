//! Labels that GPU feature discovery and node feature discovery wrote, taken over and given back
//! without a moment without them: the Node is looked at after each write.

use serde_json::json;

use crate::in_process::start;
use crate::nfd::{LISTED, Nfd, PCI, feature, never_without, of_gfd};
use crate::rig::{NODE, NODE_PATH, Rig, h200, two_h200s, until};

const COUNT: &str = "nvidia.com/gpu.count";
const PRESENT: &str = "nvidia.com/gpu.present";
const QUICK: &str = "--sleep-interval=1s";

async fn until_there(rig: &Rig, path: &str) {
    until("the object", || rig.api.object(path).map(drop).ok_or_else(|| path.to_owned())).await;
}

/// Waits until the agent owns all labels: it has applied something.
async fn until_owned(rig: &Rig) {
    until("the labels are the agent's", || {
        let node = rig.api.object(NODE_PATH).unwrap();
        let fields = node["metadata"]["managedFields"].as_array().unwrap();
        let owns = fields.iter().any(|entry| entry["manager"] == "gpu-node-agent-labels");
        if owns { Ok(()) } else { Err(node.to_string()) }
    })
    .await;
}

async fn clean(rig: &Rig) {
    rig.api.grant(&["delete nodefeatures"]);
    let (status, lines) = rig.agent(&["cleanup"]).wait().await;
    assert!(status.success(), "{lines:?}");
}

#[tokio::test]
async fn from_gpu_feature_discovery_and_back_while_node_feature_discovery_stays() {
    let rig = Rig::new().await;
    let (labels, nfd) = (of_gfd(&rig).await, Nfd::default());
    Nfd::add_gfd(&rig, &labels);
    nfd.pass(&rig);
    let agent = rig.agent(&["--labels=nodefeature", QUICK]);
    until_there(&rig, &feature("nvidia-gpu-features-for")).await;
    nfd.pass(&rig);
    assert_eq!(rig.api.labels(NODE, PRESENT).len(), 1);
    Nfd::remove_gfd(&rig);
    nfd.pass(&rig);
    assert_eq!(rig.api.object(&feature("nvidia-features-for")), None);
    // And back.
    Nfd::add_gfd(&rig, &labels);
    nfd.pass(&rig);
    agent.stop().await;
    clean(&rig).await;
    nfd.pass(&rig);
    assert_eq!(rig.api.object(&feature("nvidia-gpu-features-for")), None);
    assert_eq!(rig.api.labels(NODE, "nvidia.com/"), labels, "nothing of the agent's is left");
    never_without(&rig, labels.keys());
}

#[tokio::test]
async fn from_a_file_of_gpu_feature_discovery_and_back() {
    let rig = Rig::new().await;
    let labels = of_gfd(&rig).await;
    let (theirs, ours) = (rig.path("gfd"), rig.path("gpu-node-agent"));
    let nfd = Nfd { files: vec![theirs.clone(), ours.clone()] };
    let lines: String = labels.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    std::fs::write(&theirs, &lines).unwrap();
    nfd.pass(&rig);
    let output = format!("--output-file={}", ours.display());
    let agent = rig.agent(&["--labels=file", &output, QUICK]);
    until("the file", || std::fs::metadata(&ours).map_err(|error| error.to_string())).await;
    nfd.pass(&rig);
    assert_eq!(rig.api.labels(NODE, PRESENT).len(), 1);
    // It removes its file when it ends.
    std::fs::remove_file(&theirs).unwrap();
    nfd.pass(&rig);
    std::fs::write(&theirs, &lines).unwrap();
    nfd.pass(&rig);
    agent.stop().await;
    let (status, lines) = rig.agent(&["cleanup", "--labels=file", &output]).wait().await;
    assert!(!ours.exists(), "{status} {lines:?}");
    nfd.pass(&rig);
    assert_eq!(rig.api.labels(NODE, "nvidia.com/"), labels);
    never_without(&rig, labels.keys());
}

#[tokio::test(flavor = "local")]
async fn from_both_of_them_for_good() {
    let rig = Rig::new().await;
    let (labels, nfd) = (of_gfd(&rig).await, Nfd::default());
    Nfd::add_gfd(&rig, &labels);
    nfd.pass(&rig);
    // The master is stopped, and what it counts among its own is forgotten: docs/migrate.md.
    rig.api.update_as("kubectl-annotate", NODE_PATH, |node| {
        node["metadata"]["annotations"].as_object_mut().unwrap().remove(LISTED);
    });
    let running = start(&rig, &["--labels=node", "--labels-conflict=take", QUICK]);
    until_owned(&rig).await;
    Nfd::remove_gfd(&rig);
    nfd.prune(&rig);
    rig.plugin.set(two_h200s());
    rig.until_labels(COUNT, &[(COUNT, "2")]).await;
    assert_eq!(rig.api.labels(NODE, PRESENT).len(), 1);
    never_without(&rig, labels.keys());
    drop(running);
}

#[tokio::test]
async fn back_to_both_of_them_from_labels_of_the_node() {
    let rig = Rig::new().await;
    let (labels, nfd) = (of_gfd(&rig).await, Nfd::default());
    let agent = rig.agent(&["--labels=node", "--labels-conflict=take", QUICK]);
    until_owned(&rig).await;
    Nfd::add_gfd(&rig, &labels);
    nfd.pass(&rig);
    agent.stop().await;
    clean(&rig).await;
    assert!(!rig.api.labels(NODE, "").contains_key(PRESENT), "of the agent alone");
    let timestamp = "nvidia.com/gfd.timestamp";
    assert!(rig.api.labels(NODE, "").contains_key(timestamp));
    nfd.pass(&rig);
    never_without(&rig, labels.keys());
    // What is left is node feature discovery's: it can remove it.
    nfd.prune(&rig);
    assert!(rig.api.labels(NODE, "nvidia.com/").is_empty());
}

#[tokio::test(flavor = "local")]
async fn gpu_present_outlasts_node_feature_discovery_and_the_other_labels_come_back() {
    let rig = Rig::new().await;
    let (labels, nfd) = (of_gfd(&rig).await, Nfd::default());
    Nfd::add_gfd(&rig, &labels);
    nfd.pass(&rig);
    let _running = start(&rig, &["--labels=node", "--labels-conflict=yield", QUICK]);
    until_owned(&rig).await;
    Nfd::remove_gfd(&rig);
    nfd.prune(&rig);
    assert!(!rig.api.labels(NODE, "").contains_key(PCI));
    until("all labels", || {
        let there = rig.api.labels(NODE, "nvidia.com/");
        if labels.keys().all(|name| there.contains_key(name)) {
            Ok(())
        } else {
            Err(format!("{there:?}"))
        }
    })
    .await;
    never_without(&rig, [&PRESENT.to_owned()]);
}

#[tokio::test]
async fn what_the_operator_says_of_the_node_is_left_or_taken_as_is_asked_for() {
    let rig = Rig::new().await;
    let operator = |value: &str| {
        rig.api.update_as("gpu-operator", NODE_PATH, |node| {
            node["metadata"]["labels"][PRESENT] = value.into();
            node["metadata"]["labels"]["nvidia.com/gpu.deploy.dcgm"] = "true".into();
        });
    };
    // Alike, it is of both, and stays when the agent gives it up.
    operator("true");
    assert!(rig.agent(&["--labels=node", "--oneshot"]).wait().await.0.success());
    clean(&rig).await;
    let of_operator = [(PRESENT, "true"), ("nvidia.com/gpu.deploy.dcgm", "true")];
    assert_eq!(rig.api.labels(NODE, "nvidia.com/").len(), of_operator.len());
    rig.until_labels(PRESENT, &of_operator[..1]).await;
    operator("false");
    let yields = rig.agent(&["--labels=node", "--oneshot"]);
    let (status, lines) = yields.wait().await;
    assert!(status.success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(PRESENT) && line.contains("gpu-operator")));
    rig.until_labels(PRESENT, &[(PRESENT, "false")]).await;
    let takes = rig.agent(&["--labels=node", "--labels-conflict=take", "--oneshot"]);
    assert!(takes.wait().await.0.success());
    rig.until_labels(PRESENT, &[(PRESENT, "true")]).await;
}

#[tokio::test]
async fn a_node_without_gpus_is_not_said_to_have_some() {
    let mut none = h200();
    none["gpus"] = json!([]);
    none["gpuCounts"]["bus"] = 0.into();
    let rig = Rig::with(crate::rig::RIGHTS, none).await;
    let file = rig.path("gfd");
    let output = format!("--output-file={}", file.display());
    for output in [&["--labels=node"][..], &["--labels=nodefeature"], &["--labels=file", &output]] {
        let arguments = [output, &["--oneshot", "--no-timestamp"][..]].concat();
        let (status, lines) = rig.agent(&arguments).wait().await;
        assert!(status.success(), "{lines:?}");
    }
    let only = "nvidia.com/vgpu.present";
    assert_eq!(rig.api.labels(NODE, "nvidia.com/").into_keys().collect::<Vec<_>>(), [only]);
    let object = rig.api.object(&feature("nvidia-gpu-features-for")).unwrap();
    assert_eq!(object["spec"]["labels"], json!({only: "false"}));
    assert!(
        std::fs::read_to_string(&file).unwrap().ends_with("Z\nnvidia.com/vgpu.present=false\n")
    );
}
