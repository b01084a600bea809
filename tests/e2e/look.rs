//! `status` and `check` beside the daemon and without it, and node problem detector's configuration
//! that uses `check`.

use std::time::{Duration, Instant};

use serde::Deserialize;
use simnode::node::{Node, Plugin, PluginOptions};

use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, plugin, without_polls};

/// What a subcommand has printed, and its exit code.
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

pub(crate) async fn run(node: &Node, options: &PluginOptions, arguments: &[&str]) -> Printed {
    let options =
        arguments.iter().fold(options.clone(), |options, argument| options.arg(*argument));
    let mut command = Plugin::start(node, &options).unwrap();
    let status = command.wait_exit(PATIENCE).await.unwrap();
    Printed { code: status.code(), text: command.log().join("\n") }
}

/// The plugin with its HTTP edge at a unix socket of the node.
pub(crate) fn served_at(node: &Node) -> PluginOptions {
    without_polls().env("HTTP_ADDRESS", format!("unix:{}", node.root().join("http.sock").display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_status_says_what_was_tried_and_what_to_do() {
    let node = eight_h100s();
    let options = served_at(&node);
    let printed = run(&node, &options, &["status"]).await;
    assert_eq!(printed.code, Some(1), "{}", printed.text);
    let judged = run(&node, &options, &["status", "--exit-code"]).await;
    assert_eq!(judged.code, Some(2), "whether there is a problem cannot be told");
    for part in [
        "the plugin does not answer: unix:",
        "http.sock (not there)",
        "kubectl -n kube-system exec POD",
        "doctor",
    ] {
        assert!(printed.text.contains(part), "{part} in {}", printed.text);
    }
    let printed = run(&node, &plugin().env("HTTP_ADDRESS", ""), &["status", "-o", "json"]).await;
    assert_eq!(printed.code, Some(1));
    assert!(printed.text.contains("the plugin's HTTP address is empty"), "{}", printed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_check_says_what_can_be_seen_and_soon() {
    let node = eight_h100s();
    let options = served_at(&node);
    for (rule, code, text) in [
        ("registration", 1, "no GPU plugin is served in the kubelet's directory"),
        ("gpus", 2, "no plugin answers: http.sock not there"),
        ("nvml", 2, "no plugin answers: http.sock not there"),
        ("all", 1, "no GPU plugin is served"),
    ] {
        let printed = run(&node, &options, &["check", rule]).await;
        assert_eq!(printed.code, Some(code), "{rule}: {}", printed.text);
        assert!(printed.text.starts_with(text), "{rule}: {}", printed.text);
        assert!(printed.text.len() <= 80 && printed.text.lines().count() == 1, "{}", printed.text);
    }
    node.write_module(None).unwrap();
    let printed = run(&node, &options, &["check", "nvml"]).await;
    assert_eq!(
        (printed.code, printed.text.as_str()),
        (Some(1), "NVIDIA's kernel module is not loaded")
    );
    // Somebody listens and never answers: that is no reason to wait.
    let _silent = std::os::unix::net::UnixListener::bind(node.root().join("http.sock")).unwrap();
    let began = Instant::now();
    let printed = run(&node, &options, &["check", "gpus", "--max-output", "200"]).await;
    assert_eq!(printed.code, Some(2));
    assert!(printed.text.contains("no answer within 600 ms"), "{}", printed.text);
    // A second, and as much again for a machine that does much else.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// What node problem detector reads (pkg/custompluginmonitor/types): an unknown key would mean
/// nothing to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Monitor {
    plugin: String,
    #[serde(rename = "pluginConfig")]
    plugin_config: PluginConfig,
    source: String,
    #[serde(rename = "metricsReporting")]
    metrics_reporting: bool,
    conditions: Vec<Condition>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    invoke_interval: String,
    timeout: String,
    max_output_length: usize,
    concurrency: usize,
    enable_message_change_based_condition_update: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(rename = "type")]
    kind: String,
    condition: String,
    reason: String,
    path: String,
    args: Vec<String>,
    timeout: String,
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_of_node_problem_detector_is_one_that_it_takes_and_its_commands_are_ours() {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/node-problem-detector/gpu-monitor.json");
    let monitor: Monitor = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(monitor.plugin, "custom");
    assert!(!monitor.source.is_empty() && monitor.metrics_reporting);
    let config = &monitor.plugin_config;
    assert!(seconds(&config.invoke_interval) > seconds(&config.timeout));
    assert!(
        config.concurrency >= monitor.rules.len()
            && config.enable_message_change_based_condition_update
    );
    let node = eight_h100s();
    for rule in &monitor.rules {
        assert_eq!(rule.kind, "permanent");
        let condition =
            monitor.conditions.iter().find(|condition| condition.kind == rule.condition);
        let condition = condition.expect("a permanent problem needs its condition");
        assert!(condition.reason != rule.reason && !condition.message.is_empty());
        // A rule that has longer than all of them is refused.
        assert!(seconds(&rule.timeout) <= seconds(&config.timeout) && seconds(&rule.timeout) >= 2);
        assert!(rule.path.ends_with("/usr/bin/gpu-device-plugin"));
        let arguments: Vec<&str> = rule.args.iter().map(String::as_str).collect();
        let printed = run(&node, &served_at(&node), &arguments).await;
        // 64 is what a command line that is not understood ends with.
        assert!(matches!(printed.code, Some(1 | 2)), "{arguments:?}: {}", printed.text);
        assert!(printed.text.len() <= config.max_output_length);
    }
    let conditions: Vec<&str> =
        monitor.conditions.iter().map(|condition| condition.kind.as_str()).collect();
    assert_eq!(conditions, ["GPUUnhealthy", "GPUNotRegistered", "NVMLNotAnswering"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_daemon_status_and_check_say_what_it_knows() {
    let node = eight_h100s();
    let options = served_at(&node).env("NODE_NAME", "gpu-7");
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    rig.kubelet.allocate("train-0", "main", GPU, 1).await.unwrap();
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
    until(&http, "/status", "a holder", |answer| answer.body.contains("train-0")).await;
    let printed = run(&rig.node, &options, &["check"]).await;
    let all = "NVML answers, driver 580.95.05; 8 GPUs Healthy; registered: nvidia.com/gpu";
    assert_eq!((printed.code, printed.text.as_str()), (Some(0), all));
    let judged = run(&rig.node, &options, &["status", "--exit-code"]).await;
    assert_eq!(judged.code, Some(0), "{}", judged.text);
    rig.node.xid(3, 79).unwrap();
    rig.until_healthy(3, false).await;

    let table = run(&rig.node, &options, &["status"]).await;
    assert_eq!(table.code, Some(0), "{}", table.text);
    let lines: Vec<&str> = table.text.lines().collect();
    let sentence = "7 of 8 GPUs healthy, 1 held, 1 problem: GPU 3 Xid 79 since ";
    assert!(lines[0].starts_with(sentence) && lines[0].ends_with(" UTC"), "{}", table.text);
    assert!(
        lines[1].starts_with("gpu-7: gpu-device-plugin 0.1.0, up ")
            && lines[1].ends_with(", ready"),
        "{}",
        table.text
    );
    assert_eq!(lines[2], "driver 580.95.05, CUDA 13.0, NVML is up");
    assert!(lines[4].starts_with("PROBLEM  GPU 3 Xid 79 since "), "{}", table.text);
    assert!(lines[4].contains("; to do: reboot the node"), "{}", table.text);
    assert_eq!(lines[6], "GPU  MODEL           NUMA  HEALTH             RESOURCE        HOLDER");
    assert_eq!(lines[10], "3    H100 80GB HBM3  0     Unhealthy: Xid 79  nvidia.com/gpu  -");
    assert!(lines[7..15].iter().any(|line| line.ends_with("/train-0/main")), "{}", table.text);
    // The output is no terminal, so that it has no colours; COLUMNS is a person's wish.
    assert!(!table.text.contains('\u{1b}'), "{}", table.text);
    let narrow = run(&rig.node, &options.clone().env("COLUMNS", "60"), &["status"]).await;
    assert!(narrow.text.lines().all(|line| line.chars().count() <= 60), "{}", narrow.text);
    let wide = run(&rig.node, &options, &["status", "-o", "wide"]).await;
    assert!(
        wide.text.contains(&rig.node.uuid(3)) && wide.text.contains("Last events"),
        "{}",
        wide.text
    );

    let json = run(&rig.node, &options, &["status", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!((&json["schemaVersion"], &json["gpus"][3]["healthy"]), (&1.into(), &false.into()));
    assert_eq!(json["node"], "gpu-7");
    let fields: Vec<&String> = json.as_object().unwrap().keys().take(5).collect();
    assert_eq!(fields, ["schemaVersion", "generatedAt", "node", "summary", "problems"]);
    let judged = run(&rig.node, &options, &["status", "--exit-code"]).await;
    assert_eq!(judged.code, Some(1), "{}", judged.text);
    let page = http.get("/").await.unwrap().body;
    assert!(page.contains("<title>7/8 GPUs · gpu-7</title>"), "{page}");
    rig.logged("node=\"gpu-7\"").await;
    let yaml = run(&rig.node, &options, &["status", "-o", "yaml"]).await;
    let read = gpu_device_plugin::config::yaml(&yaml.text).unwrap();
    assert_eq!(read["gpus"][3]["reasons"], json["gpus"][3]["reasons"], "{}", yaml.text);
    assert_eq!(read["resources"][0]["name"], json["resources"][0]["name"]);

    let printed = run(&rig.node, &options, &["check", "gpus"]).await;
    assert_eq!((printed.code, printed.text.as_str()), (Some(1), "1/8 GPUs Unhealthy: 3 Xid 79"));
    let printed = run(&rig.node, &options, &["check", "registration"]).await;
    assert_eq!((printed.code, printed.text.as_str()), (Some(0), "registered: nvidia.com/gpu"));
    rig.kubelet.stop().await;
    until(&http, "/readyz", "not ready", |answer| answer.status == 503).await;
    let printed = run(&rig.node, &options, &["check", "registration"]).await;
    assert_eq!(printed.code, Some(1), "{}", printed.text);
    assert!(printed.text.starts_with("nvidia.com/gpu: "), "{}", printed.text);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_daemons_container_no_argument_is_needed() {
    const ALONE: [&str; 6] =
        ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut alone = std::process::Command::new("unshare");
    alone.args(ALONE).arg("true");
    if !alone.status().is_ok_and(|status| status.success()) {
        println!(
            "not tested: this machine allows no namespace of processes in which the daemon could \
                be the first"
        );
        return;
    }
    let node = eight_h100s();
    // As `kubectl exec` does: beside the first process, with its environment and without its
    // arguments.
    let script = "(until \"$0\" status; do sleep 0.1; done; \
        until \"$0\" clear 0 2>&1 | grep \"it is Healthy\"; do sleep 0.1; done) & \
        exec \"$0\" \"$@\"";
    let options =
        ALONE.iter().fold(PluginOptions::new("unshare").bare(), |options, word| options.arg(*word));
    let options =
        options.arg("sh").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_gpu-device-plugin"));
    let http = format!("--http-address=unix:{}", node.root().join("http.sock").display());
    let options = options
        .arg(http)
        .arg("--state-dir")
        .arg(node.state_directory())
        .env("KUBELET_SOCKET", node.kubelet_socket())
        .env("NVML_LIBRARY", node.nvml_library())
        .env("QUARANTINE_DIR", node.quarantine_directory());
    let daemon = Plugin::start(&node, &options).unwrap();
    daemon.wait_for_log(": gpu-device-plugin 0.1.0, up ", PATIENCE).await.unwrap();
    daemon.wait_for_log("it is Healthy", PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_served_is_seen_from_outside() {
    let node = eight_h100s();
    let options = plugin().env("HTTP_ADDRESS", "");
    let kubelet = kubelet(node.kubelet()).await;
    let _plugin = Plugin::start(&node, &options).unwrap();
    kubelet.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    // As where the status socket cannot be reached.
    let words = ["check", "registration", "--state-dir="];
    let printed = run(&node, &options, &words).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    assert_eq!(printed.text, "a plugin is served, the kubelet can allocate 8 devices");
    assert!(kubelet.violations().is_empty(), "{:?}", kubelet.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_shown_with_its_end_until_it_is_taken_up() {
    let node = eight_h100s();
    let options = served_at(&node);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    let printed = run(&rig.node, &options, &["release", "--for", "10m"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    let table = run(&rig.node, &options, &["status"]).await;
    let lines: Vec<&str> = table.text.lines().collect();
    assert!(lines[0].starts_with("8 of 8 GPUs healthy, "), "{}", table.text);
    assert!(lines[0].contains(", NVML released until ") && lines[0].contains(" UTC, no problems"));
    assert!(lines[2].contains(" min more)") && lines[2].contains("take-up"), "{}", table.text);
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let page = http.get("/").await.unwrap().body;
    assert!(page.contains("<h3>NVML released until "), "{page}");
    let json = run(&rig.node, &options, &["status", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!(json["nvml"]["state"], "letGo");
    let until =
        |json: &serde_json::Value| json["nvml"]["releasedUntil"].as_str().map(str::to_owned);
    let first = until(&json).expect("it has an end");
    assert!(first.as_str() > json["generatedAt"].as_str().unwrap());
    // A longer one moves it.
    run(&rig.node, &options, &["release", "--for", "30m"]).await;
    let json = run(&rig.node, &options, &["status", "-o", "json"]).await;
    assert!(until(&serde_json::from_str(&json.text).unwrap()).unwrap() > first);
    let printed = run(&rig.node, &options, &["take-up"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.text);
    let table = run(&rig.node, &options, &["status"]).await;
    assert!(!table.text.contains("released"), "{}", table.text);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_keeps_its_age_over_a_restart_of_the_plugin() {
    let node = eight_h100s();
    let options = served_at(&node);
    let config = node.kubelet();
    let mut rig = Rig::on(node, config, &options, 8).await;
    rig.xid_until_heard(3, 79).await;
    let reason = async |rig: &Rig| {
        let http = rig.plugin.http(PATIENCE).await.unwrap();
        let answer = until(&http, "/status", "the cause", |answer| {
            let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            json["gpus"][3]["reasons"][0]["kind"] == "xid"
        });
        let json: serde_json::Value = serde_json::from_str(&answer.await.body).unwrap();
        (json["gpus"][3]["reasons"][0].clone(), json["plugin"]["startedAt"].clone())
    };
    let (before, _) = reason(&rig).await;
    rig.plugin.terminate().unwrap();
    assert!(rig.plugin.wait_exit(PATIENCE).await.unwrap().success());
    rig.plugin = Plugin::start(&rig.node, &options).unwrap();
    rig.until("it is listed again", |view| view.capacity(GPU) == 8 && view.allocatable(GPU) == 7)
        .await;
    let (after, started) = reason(&rig).await;
    assert_eq!(after["remembered"], true, "{after}");
    let since = |reason: &serde_json::Value| reason["since"].as_str().unwrap().to_owned();
    // To the second, as the file has it; the new process began later.
    assert!(since(&after).as_str() < started.as_str().unwrap(), "{after} {started}");
    let distance = |a: &str, b: &str| {
        let distance = (seconds_of(a) - seconds_of(b)).abs();
        distance.min(3_600.0 - distance)
    };
    assert!(distance(&since(&after), &since(&before)) <= 1.5, "{after} {before}");
}

/// The seconds since the hour of a point in time.
fn seconds_of(time: &str) -> f64 {
    let (minutes, seconds) = time[14..time.len() - 1].split_once(':').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}
