//! The cells of rows.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    serde_json::from_value(json!("2026-11-28T04:12:00Z")).unwrap()
}

fn node(status: &str, summary: Summary) -> NodeView {
    NodeView {
        name: "node-a".to_owned(),
        status: status.to_owned(),
        kubelet: "v1.33.1".to_owned(),
        has_gpu_label: true,
        summary,
        changed: serde_json::from_value(json!("2026-11-28T03:12:00Z")).ok(),
    }
}

fn broken() -> Summary {
    let problem = |severity: &str, title: &str| {
        json!({"severity": severity, "kind": "xid", "title": title, "subject": &title[..5],
            "gpus": ["GPU-0a"], "since": "2026-11-28T03:12:00Z"})
    };
    let brief = json!({"version": 1, "gpus": 8, "healthy": 7, "held": 3,
    "driver": "580.159.04", "plugin": "0.1.0", "moreProblems": 4, "problems": [
        problem("error", "GPU 7 Xid 79"), problem("warning", "GPU 0 degraded"),
    ]});
    Summary::Read(serde_json::from_value(brief).unwrap())
}

fn cells<I: Item>(node: &NodeView, wide: bool) -> Vec<String> {
    let shown = if wide { I::HEADINGS.len() } else { I::NARROW };
    I::of(node).iter().map(|item| item.cells(now(), wide)[..shown].join("|")).collect()
}

#[test]
fn a_node_is_one_row() {
    let unreadable = Summary::Unreadable("x".repeat(100));
    let cut = format!("unreadable summary: {}…", "x".repeat(27));
    for (status, summary, expected) in [
        ("Ready", broken(), "8|7|3|GPU 7 Xid 79, 5 more|580.159.04|0.1.0|60 min".to_owned()),
        ("NotReady", Summary::Missing, "-|-|-|no summary|-|-|60 min".to_owned()),
        ("Ready", unreadable, format!("-|-|-|{cut}|-|-|60 min")),
    ] {
        let expected = format!("node-a|{status}|{expected}");
        assert_eq!(cells::<NodeItem>(&node(status, summary), false), [expected]);
    }
    let wide = "node-a|Ready|8|7|3|GPU 7 Xid 79, GPU 0 degraded, 4 more|580.159.04|0.1.0|\
                60 min|v1.33.1";
    assert_eq!(cells::<NodeItem>(&node("Ready", broken()), true), [wide]);
}

#[test]
fn each_problem_is_a_row_and_so_is_a_node_that_says_nothing_new() {
    assert_eq!(
        cells::<ProblemItem>(&node("Ready", broken()), false),
        [
            "node-a|error|7|Xid 79|03:12 UTC|60 min",
            "node-a|warning|0|degraded|03:12 UTC|60 min",
            "node-a|-|-|4 more: kubectl gpu node-a|-|-",
        ]
    );
    let wide = "node-a|error|7|Xid 79|03:12 UTC|60 min|xid|580.159.04|GPU-0a";
    assert_eq!(cells::<ProblemItem>(&node("Ready", broken()), true)[0], wide);
    assert_eq!(
        cells::<ProblemItem>(&node("NotReady", Summary::Missing), true),
        ["node-a|error|-|node is NotReady: its summary may be outdated|-|-|node_not_ready|-|-"]
    );
    let unreadable = node("Ready", Summary::Unreadable("version 9".to_owned()));
    let expected = "node-a|warning|-|unreadable summary: version 9|-|-";
    assert_eq!(cells::<ProblemItem>(&unreadable, false), [expected]);
}

#[test]
fn a_problem_is_shown_whole_where_no_gpu_is_known_or_its_title_does_not_begin_with_it() {
    for (gpus, subject, title, expected) in [
        // As an older agent has it.
        (&[][..], "", "GPU 7 Xid 79", "-|GPU 7 Xid 79"),
        (&[], "NVML", "NVML driver not loaded", "-|NVML driver not loaded"),
        (&["GPU-a", "GPU-b"], "GPUs 0 and 1", "GPUs 0 and 1 lost", "0 and 1|lost"),
        (
            &["GPU-a"],
            "GPU-a at 0000:17:00.0",
            "GPU-a at 0000:17:00.0 lost",
            "GPU-a at 0000:17:00.0|lost",
        ),
        (&["GPU-a"], "GPU 0", "something else", "0|something else"),
        (&["GPU-a"], "GPU 0", "GPU 0", "0|GPU 0"),
    ] {
        let brief = json!({"version": 1, "gpus": 8, "healthy": 7, "plugin": "0.1.0", "problems": [
            {"severity": "error", "kind": "k", "title": title, "subject": subject, "gpus": gpus},
        ]});
        let summary = Summary::Read(serde_json::from_value(brief).unwrap());
        let expected = format!("node-a|error|{expected}|-|-");
        assert_eq!(cells::<ProblemItem>(&node("Ready", summary), false), [expected]);
    }
}

#[test]
fn what_is_gone_says_so() {
    let node = node("Ready", broken());
    assert_eq!(NodeItem::of(&node)[0].gone(now(), false)[1], "Deleted");
    assert_eq!(ProblemItem::of(&node)[0].gone(now(), false)[1], "over");
}
