//! What the page shows.

use device::testing::node;
use status::{Event, EventKind, Holder, Registration};

use super::*;
use crate::observe::event_log::EventLog;
use crate::observe::tests::{status_of, xid};

fn shown(status: &Status) -> String {
    page(status, "n0nce")
}

fn failed() -> Status {
    let (mut inventory, event_log) = (node(8), EventLog::default());
    xid(&mut inventory, &event_log, 3, 79, 40);
    status_of(&inventory, &event_log)
}

#[test]
fn a_failed_gpu_is_shown_with_why_since_when_and_what_to_do() {
    let html = shown(&failed());
    for part in [
        "<title>7/8 GPUs · node-a</title>",
        "7 of 8 GPUs healthy, held by pods: not known, 1 problem: GPU 3 Xid 79 since ",
        "<dt>NUMA node</dt><dd>0</dd>",
        "<article class=\"card bad\" id=\"gpu-3\">",
        "Xid 79 (",
        "60 s ago",
        "reboot the node",
        "<dt>Xids</dt><dd>79</dd>",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
}

#[test]
fn what_is_wrong_stands_before_everything_else() {
    let html = shown(&failed());
    let at = |part: &str| html.find(part).unwrap_or_else(|| panic!("{part} in {html}"));
    let banner = at("<h3>GPU 3 Xid 79 ");
    assert!(at("<h1>") < banner && banner < at("class=\"tiles\""), "{html}");
    assert!(html[banner..at("class=\"tiles\"")].contains("<b>What to do:</b> reboot the node"));
    assert!(at("id=\"gpu-3\"") < at("id=\"gpu-0\"") && at("id=\"gpu-0\"") < at("id=\"gpu-7\""));
    let well = shown(&status_of(&node(8), &EventLog::default()));
    assert!(!well.contains("class=\"problems\""), "{well}");
}

#[test]
fn a_release_is_shown_with_its_end() {
    let mut status = status_of(&node(1), &EventLog::default());
    status.nvml.state = NvmlState::Released;
    status.nvml.released_until = Some(status.generated_at);
    let html = shown(&status);
    assert!(html.contains("NVML released until 13:03 UTC") && html.contains("take-up"), "{html}");
}

#[test]
fn a_device_that_is_no_longer_offered_is_shown_for_as_long_as_it_is_held() {
    let mut status = status_of(&node(1), &EventLog::default());
    status.holders_known = true;
    let device = status.resources[0].devices[0].clone();
    let held = |pod: &str, n| status::Device {
        id: format!("{}::{n}", device.id),
        withdrawn: true,
        healthy: false,
        holders: vec![Holder {
            namespace: "ml".to_owned(),
            pod: pod.to_owned(),
            container: "c".to_owned(),
        }],
        ..device.clone()
    };
    let free = status::Device { holders: Vec::new(), ..held("free", 2) };
    status.resources[0].devices.extend([held("train-0", 1), free]);
    let html = shown(&status);
    assert_eq!(html.matches("no longer offered</span>").count(), 2, "the card and the table");
    assert!(html.contains("ml/train-0 (c)") && html.contains("2 no longer offered"), "{html}");
    assert!(html.contains(">1 of 1<br>"), "what is not offered is not counted: {html}");
}

#[test]
fn mig_devices_are_named_by_their_uuids_and_events_of_many_gpus_are_one() {
    let (inventory, event_log) = (node(8), EventLog::default());
    let mut status = status_of(&inventory, &event_log);
    let found = |gpu: u32| Event {
        at: status.generated_at,
        first_at: None,
        kind: EventKind::GpuFound,
        gpu: Some(format!("GPU-{gpu}")),
        gpu_index: Some(gpu),
        xid: None,
        resource: None,
        message: "H100".to_owned(),
        times: 1,
    };
    status.events = (0..8).map(found).collect();
    let mig = status::MigDevice {
        uuid: "MIG-1234".to_owned(),
        index: 0,
        profile: Some("1g.10gb".to_owned()),
        gpu_instance: 1,
        compute_instance: 0,
        memory_bytes: 0,
        engines: None,
    };
    status.gpus[0].mig_devices.push(mig);
    status.resources[0].devices[0].uuid = "MIG-1234".to_owned();
    let html = shown(&status);
    assert!(html.contains("<code>MIG-1234</code>"), "{html}");
    assert!(html.contains("GPUs 0 to 7</a> found: H100"), "{html}");
}

#[test]
fn without_a_script_there_is_a_link_and_nothing_that_only_a_script_can_use() {
    let html = shown(&failed());
    assert!(html.contains("<noscript><a href=\"\">"), "{html}");
    assert!(!html.contains("http-equiv"), "a page that reloads itself cannot be paused");
    assert!(html.contains("id=\"pause\" hidden") && html.contains("role=\"alert\" hidden"));
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let evil = "<img src=x onerror=alert(1)>\"'";
    let mut status = failed();
    status.holders_known = true;
    status.resources[0].name = evil.to_owned();
    let holder =
        Holder { namespace: evil.to_owned(), pod: evil.to_owned(), container: evil.to_owned() };
    status.resources[0].devices[0].holders.push(holder);
    status.resources[0].kubelet =
        Registration { problem: Some(evil.to_owned()), ..Registration::default() };
    status.node = Some(evil.to_owned());
    status.plugin.not_ready.push(evil.to_owned());
    let now = status.generated_at;
    let gpu = &mut status.gpus[0];
    (gpu.model, gpu.uuid, gpu.reserved) =
        (Some(evil.to_owned()), evil.to_owned(), Some(evil.to_owned()));
    let event = Event {
        at: now,
        first_at: Some(now.before(Duration::from_secs(720))),
        kind: EventKind::Finding,
        gpu: None,
        gpu_index: None,
        xid: None,
        resource: Some(evil.to_owned()),
        message: evil.to_owned(),
        times: 2,
    };
    status.events.push(event);
    status.findings.push(status::Finding { kind: evil.to_owned(), message: evil.to_owned() });
    let html = shown(&status);
    assert!(html.contains("2 times, the first <time") && html.contains("12 min ago</time></span>"));
    assert!(
        !html.contains("<img")
            && html.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;").count() >= 9
    );
}

#[test]
fn only_what_carries_the_nonce_may_run_and_nothing_is_loaded_from_elsewhere() {
    let html = shown(&failed());
    assert_eq!(html.matches("<script").count(), 1);
    assert_eq!(html.matches("<style").count(), 1);
    assert_eq!(html.matches(" nonce=\"n0nce\"").count(), 2);
    assert!(!html.contains(" style=\""), "the policy forbids style attributes");
    for elsewhere in ["src=\"http", "href=\"http", "url(", "@import"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    let policy = policy("n0nce");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'nonce-n0nce'"),
        "{policy}"
    );
    assert_ne!(nonce(), nonce());
}

#[test]
fn a_node_without_gpus_says_what_to_do() {
    let html = shown(&status_of(&node(0), &EventLog::default()));
    assert!(
        html.contains("No GPU is known") && html.contains("gpu-device-plugin doctor"),
        "{html}"
    );
}

#[test]
fn replicas_share_a_row_and_many_holders_unfold() {
    let mut status = failed();
    status.holders_known = true;
    let device = status.resources[0].devices[0].clone();
    let replicas = (0..70).map(|n| status::Device {
        id: format!("{}::{n}", device.id),
        replica: Some(n),
        holders: match n {
            0..10 => vec![Holder {
                namespace: "a".to_owned(),
                pod: format!("p{n}"),
                container: "c".to_owned(),
            }],
            _ => Vec::new(),
        },
        ..device.clone()
    });
    status.resources[0].devices = replicas.collect();
    let html = shown(&status);
    assert!(
        html.contains("× 70") && html.contains("10 of 70 held") && html.contains("7 more holders"),
        "{html}"
    );
}
