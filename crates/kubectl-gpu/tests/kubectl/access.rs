//! How the API server is reached.

use std::time::Duration;

use serde_json::Value;

use crate::rig::{Rig, node, run, summary};

async fn rig() -> Rig {
    let rig = Rig::new().await;
    rig.put(&node("node-a", Some(&summary(8, &[]))));
    rig
}

#[tokio::test]
async fn without_the_right_to_list_nodes_it_is_named() {
    let rig = Rig::with(&[]).await;
    let parts = [
        "error: GET /api/v1/nodes: HTTP status 403: User \"agent\" cannot list resource \"nodes\"",
        "what is missing is the right to list nodes (a ClusterRole: resources nodes",
    ];
    rig.run(&[]).await.fails_with(&parts);
    rig.run(&["problems", "-o", "json"]).await.fails_with(&parts);
}

#[tokio::test]
async fn contexts_clusters_users_and_servers_are_those_of_kubectl() {
    let rig = rig().await;
    let mut kubeconfig: Value = serde_json::from_str(&rig.api.kubeconfig()).unwrap();
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    // The current context leads nowhere, with somebody whom nobody knows.
    let nowhere = serde_json::json!({
        "clusters": {"name": "b", "cluster": {"server": "http://127.0.0.1:1"}},
        "users": {"name": "b", "user": {"token": "x"}},
        "contexts": {"name": "b", "context": {"cluster": "b", "user": "b"}},
    });
    for key in ["clusters", "users", "contexts"] {
        kubeconfig[key].as_array_mut().unwrap().push(nowhere[key].clone());
    }
    kubeconfig["current-context"] = "b".into();
    std::fs::write(rig.home.path().join(".kube/config"), kubeconfig.to_string()).unwrap();
    rig.run(&[]).await.fails_with(&["GET /api/v1/nodes: no answer of the API server"]);
    for arguments in [
        &["--context", "a"][..],
        &["--cluster=a", "--user=a"],
        &["--user=a", "-s", &server],
        &["--context=a", "--as=somebody", "--as-group=all", "--request-timeout=5s"],
    ] {
        assert!(rig.run(arguments).await.succeeded().contains("node-a"), "{arguments:?}");
    }
    let parts = ["HTTP status 401", "log in again"];
    rig.run(&["--cluster=a"]).await.fails_with(&parts);
    rig.run(&["--context", "c"]).await.fails_with(&["error: no access to a cluster", "c"]);
    rig.run(&["--as-group=x"]).await.fails_with(&["--as-group needs --as"]);
}

#[tokio::test]
async fn kubeconfigs_are_found_as_kubectl_finds_them() {
    let rig = rig().await;
    let of = rig.home.path().join(".kube/config");
    let there = rig.home.path().join("there");
    std::fs::rename(of, &there).unwrap();
    rig.run(&[]).await.fails_with(&["error: no access to a cluster: there is no kubeconfig"]);
    let there = there.to_str().unwrap();
    assert!(rig.run(&["--kubeconfig", there]).await.succeeded().contains("node-a"));
    rig.run(&["--kubeconfig", "/none"]).await.fails_with(&["no access to a cluster", "/none"]);
    let by_variable = |value: String| {
        let mut command = rig.command(&[]);
        command.env("KUBECONFIG", value);
        run(command)
    };
    assert!(by_variable(format!("/none:{there}")).await.succeeded().contains("node-a"));
    by_variable("/none".to_owned()).await.fails_with(&["$KUBECONFIG names /none: not there"]);
    std::fs::write(there, "clusters: [").unwrap();
    by_variable(there.to_owned()).await.fails_with(&[there]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_as_long_as_said() {
    let rig = rig().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let began = std::time::Instant::now();
    let printed = rig.run(&["-s", &server, "--request-timeout", "1"]).await;
    printed.fails_with(&["nothing came within 1 s (--request-timeout)"]);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_command_line_that_is_wrong_ends_with_2() {
    let rig = rig().await;
    for arguments in [&["-o", "xml"][..], &["doctor"], &["--request-timeout=soon"]] {
        assert_eq!(rig.run(arguments).await.code, 2, "{arguments:?}");
    }
    let help = rig.run(&["--help"]).await.succeeded();
    assert!(help.contains("Usage: kubectl gpu") && help.contains("Exit code: 0"), "{help}");
    assert!(!help.contains("__complete"), "{help}");
}
