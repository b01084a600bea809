//! The status of one node, through the API server's proxy.

use serde_json::{Value, json};

use crate::rig::{RIGHTS, Rig, node, run, summary};

const POD: &str = "/api/v1/namespaces/gpus/pods/plugin-x7k2p";
const PROXIED: &str = "gpus/plugin-x7k2p:19400";
const PODS: &[&str] = &["list pods", "get pods/proxy in gpus"];

/// The status of a node with one H200, as the plugin gave it on a real one, with a finding.
fn status() -> Value {
    let text = include_str!("../../../../tests/e2e/recorded/h200/held.status.json");
    let text = text.replace("\"<time>\"", "\"2026-11-28T00:00:00Z\"");
    let text = text.replace("\"uptimeSeconds\": \"<n>\"", "\"uptimeSeconds\": 1");
    let mut status: Value = serde_json::from_str(&text).unwrap();
    status["gpuCounts"]["reserved"] = 0.into();
    status["findings"] = json!([{"kind": "other_plugin", "message": "another \u{1b}[2Jplugin"}]);
    status
}

fn pod(name: &str, node: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "gpus", "name": name,
            "labels": {"app.kubernetes.io/name": "gpu-device-plugin"},
        },
        "spec": {"nodeName": node, "containers": [
            {"name": "node-agent"},
            {"name": "gpu-device-plugin", "ports": [{"name": "http", "containerPort": 19_400}]},
        ]},
        "status": {"phase": phase},
    })
}

/// A cluster with a node, its plugin, and these rights beside those to Nodes.
async fn rig(rights: &[&str]) -> Rig {
    let rig = Rig::with(&[RIGHTS, rights].concat()).await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    rig.api.put(POD, &pod("plugin-x7k2p", "node-a", "Running"));
    rig.api.put("/api/v1/namespaces/gpus/pods/other", &pod("other", "node-b", "Running"));
    rig.api.set_proxied(PROXIED, 200, status());
    rig
}

#[tokio::test]
async fn the_status_is_the_plugins_own_in_the_same_form() {
    let rig = rig(PODS).await;
    let out = rig.run(&["node-a"]).await.succeeded();
    assert!(out.contains("1 of 1 GPU healthy, 1 held, no problems, 1 warning"), "{out}");
    assert!(out.contains("\nGPU  MODEL"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    let wide = rig.run(&["node/node-a", "-o", "wide"]).await.succeeded();
    assert!(wide.contains("NVLINK  PCI"), "{wide}");
    // What a newer plugin has besides is in the data.
    let mut newer = status();
    newer["schemaVersion"] = 9.into();
    newer["new"] = "x".into();
    rig.api.set_proxied(PROXIED, 200, newer.clone());
    assert!(rig.run(&["node-a"]).await.succeeded().contains("is of version 9, newer than"));
    let json = rig.run(&["node-a", "-o", "json"]).await.succeeded();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), newer);
    let yaml = rig.run(&["node-a", "-o", "yaml"]).await.succeeded();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), newer);
    let mut narrow = rig.command(&["node-a"]);
    narrow.env("COLUMNS", "40");
    let out = run(narrow).await.succeeded();
    assert!(out.lines().skip(8).all(|line| line.chars().count() <= 40), "{out}");
}

#[tokio::test]
async fn doctor_shows_the_findings_and_the_command_that_looks_again() {
    let rig = rig(PODS).await;
    let out = rig.run(&["doctor", "node-a", "--context", "a"]).await.succeeded();
    assert!(out.contains(r"another \u{1b}[2Jplugin"), "{out}");
    let exec = "kubectl --context=a --namespace=gpus exec plugin-x7k2p -c gpu-device-plugin -- \
                gpu-device-plugin doctor";
    assert!(out.contains(&format!("\n  {exec}\n")), "{out}");
    let json = rig.run(&["doctor", "node-a", "--context", "a", "-o", "json"]).await.succeeded();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["exec"], &json["pod"]), (&exec.into(), &"plugin-x7k2p".into()));
    assert_eq!(json["findings"][0]["kind"], "other_plugin");
    let mut healthy = status();
    healthy["findings"] = json!([]);
    rig.api.set_proxied(PROXIED, 200, healthy);
    let out = rig.run(&["doctor", "node-a"]).await.succeeded();
    assert!(out.starts_with("The plugin finds nothing wrong.\n"), "{out}");
}

#[tokio::test]
async fn the_right_that_is_missing_is_named_each_by_itself() {
    let rig = rig(&[]).await;
    let parts = ["GET /api/v1/pods: HTTP status 403", "the right to list pods in all namespaces"];
    rig.run(&["node-a"]).await.fails_with(&parts);
    let parts = ["the right to list pods in the namespace gpus"];
    rig.run(&["node-a", "-n", "gpus"]).await.fails_with(&parts);
    rig.api.grant(&["list pods in gpus"]);
    rig.run(&["node-a"]).await.fails_with(&["name that with --namespace"]);
    let printed = rig.run(&["doctor", "node-a", "-n", "gpus"]).await;
    let parts =
        ["the right to get pods/proxy in the namespace gpus", "kubectl --namespace=gpus exec"];
    printed.fails_with(&parts);
    rig.api.grant(&["get pods/proxy in gpus"]);
    assert!(rig.run(&["node-a", "-n", "gpus"]).await.succeeded().contains("GPU  MODEL"));
}

#[tokio::test]
async fn what_is_no_plugin_that_answers_is_said() {
    let rig = rig(PODS).await;
    let of = async |arguments: &[&str], parts: &[&str]| {
        rig.run(arguments).await.fails_with(parts);
    };
    of(&["node-x"], &["there is no node node-x"]).await;
    of(&["node-cpu"], &["no pod of the plugin is on node node-cpu", "--plugin-selector"]).await;
    of(&["node-a", "--plugin-selector", "app=x"], &["none with the labels app=x in any"]).await;
    of(&["node-a", "--plugin-port", "1"], &["does not reach port 1", "NetworkPolicy"]).await;
    of(&["../a"], &["is no name of a node"]).await;
    of(&["node-a", "-w"], &["--watch is of the list"]).await;
    of(&["node-a", "problems"], &["a node and a command"]).await;
    rig.api.set_proxied(PROXIED, 404, json!("404 page not found"));
    of(&["node-a"], &["has no /status"]).await;
    rig.api.set_proxied(PROXIED, 200, json!({"hello": "\u{1b}"}));
    of(&["node-a"], &["what answers is no gpu-device-plugin"]).await;
    rig.api.set_proxied(PROXIED, 200, json!({"schemaVersion": 0}));
    of(&["node-a"], &["is of version 0, older than this program"]).await;
    rig.api.set_proxied(PROXIED, 200, json!("x".repeat(17 << 20)));
    of(&["node-a"], &["it is longer than this program reads"]).await;
    let mut silent = pod("plugin-x7k2p", "node-a", "Running");
    silent["spec"]["containers"][1]["ports"] = json!([]);
    rig.api.put(POD, &silent);
    of(&["node-a"], &["has no port http", "gpu-device-plugin status"]).await;
    rig.api.put(POD, &pod("plugin-x7k2p", "node-a", "Pending"));
    of(&["node-a"], &["the plugin's pod gpus/plugin-x7k2p on node node-a is Pending"]).await;
}

#[tokio::test]
async fn of_two_pods_in_an_update_the_running_one_is_asked() {
    let rig = rig(PODS).await;
    let mut ending = pod("plugin-a", "node-a", "Running");
    ending["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z".into();
    rig.api.put("/api/v1/namespaces/gpus/pods/plugin-a", &ending);
    rig.api.put("/api/v1/namespaces/gpus/pods/plugin-b", &pod("plugin-b", "node-a", "Pending"));
    assert!(rig.run(&["node-a"]).await.succeeded().contains("GPU  MODEL"));
}
