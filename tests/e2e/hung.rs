//! The commands beside a plugin that hangs, and beside a driver that does.

use std::time::{Duration, Instant};

use fake_nvml::state::Rule;
use serde_json::Value;

use crate::health::{QUICK, configured};
use crate::look::{run, served_at};
use crate::rig::{GPU, Rig, eight_h100s};

const STOP: i32 = 19;
const CONTINUE: i32 = 18;
/// A check is over within a second; more for a machine that does much else.
const CHECK: Duration = Duration::from_secs(10);

/// A process that is stopped is one that hangs: its sockets take connections and answer none.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_plugin_that_hangs_each_command_says_so_within_its_time() {
    let node = eight_h100s();
    let options = served_at(&node);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    let check = async |rule| {
        let began = Instant::now();
        let printed = run(&rig.node, &options, &["check", rule, "--max-output", "200"]).await;
        assert!(began.elapsed() < CHECK, "{rule}: {:?}", began.elapsed());
        printed
    };
    assert_eq!(check("all").await.code, Some(0));
    rig.plugin.signal(STOP).unwrap();
    // Neither yes nor no: what was heard of it last may still be so.
    for (rule, text) in [
        ("gpus", "no answer within 600 ms"),
        ("nvml", "no answer within 600 ms"),
        ("registration", "a plugin listens, and does not answer: nvidia-gpu-"),
        ("all", "no answer within 600 ms"),
    ] {
        let printed = check(rule).await;
        assert_eq!(printed.code, Some(2), "{rule}: {}", printed.text);
        assert!(printed.text.contains(text), "{rule}: {}", printed.text);
    }
    let printed = run(&rig.node, &options, &["status"]).await;
    assert_eq!(printed.code, Some(1), "{}", printed.text);
    assert!(printed.text.contains("no answer within"), "{}", printed.text);
    let printed = run(&rig.node, &options, &["doctor", "-o", "json"]).await;
    let report: Value = serde_json::from_str(&printed.text).unwrap();
    let finding = |id: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == id).unwrap().clone()
    };
    let plugin = finding("kubelet.plugin");
    assert_eq!(plugin["level"], "problem", "{plugin}");
    assert!(plugin["seen"].as_str().unwrap().starts_with("does not answer on"), "{plugin}");
    assert_eq!(finding("kubelet.ready")["level"], "unknown");
    // What the driver says does not depend on it.
    assert_eq!(finding("gpus.offered")["level"], "ok");
    rig.plugin.signal(CONTINUE).unwrap();
    rig.eventually("it answers again", async || (check("all").await.code == Some(0)).then_some(()))
        .await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_driver_that_hangs_each_command_names_what_hangs() {
    let node = eight_h100s();
    let options = configured(&node, QUICK)
        .env("HTTP_ADDRESS", format!("unix:{}", node.root().join("http.sock").display()));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    let check = async |rule| run(&rig.node, &options, &["check", rule]).await;
    let hang = || Rule::hang("nvmlDeviceGetFieldValues");
    for gpus in [3..4, 0..8] {
        let count = gpus.len();
        for index in gpus.clone() {
            rig.node.edit_gpu(index, |gpu| gpu.rules.push(hang())).unwrap();
        }
        for index in gpus.clone() {
            rig.until_healthy(index, false).await;
        }
        let printed = check("gpus").await;
        assert_eq!(printed.code, Some(1), "{}", printed.text);
        let text = format!("{count}/8 GPUs Unhealthy: ");
        assert!(printed.text.starts_with(&text), "{}", printed.text);
        let printed = check("nvml").await;
        assert_eq!(printed.code, Some(1), "{}", printed.text);
        assert!(printed.text.starts_with(&format!("NVML hangs: {count} call")), "{}", printed.text);
        assert_eq!(check("registration").await.code, Some(0));
        let printed = run(&rig.node, &options, &["status"]).await;
        assert_eq!(printed.code, Some(0), "{}", printed.text);
        assert!(printed.text.contains("nvmlDeviceGetFieldValues"), "{}", printed.text);
        for index in gpus {
            rig.node.edit_gpu(index, |gpu| gpu.rules.clear()).unwrap();
        }
        rig.until("all answer again", |view| view.allocatable(GPU) == 8).await;
        rig.eventually("nothing hangs", async || {
            (check("all").await.code == Some(0)).then_some(())
        })
        .await;
    }
    rig.assert_flawless();
}
