use status::{LastReload, Registration, Resource, XidCount};

use super::*;
use crate::labels::testing::{at, cause, gpu, resource, status};

fn healthy() -> Status {
    let mut status = status(&[gpu(0, "NVIDIA H200"), gpu(1, "NVIDIA H200")]);
    let kubelet = Registration { registered: true, ..Registration::default() };
    status.resources = vec![Resource { kubelet, ..resource("nvidia.com/gpu") }];
    status
}

/// Reasons and notes of what happened.
fn told(before: Option<&Status>, after: &Status) -> Vec<String> {
    let line = |notice: &Notice| {
        let times = if notice.times > 1 { format!(" x{}", notice.times) } else { String::new() };
        format!("{} {}{times}", notice.kind.reason(), notice.note)
    };
    notices(before, after).iter().map(line).collect()
}

type Change = fn(&mut Status);

#[test]
fn each_change_is_told_once_and_its_end_too() {
    let table: [(Change, &[&str], &[&str]); 9] = [
        (
            |node| {
                node.gpus[1].healthy = false;
                node.gpus[1].reasons = vec![cause("xid", "Xid 79", at(999))];
                node.gpus[1].reasons[0].remedy = Some("restart the node".to_owned());
            },
            &["GPUUnhealthy GPU 1: Xid 79; restart the node"],
            &["GPURecovered GPU 1: it is Healthy again"],
        ),
        (
            |node| node.gpus[0].reasons = vec![cause("lost", "it fell off the bus", at(1))],
            &["GPUMissing GPU 0: it fell off the bus"],
            &["GPURecovered GPU 0: it is Healthy again"],
        ),
        (
            |node| node.gpus[0].reasons = vec![cause("external", "in repair", at(1))],
            &["QuarantineSet GPU 0: in repair"],
            &["QuarantineCleared GPU 0: it was cleared"],
        ),
        (
            |node| node.gpus[0].degradations = vec![cause("row_remap_pending", "rows", at(1))],
            &["GPUDegraded GPU 0: rows"],
            &[],
        ),
        (
            |node| {
                let fault = cause("driver_not_loaded", "the driver is not loaded", at(1));
                node.gpus.iter_mut().for_each(|gpu| gpu.reasons = vec![fault.clone()]);
                node.nvml.state = NvmlState::Down;
                node.nvml.fault = Some(fault);
            },
            &["DriverDown the driver is not loaded"],
            &["DriverUp NVML answers, driver 580.159.04"],
        ),
        (|node| node.nvml.state = NvmlState::Released, &[], &[]),
        (
            |node| node.gpus[0].xids = vec![XidCount { xid: 13, count: 3 }],
            &["XidError GPU 0: Xid 13 x3"],
            &[],
        ),
        (
            |node| {
                node.resources[0].kubelet.registered = false;
                node.resources[0].kubelet.problem = Some("the kubelet is gone".to_owned());
            },
            &["KubeletRegistrationLost nvidia.com/gpu: the kubelet is gone"],
            &[],
        ),
        (
            |node| {
                let refused = Some("line 3".to_owned());
                node.configuration.last_reload = Some(LastReload { at: at(1), refused });
            },
            &["ConfigRefused line 3"],
            &[],
        ),
    ];
    for (change, begins, ends) in table {
        let mut changed = healthy();
        change(&mut changed);
        assert_eq!(told(Some(&healthy()), &changed), begins);
        assert_eq!(told(Some(&changed), &changed), [""; 0], "{begins:?}");
        assert_eq!(told(Some(&changed), &healthy()), ends, "{begins:?}");
    }
    assert_eq!(told(None, &healthy()), [""; 0]);
}

#[test]
fn pods_that_hold_a_gpu_are_told_once_each_what_happened_to_it() {
    let holder =
        |pod: &str| serde_json::json!({"namespace": "ml", "pod": pod, "container": "main"});
    let device = |gpu: &str, holders: Vec<serde_json::Value>| {
        let device = serde_json::json!({
            "id": gpu, "uuid": gpu, "index": "0", "gpu": gpu, "healthy": true,
            "holders": holders,
        });
        serde_json::from_value(device).unwrap()
    };
    let mut before = healthy();
    before.resources[0].devices = vec![
        device("GPU-0", vec![holder("a")]),
        device("GPU-1", vec![holder("b"), holder("b"), holder("c")]),
    ];
    let mut after = before.clone();
    after.gpus[1].reasons = vec![cause("xid", "Xid 79", at(999))];
    after.gpus[1].xids = vec![XidCount { xid: 79, count: 1 }];
    after.gpus[0].degradations = vec![cause("row_remap_pending", "rows", at(1))];
    let told: Vec<_> = pod_notices(Some(&before), &after)
        .into_iter()
        .map(|notice| (notice.pod.unwrap().name, notice.kind.reason()))
        .collect();
    let expected = [("b", "GPUUnhealthy"), ("c", "GPUUnhealthy"), ("b", "XidError")];
    let expected = expected.into_iter().chain([("c", "XidError")]);
    assert_eq!(told, expected.map(|(pod, why)| (pod.to_owned(), why)).collect::<Vec<_>>());
    assert_eq!(pod_notices(Some(&after), &after), []);
}

#[test]
fn an_agent_or_plugin_that_restarts_tells_nothing_again() {
    let mut node = healthy();
    node.gpus[0].reasons = vec![cause("xid", "Xid 79", at(100))];
    node.gpus[0].xids = vec![XidCount { xid: 79, count: 4 }];
    assert_eq!(told(None, &node), [""; 0], "it is old");
    node.gpus[0].reasons[0].since = at(990);
    assert_eq!(told(None, &node), ["GPUUnhealthy GPU 0: Xid 79"]);
    node.gpus[0].reasons[0].remembered = true;
    assert_eq!(told(None, &node), [""; 0]);
    let mut restarted = node.clone();
    restarted.plugin.uptime_seconds = 1.0;
    restarted.resources.clear();
    restarted.gpus[0].xids[0].count = 1;
    assert_eq!(told(Some(&node), &restarted), ["XidError GPU 0: Xid 79"]);
    restarted.gpus[0].reasons = vec![cause("not_answered", "not yet", at(999))];
    restarted.gpus[0].xids.clear();
    assert_eq!(told(Some(&healthy()), &restarted), [""; 0]);
}
