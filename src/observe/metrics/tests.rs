//! What a scrape contains.

use std::collections::{BTreeMap, BTreeSet};

use device::testing::node;
use expect_test::expect_file;
use status::{Holder, NvmlState, Reason, Status};

use super::*;
use crate::observe::event_log::EventLog;
use crate::observe::tests::{status_of, xid};
use crate::util::counters::Histogram;

const BOUNDS: &[std::time::Duration] =
    &[std::time::Duration::from_millis(1), std::time::Duration::from_secs(1)];

fn snapshot(status: Status) -> MetricsSnapshot {
    let distribution = Histogram::new(BOUNDS).distribution();
    let of = ResourceCounters {
        registrations: BTreeMap::from([("ok", 1), ("refused", 0)]),
        allocated: 3,
        refused: 1,
        updates: 2,
        notes: BTreeMap::from([("too_few", 1)]),
    };
    MetricsSnapshot {
        resources: status
            .resources
            .iter()
            .map(|resource| (resource.name.clone(), of.clone()))
            .collect(),
        status,
        rustc: "1.89.0",
        calls: vec![
            ("Allocate", "OK", distribution.clone()),
            ("Allocate", "InvalidArgument", distribution.clone()),
        ],
        rounds: distribution,
        nvml_errors: vec![("nvmlDeviceGetMemoryInfo", "GPU_IS_LOST".to_owned(), 4)],
        dropped_log_lines: 7,
        process: None,
    }
}

fn one_failed() -> Status {
    let (mut inventory, event_log) = (node(2), EventLog::default());
    xid(&mut inventory, &event_log, 1, 79, 40);
    let mut status = status_of(&inventory, &event_log);
    let holder = |name: &str| Holder {
        namespace: "default".to_owned(),
        pod: format!("train-{name}"),
        container: "ma\"in".to_owned(),
    };
    status.resources[0].devices[0].holders.push(holder("0"));
    status
}

#[test]
fn a_scrape_of_a_node_with_a_failed_gpu() {
    let text = exposition(&snapshot(one_failed()));
    expect_file!["tests.txt"].assert_eq(&text);
}

#[test]
fn every_series_occurs_once_and_under_its_own_metric() {
    let text = exposition(&snapshot(one_failed()));
    let (mut seen, mut current) = (BTreeSet::new(), "");
    for line in text.lines() {
        if let Some(metric) = line.strip_prefix("# TYPE ") {
            let (name, kind) = metric.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            current = name;
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(current), "{series} below {current}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} stands twice");
        }
    }
}

#[test]
fn replicas_add_devices_and_no_series() {
    let status = one_failed();
    let mut shared = status.clone();
    let devices = &mut shared.resources[0].devices;
    let replicas = devices.iter().flat_map(|device| {
        (0..256).map(move |n| status::Device {
            id: format!("{}::{n}", device.id),
            replica: Some(n),
            ..device.clone()
        })
    });
    *devices = replicas.collect();
    let count = |status| exposition(&snapshot(status)).lines().count();
    assert_eq!(count(shared), count(status));
}

/// The lines about problems.
fn problems_of(status: Status) -> Vec<String> {
    let text = exposition(&snapshot(status));
    let prefix = "gpu_device_plugin_problem_since_timestamp_seconds{";
    text.lines().filter_map(|line| line.strip_prefix(prefix).map(str::to_owned)).collect()
}

fn reason(kind: &str, message: &str) -> Reason {
    let template = one_failed().gpus[1].reasons[0].clone();
    Reason { kind: kind.to_owned(), xid: None, message: message.to_owned(), ..template }
}

#[test]
fn a_withdrawn_device_is_no_failure() {
    let mut status = one_failed();
    status.gpus.iter_mut().for_each(|gpu| gpu.reasons.clear());
    let device = &mut status.resources[0].devices[1];
    (device.withdrawn, device.healthy, device.reasons) =
        (true, false, vec!["other_owner".to_owned()]);
    let uuid = device.uuid.clone();
    let text = exposition(&snapshot(status));
    for line in ["unhealthy\"} 0", "withdrawn\"} 1", "healthy\"} 1"] {
        let line =
            format!("gpu_device_plugin_devices{{resource=\"nvidia.com/gpu\",health=\"{line}");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    for metric in ["device_healthy", "device_unhealthy_reason"] {
        let series = format!("gpu_device_plugin_{metric}{{uuid=\"{uuid}\"");
        assert!(!text.contains(&series), "{series} in\n{text}");
    }
}

#[test]
fn a_fault_of_nvml_is_one_problem_and_none_of_each_gpu() {
    let mut status = one_failed();
    let fault = reason("driver_not_loaded", "the NVIDIA driver is not loaded");
    (status.nvml.state, status.nvml.fault) = (NvmlState::Down, Some(fault.clone()));
    let follow = ["not_answered", "nvml_error", "nvml_unresponsive"];
    for gpu in &mut status.gpus {
        gpu.reasons.push(fault.clone());
        gpu.reasons.extend(follow.map(|kind| reason(kind, "NVML fails")));
    }
    let problems = problems_of(status);
    assert_eq!(problems.len(), 2, "the fault, and the Xid from before: {problems:#?}");
    assert!(problems[0].starts_with("effect=\"unhealthy\",reason=\"driver_not_loaded\""));
    assert!(problems[1].contains("xid=\"79\""));
}

#[test]
fn equal_problems_of_a_gpu_are_one_since_the_first() {
    let mut status = one_failed();
    let again = status.gpus[1].reasons[0].clone();
    let later = Reason { since: status.generated_at, ..again.clone() };
    status.gpus[1].reasons = vec![later, again];
    assert_eq!(problems_of(status), problems_of(one_failed()));
}

#[test]
fn the_text_of_another_program_is_in_no_label() {
    let mut status = one_failed();
    status.gpus[1].reasons = vec![reason("external", "quarantined from outside: dcgm 12:00:01")];
    let problems = problems_of(status);
    assert!(problems[0].contains("message=\"quarantined from outside\""), "{problems:#?}");
    let mut status = one_failed();
    status.gpus[1].reasons = vec![reason("nvml_error", &"ü".repeat(1000))];
    assert!(problems_of(status)[0].len() < 600);
}

#[test]
fn a_counter_whose_labels_are_known_exists_before_its_first_event() {
    let series = |status| {
        let text = exposition(&snapshot(status));
        let total = "gpu_device_plugin_xids_total{uuid=\"GPU-1\"} ";
        text.lines().find_map(|line| line.strip_prefix(total).map(str::to_owned))
    };
    let mut before = one_failed();
    before.gpus[1].xids.clear();
    assert_eq!(series(before).as_deref(), Some("0"));
    assert_eq!(series(one_failed()).as_deref(), Some("1"));
}
