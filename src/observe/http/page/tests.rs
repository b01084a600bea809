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
        "NUMA node 1",
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
    status.plugin.hostname = Some(evil.to_owned());
    status.plugin.not_ready.push(evil.to_owned());
    let now = status.generated_at;
    let gpu = &mut status.gpus[0];
    (gpu.model, gpu.uuid, gpu.reserved) =
        (Some(evil.to_owned()), evil.to_owned(), Some(evil.to_owned()));
    let event = Event {
        at: now,
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
