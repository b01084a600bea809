//! The status as a table.

use device::testing::node;
use expect_test::expect_file;
use status::{Device, Event, EventKind, Finding, Holder, Status, TableStyle, table};

use super::{status_of, xid};
use crate::observe::event_log::EventLog;

fn rendered(status: &Status, wide: bool) -> String {
    table(status, TableStyle { wide, ..TableStyle::default() })
}

fn status() -> Status {
    let (mut inventory, event_log) = (node(3), EventLog::default());
    xid(&mut inventory, &event_log, 1, 79, 40);
    let mut status = status_of(&inventory, &event_log);
    status.holders_known = true;
    let holder =
        |pod: &str| Holder { namespace: "ml".into(), pod: pod.into(), container: "main".into() };
    status.resources[0].devices[0].holders = vec![holder("train-0")];
    status.resources[0].devices[2].holders = ["a", "b", "c"].map(holder).into();
    status
}

#[test]
fn the_table_reads_like_this() {
    let mut status = status();
    status.findings =
        vec![Finding { kind: "x".into(), message: "GPU 2 has MIG mode on; do something".into() }];
    status.resources[0].kubelet.registered = false;
    status.resources[0].kubelet.problem = Some("the kubelet is not there".into());
    expect_file!["table.txt"].assert_eq(&rendered(&status, false));
}

#[test]
fn a_wide_table_has_everything() {
    let text = rendered(&status(), true);
    for part in ["ml/a/main, ml/b/main, ml/c/main", "SINCE", "60 s", "GPU-1", "Last events", "UUID"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn no_name_breaks_a_line_or_controls_the_terminal() {
    let hostile = || "x\nforged line\u{1b}[2J\u{202e}".to_owned();
    let mut status = status();
    status.plugin.not_ready = vec![hostile()];
    status.plugin.ready = false;
    status.nvml.driver_version = Some(hostile());
    status.gpus[0].model = Some(hostile());
    status.gpus[2].pci_bus_id = Some(hostile());
    status.resources[0].kubelet.registered = false;
    status.resources[0].kubelet.problem = Some(hostile());
    status.resources[0].devices[0].holders[0].pod = hostile();
    status.findings = vec![Finding { kind: "x".into(), message: hostile() }];
    status.events[0].message = hostile();
    let text = rendered(&status, true);
    assert_eq!(text.matches("x\\nforged line\\u{1b}[2J\\u{202e}").count(), 8, "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    assert!(!text.contains("\nforged"), "{text}");
}

#[test]
fn the_end_of_a_cause_does_not_read_like_its_beginning() {
    let mut status = status();
    let event = |kind| Event { kind, message: "Xid 79".into(), ..status.events[0].clone() };
    status.events = [EventKind::GpuUnhealthy, EventKind::CauseOver].map(event).into();
    let text = rendered(&status, true);
    assert!(text.contains("GPU 1 is Unhealthy: Xid 79"), "{text}");
    assert!(text.contains("GPU 1 cause is over: Xid 79"), "{text}");
}

#[test]
fn replicas_are_one_line_and_what_is_not_offered_is_a_line_of_its_own() {
    let mut status = status();
    let device = status.resources[0].devices[0].clone();
    let replica =
        |n: u32| Device { id: format!("{}::{n}", device.id), replica: Some(n), ..device.clone() };
    status.resources[0].devices = (0..4).map(replica).collect();
    status.gpus[1].resources.clear();
    status.gpus[1].reserved = Some("excluded by !1".into());
    status.gpus[2].resources.clear();
    status.holders_known = false;
    let text = rendered(&status, false);
    assert!(
        text.lines().any(|line| line.contains("nvidia.com/gpu x4 ") && line.ends_with('?')),
        "{text}"
    );
    assert!(text.contains("reserved: excluded by !1"), "{text}");
    assert!(text.contains("which pod holds which device is not known"), "{text}");
    let mut none = status.clone();
    none.gpus.clear();
    none.resources.clear();
    assert!(rendered(&none, true).contains("no GPUs"));
}
