//! What a scrape contains.

use std::collections::{BTreeMap, BTreeSet};

use device::testing::node;
use expect_test::expect_file;
use status::{Holder, Status};

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
