//! The list of nodes and of their problems.

use fake_apiserver::Fault;
use serde_json::{Value, json};

use crate::rig::{Rig, node, run, summary};

/// The most bytes that Kubernetes lets all annotations of an object have.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// What stands on a terminal is what was meant: no control character but the end of a line.
#[track_caller]
fn is_harmless(text: &str) {
    let control = |c: &char| *c != '\n' && (c.is_control() || *c == '\u{202e}');
    assert_eq!(text.chars().find(control), None, "{text:?}");
}

/// 1,000 nodes: some without GPUs, without an agent, with an older or a newer one, not ready, with
/// broken GPUs, and with annotations that somebody else wrote.
pub(crate) fn fleet(rig: &Rig) {
    let labelled = |mut node: Value| {
        node["metadata"]["labels"]["nvidia.com/gpu.present"] = "true".into();
        node
    };
    let escapes = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\n";
    let title = json!({"version": 1, "gpus": 1, "healthy": 0, "driver": escapes,
    "plugin": escapes, "problems": [
        {"severity": "error", "kind": escapes, "title": format!("GPU 0 {escapes} lost")},
    ]});
    rig.api.remove("/api/v1/nodes/node-cpu");
    for number in 0..1_000 {
        let name = format!("node-{number:04}");
        rig.put(&match number {
            10 => node(&name, Some(&summary(7, &[("error", "GPU 7 Xid 79")]))),
            20 => node(&name, Some(&title.to_string())),
            30 => node(&name, Some(&"\u{1b}".repeat(MAX_ANNOTATIONS - 100))),
            40 => node(&name, Some(r#"{"version":1,"gpus":"\u001b[2J","healthy":8,"plugin":7}"#)),
            50 => node(&name, Some(r#"{"version":0}"#)),
            60 => node(&name, Some(r#"{"version":2,"gpu":[]}"#)),
            70 => {
                let mut node = node(&name, Some(&summary(8, &[])));
                node["status"]["conditions"][0]["status"] = "Unknown".into();
                node
            }
            80 => labelled(node(&name, None)),
            _ if number % 10 == 9 => node(&name, None),
            _ => node(&name, Some(&summary(8, &[]))),
        });
    }
}

#[tokio::test]
async fn a_thousand_nodes_are_two_requests_and_none_hides_another() {
    let rig = Rig::new().await;
    fleet(&rig);
    let printed = rig.run(&[]).await;
    assert_eq!(printed.err, "");
    let out = printed.succeeded();
    is_harmless(&out);
    let lines: Vec<&str> = out.lines().collect();
    // Every tenth has no GPUs.
    assert_eq!(lines.len(), 1 + 900, "{:?}", &lines[..3]);
    for (place, start) in [
        (0, "NODE       STATUS    GPUS  HEALTHY  HELD  PROBLEMS"),
        (1, "node-0000  Ready     8     8        3     -"),
        (10, "node-0010  Ready     8     7        3     GPU 7 Xid 79"),
        (19, r"node-0020  Ready     1     0        -     GPU 0 \u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m"),
        (28, "node-0030  Ready     -     -        -     unreadable summary: it is longer"),
        (37, "node-0040  Ready     -     -        -     unreadable summary: no summary"),
        (46, "node-0050  Ready     -     -        -     unreadable summary: version 0, older"),
        (55, "node-0060  Ready     -     -        -     unreadable summary: version 2, newer"),
        (64, "node-0070  NotReady  8     8        3     -"),
        (73, "node-0080  Ready     -     -        -     no summary"),
        (900, "node-0998  Ready     8     8        3     -"),
    ] {
        assert!(lines[place].starts_with(start), "{place}: {}", lines[place]);
    }
    let calls = rig.api.received();
    assert_eq!(calls.len(), 2, "{calls:?}");
    for call in calls {
        let limit = call.query.get("limit").map(String::as_str);
        assert_eq!((call.verb, &*call.resource, limit), ("list", "nodes", Some("500")));
    }
}

#[tokio::test]
async fn problems_of_all_nodes_stand_below_each_other_the_worst_first() {
    let rig = Rig::new().await;
    fleet(&rig);
    let printed = rig.run(&["problems", "-o", "wide"]).await;
    let expected = "nodes that have GPUs by their labels, and no summary: 1\n";
    assert_eq!(printed.err, expected);
    let out = printed.succeeded();
    is_harmless(&out);
    let first: Vec<(&str, &str)> = out
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    assert_eq!(
        first,
        [
            ("NODE", "SEVERITY"),
            ("node-0010", "error"),
            ("node-0020", "error"),
            ("node-0070", "error"),
            ("node-0030", "warning"),
            ("node-0040", "warning"),
            ("node-0050", "warning"),
            ("node-0060", "warning"),
        ]
    );
    let broken = out.lines().find(|line| line.starts_with("node-0010")).unwrap();
    let words: Vec<&str> = broken.split_whitespace().collect();
    let (gpu, uuid) = (&words[2..5], words.last().unwrap());
    assert_eq!((gpu, &uuid[..12]), (&["7", "Xid", "79"][..], "GPU-8f2a1c54"), "{out}");
    assert!(broken.contains("2026-11-28 03:12 UTC"), "{out}");
    assert!(out.contains("node is NotReady"), "{out}");
}

#[tokio::test]
async fn programs_get_json_and_yaml_with_every_node() {
    let rig = Rig::new().await;
    fleet(&rig);
    let json = rig.run(&["-o", "json"]).await.succeeded();
    is_harmless(&json);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["version"], 1);
    let nodes = value["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 900);
    let of = |name: &str| nodes.iter().find(|node| node["node"] == name).unwrap();
    assert_eq!(of("node-0010")["summary"]["problems"][0]["title"], "GPU 7 Xid 79");
    assert_eq!(of("node-0010")["summaryChangedAt"], "2026-11-28T03:12:00.000Z");
    assert!(of("node-0030")["unreadable"].is_string() && of("node-0030")["summary"].is_null());
    assert_eq!(of("node-0080")["summary"], Value::Null);
    let yaml = rig.run(&["-o", "yaml"]).await.succeeded();
    is_harmless(&yaml);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), value);
    let json = rig.run(&["problems", "-o", "json"]).await.succeeded();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["problems"].as_array().unwrap().len(), 7);
    assert_eq!(value["problems"][0]["kind"], "xid");
    let yaml = rig.run(&["-o", "yaml", "problems"]).await.succeeded();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), value);
}

#[tokio::test]
async fn a_narrow_terminal_gets_narrow_lines() {
    let rig = Rig::new().await;
    fleet(&rig);
    for arguments in [&["problems"][..], &[], &["-o", "wide"]] {
        let mut command = rig.command(arguments);
        command.env("COLUMNS", "40");
        let out = run(command).await.succeeded();
        let longest = out.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(40), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_list_whose_pages_expire_is_begun_again() {
    let rig = Rig::new().await;
    fleet(&rig);
    rig.api.fail_next([Fault::None, Fault::Code(410)]);
    let out = rig.run(&["--no-headers"]).await.succeeded();
    assert_eq!(out.lines().count(), 900);
    let calls = rig.api.received();
    let pages: Vec<bool> = calls.iter().map(|call| call.query.contains_key("continue")).collect();
    assert_eq!(pages, [false, true, false, true]);
    rig.api.fail_next([Fault::Code(410); 4]);
    rig.run(&[]).await.fails_with(&["GET /api/v1/nodes: HTTP status 410"]);
}

#[tokio::test]
async fn a_server_that_has_too_much_to_do_is_asked_again_when_it_says() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    rig.api.fail_next([Fault::TooMany(0), Fault::TooMany(0)]);
    assert!(rig.run(&[]).await.succeeded().contains("node-a"));
    assert_eq!(rig.count("list", "nodes"), 3);
    rig.api.fail_next([Fault::TooMany(3_600)]);
    rig.run(&[]).await.fails_with(&["HTTP status 429: too many"]);
}

#[tokio::test]
async fn a_selector_takes_some_nodes_and_all_takes_those_without_gpus() {
    let rig = Rig::new().await;
    let mut node_a = node("node-a", Some(&summary(8, &[])));
    node_a["metadata"]["labels"]["pool"] = "a".into();
    rig.put(&node_a);
    rig.put(&node("node-b", Some(&summary(8, &[]))));
    let names = |out: String| -> Vec<String> {
        out.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let of = async |arguments: &[&str]| names(rig.run(arguments).await.succeeded());
    assert_eq!(of(&["--no-headers"]).await, ["node-a", "node-b"]);
    assert_eq!(of(&["--no-headers", "-l", "pool=a"]).await, ["node-a"]);
    assert_eq!(of(&["--no-headers", "--all"]).await, ["node-a", "node-b", "node-cpu"]);
}

#[tokio::test]
async fn a_cluster_without_gpus_is_said_to_have_none() {
    let rig = Rig::new().await;
    let printed = rig.run(&[]).await;
    assert!(printed.err.starts_with("nothing says that a node has GPUs (nodes: 1)"), "{printed:?}");
    assert_eq!(printed.succeeded(), "");
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let printed = rig.run(&["problems"]).await;
    assert_eq!(printed.err, "no problems (nodes with a summary: 1)\n");
    assert_eq!(printed.succeeded(), "");
    let json = rig.run(&["problems", "-o", "json"]).await.succeeded();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["problems"], json!([]));
}
