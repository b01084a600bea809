//! Changes as they come.

use fake_apiserver::Fault;
use serde_json::Value;

use crate::rig::{RIGHTS, Rig, Watching, node, summary};

#[tokio::test]
async fn changes_are_told_over_ends_and_expiries_of_the_watch() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    rig.put(&node("node-b", Some(&summary(8, &[]))));
    let watching = Watching::start(rig.command(&["--watch"]));
    watching.printed(&["node-b", "Ready", "8", "8"]).await;
    rig.put(&node("node-a", Some(&summary(7, &[("error", "GPU 7 lost")]))));
    watching.printed(&["node-a", "Ready", "8", "7", "GPU 7 lost"]).await;
    // What was missed while there was no watch is told.
    rig.api.end_watches();
    rig.put(&node("node-a", Some(&summary(6, &[("error", "GPU 6 lost")]))));
    watching.printed(&["node-a", "6", "GPU 6 lost"]).await;
    rig.api.expire_watches();
    rig.put(&node("node-a", Some(&summary(5, &[("error", "GPU 5 lost")]))));
    watching.printed(&["node-a", "5", "GPU 5 lost"]).await;
    rig.put(&node("node-a", Some(&summary(4, &[("error", "GPU 4 lost")]))));
    watching.printed(&["node-a", "4", "GPU 4 lost"]).await;
    rig.api.expire_watches_midway();
    rig.api.remove("/api/v1/nodes/node-b");
    watching.printed(&["node-b", "Deleted"]).await;
    rig.put(&node("node-c", Some(&summary(8, &[]))));
    watching.printed(&["node-c", "Ready"]).await;
    // Nothing is told twice, and what is not shown changes nothing.
    let out = watching.out.lock().unwrap().clone();
    assert_eq!(out.len(), 1 + 2 + 6, "{out:#?}");
    assert_eq!(*watching.err.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_of_what_is_not_shown_is_not_told() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let watching = Watching::start(rig.command(&["-w", "--no-headers"]));
    watching.printed(&["node-a"]).await;
    let mut heartbeat = node("node-a", Some(&summary(8, &[])));
    heartbeat["metadata"]["annotations"]["other"] = "x".into();
    rig.put(&heartbeat);
    rig.put(&node("node-d", Some(&summary(8, &[]))));
    watching.printed(&["node-d"]).await;
    assert_eq!(watching.out.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for_and_said_once() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let watching = Watching::start(rig.command(&["problems", "-w"]));
    watching.printed(&["NODE", "SEVERITY"]).await;
    rig.api.fail_next([Fault::Code(500), Fault::Code(500)]);
    rig.api.end_watches();
    rig.put(&node("node-a", Some(&summary(7, &[("error", "GPU 7 lost")]))));
    watching.printed(&["node-a", "error", "7", "lost"]).await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    watching.printed(&["node-a", "over", "7", "lost"]).await;
    let err = watching.err.lock().unwrap().clone();
    let lost = err.iter().filter(|line| line.contains("will be tried again")).count();
    // At its start it said that there are no problems.
    assert_eq!((lost, err.len()), (1, 2), "{err:?}");
}

#[tokio::test]
async fn programs_get_each_change_as_a_document() {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let watching = Watching::start(rig.command(&["problems", "-w", "-o", "json"]));
    watching.printed(&["\"problems\": []"]).await;
    rig.put(&node("node-a", Some(&summary(7, &[("error", "GPU 7 lost")]))));
    watching.printed(&["GPU 7 lost"]).await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    watching.printed(&["\"DELETED\""]).await;
    watching.printed(&["}"]).await;
    let text = watching.out.lock().unwrap().join("\n");
    let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let kinds: Vec<Value> = documents.filter_map(Result::ok).map(|of| of["type"].clone()).collect();
    // The last one may not have come to its end.
    assert!(kinds.starts_with(&[Value::Null, "ADDED".into()]), "{text}");
}

#[tokio::test]
async fn without_the_right_to_watch_the_list_is_there_and_the_right_is_named() {
    let rig = Rig::with(&RIGHTS[..2]).await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    let printed = rig.run(&["-w"]).await;
    assert!(printed.out.contains("node-a"), "{printed:?}");
    assert!(printed.err.contains("what is missing is the right to watch nodes"), "{printed:?}");
    assert_eq!(printed.code, 1);
}
