//! What lasts over a restart of the plugin is as old as it is, also where its source states it
//! again.

use std::fs;

use serde_json::Value;
use simnode::node::{Node, Plugin, PluginOptions};

use crate::health::configured;
use crate::observe::until;
use crate::rig::{PATIENCE, Rig, eight_h100s};

const QUICK: &str = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms, relapses: 100}\n";

fn options(node: &Node) -> PluginOptions {
    configured(node, QUICK).env("HTTP_ADDRESS", "127.0.0.1:0").env("FAIL_ON_INIT_ERROR", "false")
}

/// Since when this is the reason at a place of the status, and since when the process runs.
fn since(status: &Value, place: &str, kind: &str) -> Option<(String, String)> {
    let found = status.pointer(place)?;
    let reasons = found.as_array().cloned().unwrap_or_else(|| vec![found.clone()]);
    let reason = reasons.into_iter().find(|reason| reason["kind"] == kind)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some((text(&reason["since"])?, text(&status["plugin"]["startedAt"])?))
}

/// Waits for a plugin to say all of it, and returns since when each is so, and the process runs.
async fn told(plugin: &Plugin, what: &[(&str, &str)]) -> Vec<(String, String)> {
    let http = plugin.http(PATIENCE).await.unwrap();
    let all = |body: &str| -> Option<Vec<_>> {
        let status: Value = serde_json::from_str(body).ok()?;
        what.iter().map(|(place, kind)| since(&status, place, kind)).collect()
    };
    let answer = until(&http, "/status", "all of it", |answer| all(&answer.body).is_some()).await;
    all(&answer.body).unwrap()
}

/// The plugin is started again, and says all of it as older than itself.
async fn is_older_than_the_next_plugin(rig: &mut Rig, what: &[(&str, &str)]) {
    for (since, started) in told(&rig.plugin, what).await {
        assert!(since >= started, "{what:?} began under this plugin: {since} {started}");
    }
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    rig.plugin = Plugin::start(&rig.node, &options(&rig.node)).unwrap();
    for ((since, started), what) in told(&rig.plugin, what).await.into_iter().zip(what) {
        assert!(since < started, "{what:?} is of before: {since} {started}");
    }
}

async fn rig() -> Rig {
    let node = eight_h100s();
    let (config, options) = (node.kubelet(), options(&node));
    Rig::on(node, config, &options, 8).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_and_degradations_keep_their_age() {
    let mut rig = rig().await;
    fs::write(rig.node.quarantine_directory().join(rig.node.uuid(3)), "fan\n").unwrap();
    rig.node.edit_gpu(5, |gpu| gpu.remapped_rows.get_or_insert_default().pending = true).unwrap();
    rig.node.xid(6, 94).unwrap();
    let what = [
        ("/gpus/3/reasons", "external"),
        ("/gpus/5/degradations", "row_remap_pending"),
        ("/gpus/6/degradations", "contained_error"),
    ];
    is_older_than_the_next_plugin(&mut rig, &what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_driver_keeps_its_age() {
    let mut rig = rig().await;
    rig.node.edit(|state| state.driver.loaded = false).unwrap();
    is_older_than_the_next_plugin(&mut rig, &[("/nvml/fault", "driver_not_loaded")]).await;
}
