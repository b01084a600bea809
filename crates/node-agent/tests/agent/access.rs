//! Without access to the API, or with little.

use fake_apiserver::Fault;

use crate::in_process;
use crate::rig::{FakePlugin, NODE, RIGHTS, Rig, h200, start, until};

const PRODUCT: &str = "nvidia.com/gpu.product";

#[tokio::test]
async fn without_a_right_it_says_which_and_goes_on_once_it_has_it() {
    let rig = Rig::with(&["get nodes"], h200()).await;
    let agent = rig.agent(&["--labels=node", "--node-condition", "--events"]);
    agent.logged("cannot patch resource \"nodes\"").await;
    agent.logged("cannot patch resource \"nodes/status\"").await;
    // Each function has rights of its own, and works without those of the others.
    rig.api.grant(&["patch nodes/status"]);
    rig.until_condition("False", "GPUsHealthy").await;
    assert!(rig.api.labels(NODE, "nvidia.com/").is_empty());
    rig.api.grant(RIGHTS);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    agent.logged("the labels of the Node are written").await;
    let warnings = agent.log().iter().filter(|line| line.contains("will retry for good")).count();
    assert_eq!(warnings, 2, "each reason once: {:?}", agent.log());
}

#[tokio::test]
async fn without_a_server_or_a_way_to_it_it_retries_for_good() {
    let rig = Rig::new().await;
    let kubeconfig = rig.path("later");
    let agent = start(&rig.plugin.socket, &kubeconfig, &["--labels=node"]);
    agent.logged("no access to the Kubernetes API").await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let there = rig.api.kubeconfig();
    let server = there.split("http://").nth(1).unwrap().split('"').next().unwrap().to_owned();
    std::fs::write(&kubeconfig, there.replace(&server, &address.to_string())).unwrap();
    agent.logged("the API server is not reached").await;
    // What is there now is used by the next process; this one knows the server's address.
    std::fs::write(&kubeconfig, &there).unwrap();
    let agent = start(&rig.plugin.socket, &kubeconfig, &["--labels=node"]);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    drop(agent);
}

#[tokio::test]
async fn a_token_that_is_not_good_any_more_is_read_again() {
    let rig = Rig::new().await;
    let agent = rig.agent(&["--labels=node", "--sleep-interval=1s"]);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    rig.api.set_token("the-next");
    agent.logged("the API server answered 401 Unauthorized").await;
    rig.write_kubeconfig();
    let mut other = h200();
    other["gpus"][0]["model"] = "NVIDIA H100".into();
    rig.plugin.set(other);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H100")]).await;
}

#[tokio::test]
async fn a_plugin_that_comes_later_is_waited_for() {
    let rig = Rig::new().await;
    let socket = rig.path("another.sock");
    let agent = start(&socket, &rig.path("kubeconfig"), &["--labels=node"]);
    agent.logged("the plugin does not answer, will retry for good").await;
    let _plugin = FakePlugin::start(socket, h200());
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
}

#[tokio::test(flavor = "local")]
async fn a_plugin_that_restarts_is_followed() {
    let mut rig = Rig::new().await;
    let _running = in_process::start(&rig, &["--labels=node"]);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    let mut other = h200();
    other["gpus"][0]["model"] = "NVIDIA H100".into();
    rig.plugin = FakePlugin::start(rig.plugin.socket.clone(), other);
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H100")]).await;
}

#[tokio::test(flavor = "local")]
async fn a_server_that_is_too_busy_is_left_alone_for_as_long_as_it_wants() {
    let rig = Rig::new().await;
    // The first two are of the labels and of what was turned off.
    let faults = [Fault::TooMany(3), Fault::TooMany(3), Fault::Code(500), Fault::LostAnswer];
    rig.api.fail_next(faults);
    let _running = in_process::start(&rig, &["--labels=node"]);
    let began = tokio::time::Instant::now();
    until("the refusal", || match rig.api.received().first() {
        Some(call) if call.code == 429 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    rig.until_labels(PRODUCT, &[(PRODUCT, "NVIDIA-H200")]).await;
    assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
    let codes: Vec<u16> = rig.api.received().iter().map(|call| call.code).collect();
    assert_eq!(codes[..3], [429, 429, 500]);
}

#[tokio::test]
async fn what_does_not_fit_together_is_said_at_once() {
    let rig = Rig::new().await;
    for (arguments, text) in [
        (&[][..], "nothing is turned on"),
        (&["--labels=node", "--node-name=a/b"], "is not the name of a node"),
        (&["--labels=node", "--machine-type-file=/absent"], "reading /absent"),
    ] {
        let (status, lines) = rig.agent(arguments).wait().await;
        assert_eq!(status.code(), Some(1), "{lines:?}");
        assert!(lines.concat().contains(text), "{lines:?}");
    }
}
