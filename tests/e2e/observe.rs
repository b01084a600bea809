//! The operator's edge of the real binary: metrics, probes, status and the page, as things happen
//! on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fake_nvml::profiles;
use fake_nvml::state::{Event, event_type};
use simnode::eventually;
use simnode::kubelet::KubeletVersion;
use simnode::node::{HttpAddress, HttpAnswer, Node, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::health::configured;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, node, plugin, replace};

/// What makes the waits of the policy short.
const QUICK: &str = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms, relapses: 100}\n";

fn with_http(options: PluginOptions) -> PluginOptions {
    options.env("HTTP_ADDRESS", "127.0.0.1:0")
}

/// Eight H100s with a plugin that serves HTTP.
async fn rig() -> (Rig, HttpAddress) {
    rig_on(eight_h100s(), 8).await
}

async fn rig_on(node: Node, allocatable: usize) -> (Rig, HttpAddress) {
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = with_http(configured(&node, QUICK));
    let rig = Rig::on(node, config, &options, allocatable).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    (rig, http)
}

/// Waits until an answer is as it should be; a failure shows the last one.
pub(crate) async fn until(
    http: &HttpAddress,
    path: &str,
    what: &str,
    mut is: impl FnMut(&HttpAnswer) -> bool,
) -> HttpAnswer {
    let mut last = None;
    let look = async || {
        let answer = last.insert(http.get(path).await.unwrap());
        is(answer).then(|| answer.clone())
    };
    match eventually(what, PATIENCE, look).await {
        Ok(answer) => answer,
        Err(error) => panic!("{path}: {error}: {last:#?}"),
    }
}

async fn until_metric(http: &HttpAddress, line: &str) -> String {
    until(http, "/metrics", line, |answer| answer.body.lines().any(|there| there == line))
        .await
        .body
}

fn json(answer: &HttpAnswer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap()
}

/// The values of each label, by label and metric.
fn label_values(metrics: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut values = BTreeMap::<_, BTreeSet<String>>::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let (labels, _) = rest.rsplit_once('}').unwrap();
        for label in labels.split("\",") {
            let (label, value) = label.split_once("=\"").unwrap();
            let key = (name.to_owned(), label.to_owned());
            values.entry(key).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_problems_is_reported_as_such_everywhere() {
    let (rig, http) = rig().await;
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
    assert_eq!(http.get("/healthz").await.unwrap().status, 200);
    let metrics =
        until_metric(&http, "gpu_device_plugin_kubelet_registered{resource=\"nvidia.com/gpu\"} 1")
            .await;
    for line in [
        "gpu_device_plugin_devices{resource=\"nvidia.com/gpu\",health=\"healthy\"} 8",
        "gpu_device_plugin_nvml_up 1",
        "gpu_device_plugin_listandwatch_streams{resource=\"nvidia.com/gpu\"} 1",
        "gpu_device_plugin_kubelet_registrations_total{resource=\"nvidia.com/gpu\",result=\"ok\"} \
            1",
        "gpu_device_plugin_config_last_reload_successful 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let uuid = rig.node.uuid(3);
    let info =
        metrics.lines().find(|line| line.contains("device_info") && line.contains(&uuid)).unwrap();
    assert!(
        info.contains("gpu=\"3\",pci_bus_id=\"0000") && info.contains("model=\"NVIDIA H100"),
        "{info}"
    );
    let status = json(&http.get("/status").await.unwrap());
    assert_eq!((&status["schemaVersion"], &status["plugin"]["ready"]), (&1.into(), &true.into()));
    assert_eq!(status["resources"][0]["kubelet"]["registered"], true);
    assert_eq!(status["gpus"].as_array().unwrap().len(), 8);
    until(&http, "/status", "one NVLink island", |answer| {
        json(answer)["gpus"].as_array().unwrap().iter().all(|gpu| gpu["nvlinkIsland"] == 0)
    })
    .await;
    let page = http.get("/").await.unwrap();
    assert!(
        page.header("content-security-policy")
            .is_some_and(|policy| policy.starts_with("default-src 'none'"))
    );
    assert!(page.body.contains("<title>8/8 GPUs"), "{}", page.body);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xid_is_seen_everywhere_and_the_process_stays_alive_and_ready() {
    let (rig, http) = rig().await;
    rig.node.xid(3, 79).unwrap();
    rig.until_healthy(3, false).await;
    let uuid = rig.node.uuid(3);
    let metrics = until_metric(
        &http,
        "gpu_device_plugin_devices{resource=\"nvidia.com/gpu\",health=\"unhealthy\"} 1",
    )
    .await;
    for line in [
        format!(
            "gpu_device_plugin_device_healthy{{uuid=\"{uuid}\",resource=\"nvidia.com/gpu\"}} 0"
        ),
        format!("gpu_device_plugin_device_unhealthy_reason{{uuid=\"{uuid}\",reason=\"xid\"}} 1"),
        format!("gpu_device_plugin_xid_events_total{{uuid=\"{uuid}\",xid=\"79\"}} 1"),
        format!("gpu_device_plugin_xids_total{{uuid=\"{uuid}\"}} 1"),
        format!(
            "gpu_device_plugin_device_health_transitions_total{{uuid=\"{uuid}\",to=\"unhealthy\"}} \
                1"
        ),
    ] {
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
    let status = json(&http.get("/status").await.unwrap());
    assert_eq!(status["gpus"][3]["reasons"][0]["xid"], 79);
    assert!(
        status["events"]
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["kind"] == "xid" && event["xid"] == 79)
    );
    let page = http.get("/").await.unwrap().body;
    assert!(page.contains("<title>7/8 GPUs") && page.contains("Xid 79 ("), "{page}");
    assert_eq!(
        http.get("/healthz").await.unwrap().status,
        200,
        "a bad GPU is no reason to restart"
    );
    assert_eq!(http.get("/readyz").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kubelet_it_is_alive_and_not_ready() {
    let (rig, http) = rig().await;
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
    rig.kubelet.stop().await;
    let answer = until(&http, "/readyz", "not ready", |answer| answer.status == 503).await;
    assert!(answer.body.starts_with("nvidia.com/gpu: "), "{}", answer.body);
    assert_eq!(http.get("/healthz").await.unwrap().status, 200);
    until_metric(&http, "gpu_device_plugin_kubelet_registered{resource=\"nvidia.com/gpu\"} 0")
        .await;
    rig.kubelet.start_again().await.unwrap();
    until(&http, "/readyz", "ready again", |answer| answer.status == 200).await;
    let status = json(&http.get("/status").await.unwrap());
    assert_eq!(status["resources"][0]["kubelet"]["registrations"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_reported_whether_it_is_applied_or_refused() {
    let (rig, http) = rig().await;
    let file = rig.node.root().join("config.yaml");
    replace(&file, &format!("{QUICK}flags: {{migStrategy: sideways}}\n"));
    until_metric(&http, "gpu_device_plugin_config_last_reload_successful 0").await;
    let status = json(&http.get("/status").await.unwrap());
    assert!(status["configuration"]["lastReload"]["refused"].is_string(), "{status:#}");
    // The one that is in force is put back: nothing is refused any more.
    replace(&file, QUICK);
    until_metric(&http, "gpu_device_plugin_config_last_reload_successful 1").await;
    replace(&file, &format!("{QUICK}flags: {{migStrategy: sideways}}\n"));
    until_metric(&http, "gpu_device_plugin_config_last_reload_successful 0").await;
    let shared = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n";
    replace(&file, &format!("{QUICK}{shared}"));
    let metrics = until_metric(&http, "gpu_device_plugin_config_last_reload_successful 1").await;
    for line in ["{result=\"applied\"} 2", "{result=\"refused\"} 2"] {
        assert!(
            metrics.contains(&format!("gpu_device_plugin_config_reloads_total{line}")),
            "{metrics}"
        );
    }
    until_metric(
        &http,
        "gpu_device_plugin_devices{resource=\"nvidia.com/gpu\",health=\"healthy\"} 32",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_reported_by_pod_namespace_and_container() {
    let node = eight_h100s();
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = with_http(configured(&node, QUICK));
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    rig.kubelet.allocate("train-0", "main", GPU, 2).await.unwrap();
    let metrics = until(&http, "/metrics", "two devices held", |answer| {
        answer
            .body
            .lines()
            .filter(|line| line.starts_with("gpu_device_plugin_allocated_devices{"))
            .count()
            == 2
    });
    let metrics = metrics.await.body;
    assert!(
        metrics.contains("pod=\"train-0\"") && metrics.contains("container=\"main\""),
        "{metrics}"
    );
    let page = http.get("/").await.unwrap().body;
    assert!(page.contains("/train-0 (main)"), "{page}");
    let status = json(&http.get("/status").await.unwrap());
    assert_eq!(status["resources"][0]["allocated"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_not_there_is_reported_and_is_no_reason_to_restart() {
    let mut state = profiles::h100x8();
    state.driver.loaded = false;
    let node = node(state);
    let kubelet = crate::rig::kubelet(node.kubelet().version(KubeletVersion::V1_36)).await;
    let options = with_http(plugin()).env("FAIL_ON_INIT_ERROR", "false");
    let plugin = simnode::node::Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    until_metric(&http, "gpu_device_plugin_nvml_up 0").await;
    let status = until(&http, "/status", "a fault", |answer| {
        json(answer)["nvml"]["fault"]["kind"].is_string()
    })
    .await;
    assert_eq!(json(&status)["nvml"]["fault"]["kind"], "driver_not_loaded");
    // The configuration tolerates it, and still a roll-out is not to go on to the next node.
    until(&http, "/readyz", "not ready: the node has GPUs", |answer| {
        answer.status == 503
            && answer.body.contains("NVML is down, and the node has 8 GPUs for it")
            && answer.body.contains("driver is not loaded")
    })
    .await;
    assert_eq!(http.get("/healthz").await.unwrap().status, 200);
    rig.node.edit(|state| state.driver.loaded = true).unwrap();
    until_metric(
        &http,
        "gpu_device_plugin_devices{resource=\"nvidia.com/gpu\",health=\"healthy\"} 8",
    )
    .await;
    until_metric(&http, "gpu_device_plugin_nvml_up 1").await;
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_gpus_is_ready_where_the_configuration_tolerates_it() {
    let mut state = profiles::h100x8();
    state.driver.loaded = false;
    let node = node(state);
    for gpu in &node.state().gpus {
        std::fs::remove_dir_all(node.pci_directory(gpu)).unwrap();
    }
    let options = with_http(plugin()).env("FAIL_ON_INIT_ERROR", "false");
    let plugin = simnode::node::Plugin::start(&node, &options).unwrap();
    let http = plugin.http(PATIENCE).await.unwrap();
    until_metric(&http, "gpu_device_plugin_nvml_up 0").await;
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_a_unix_socket_too_and_takes_it_away_at_the_end() {
    let node = eight_h100s();
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let path = node.root().join("http.sock");
    let options = configured(&node, QUICK).arg(format!("--http-address=unix:{}", path.display()));
    let mut rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    assert_eq!(http.get("/healthz").await.unwrap().status, 200);
    rig.plugin.signal(15).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_labels_are_bounded_whatever_comes() {
    let (rig, http) = rig().await;
    let gpu = rig.node.uuid(5);
    rig.node
        .edit(|state| {
            for xid in 0..700 {
                state.push_event(Event {
                    seq: 0,
                    gpu: gpu.clone(),
                    event_type: event_type::XID,
                    data: 100_000 + xid,
                    gpu_instance: None,
                    compute_instance: None,
                    stray: false,
                    count: 1,
                });
            }
        })
        .unwrap();
    let other = format!(
        "gpu_device_plugin_xid_events_total{{uuid=\"{}\",xid=\"other\"}}",
        rig.node.uuid(5)
    );
    let metrics = until(&http, "/metrics", "Xids beyond those that are counted", |answer| {
        answer.body.contains(&other)
    });
    let metrics = metrics.await.body;
    let of_xids = &label_values(&metrics)
        [&("gpu_device_plugin_xid_events_total".to_owned(), "xid".to_owned())];
    assert!(of_xids.len() <= 513, "{}", of_xids.len());
    for ((metric, label), values) in label_values(&metrics) {
        let most = if label == "xid" { 513 } else { 32 };
        assert!(values.len() <= most, "{metric}: {} values of {label}", values.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_environment_is_in_any_answer() {
    const SECRET: &str = "hunter2-and-more";
    let node = eight_h100s();
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = with_http(configured(&node, QUICK)).env("MY_TOKEN", SECRET);
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    for path in ["/", "/metrics", "/status", "/healthz", "/readyz", "/nothing"] {
        let answer = http.get(path).await.unwrap();
        assert!(!answer.body.contains(SECRET) && !answer.body.contains("MY_TOKEN"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_slow_clients_do_not_keep_an_allocation_waiting() {
    let (rig, http) = rig().await;
    let HttpAddress::Tcp(address) = http.clone() else { panic!("it is a port") };
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let request = || AllocateRequest {
        container_requests: vec![ContainerAllocateRequest { device_ids: vec![rig.node.uuid(0)] }],
    };
    let mut worst = async || {
        let mut worst = Duration::ZERO;
        for _ in 0..300 {
            let before = Instant::now();
            client.allocate(request()).await.unwrap();
            worst = worst.max(before.elapsed());
        }
        worst
    };
    let quiet = worst().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut io = TcpStream::connect(&address).await.unwrap();
        io.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        slow.push(io);
    }
    let loaded = worst().await;
    println!("Allocate, worst: {quiet:?} alone, {loaded:?} beside 200 slow clients");
    // One that waited for a slow client would wait for as long as the head of a request may take: 5
    // s.
    assert!(loaded < Duration::from_secs(1), "{quiet:?} became {loaded:?}");
    assert_eq!(http.get("/healthz").await.unwrap().status, 200, "and a probe gets through");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gpu_is_a_record_of_the_start_and_for_a_program_lines_are_json() {
    let (rig, _) = rig().await;
    let uuid = rig.node.uuid(7);
    rig.logged(&uuid).await;
    let log = rig.plugin.log();
    let found: Vec<_> = log.iter().filter(|line| line.contains("msg=\"GPU found\"")).collect();
    assert_eq!(found.len(), 8, "{log:#?}");
    for part in ["gpu.index=7", "model=\"NVIDIA H100 80GB HBM3\"", "pci=0000:", "memory_gib=80"] {
        assert!(found[7].contains(part) && found[7].contains(&uuid), "{part}: {}", found[7]);
    }

    let node = eight_h100s();
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = configured(&node, QUICK).env("LOG_FORMAT", "json");
    let rig = Rig::on(node, config, &options, 8).await;
    rig.node.xid(3, 79).unwrap();
    rig.until_healthy(3, false).await;
    rig.logged("GPU is Unhealthy").await;
    let lines: Vec<serde_json::Value> = rig
        .plugin
        .log()
        .iter()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let line = lines.iter().find(|line| line["message"] == "GPU is Unhealthy").unwrap();
    assert_eq!(
        (&line["gpu.index"], &line["xid"], &line["kind"]),
        (&3.into(), &79.into(), &"xid".into())
    );
    assert_eq!(line["gpu.uuid"], rig.node.uuid(3));
}
