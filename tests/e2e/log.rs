//! The log: nobody reads it, and what comes from outside is in it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use fake_nvml::profiles;
use simnode::eventually;
use simnode::kubelet::{KubeletVersion, Trouble};
use simnode::node::{HttpAddress, Node, Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};

use crate::health::configured;
use crate::rig::{GPU, PATIENCE, Rig, kubelet, node, plugin};

const QUICK: &str = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms}\n";
/// What a stop may take, whatever is wrong.
const STOP: Duration = Duration::from_secs(2);
/// More lines than a pipe and the plugin's own queue hold.
const CALLS: usize = 4000;

/// The plugin, serving HTTP on a unix socket.
fn with_http(node: &Node, options: PluginOptions) -> (PluginOptions, HttpAddress) {
    let address = format!("unix:{}", node.root().join("http.sock").display());
    (options.env("HTTP_ADDRESS", &address), HttpAddress::parse(&address))
}

/// Eight H100s with a plugin whose log nobody reads, after so many calls that it is full.
async fn unread() -> (Rig, HttpAddress) {
    let node = node(profiles::h100x8());
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let (options, http) = with_http(&node, configured(&node, QUICK).unread());
    let rig = Rig::on(node, config, &options, 8).await;
    allocate_all(&rig).await;
    (rig, http)
}

/// Allocates all GPUs, over and over. Each call is answered.
async fn allocate_all(rig: &Rig) {
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let device_ids = (0..8).map(|index| rig.node.uuid(index)).collect();
    let request =
        AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] };
    for _ in 0..CALLS {
        let answer = tokio::time::timeout(PATIENCE, client.allocate(request.clone())).await;
        answer.expect("no call is held up").unwrap();
    }
}

async fn dropped_lines(http: &HttpAddress) -> u64 {
    let metrics = http.get("/metrics").await.unwrap().body;
    let name = "gpu_device_plugin_log_lines_dropped_total ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.expect("it is there from the start").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let (mut rig, http) = unread().await;
    assert!(dropped_lines(&http).await > 0);
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(http.get(probe).await.unwrap().status, 200, "{probe}");
    }
    rig.xid_until_heard(3, 79).await;
    allocate_all(&rig).await;
    rig.plugin.terminate().unwrap();
    let status = rig.plugin.wait_exit(STOP).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(rig.node.plugin_sockets().is_empty());
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_once_somebody_reads_again() {
    let (mut rig, http) = unread().await;
    let dropped = dropped_lines(&http).await;
    rig.plugin.read_log();
    let line = rig.logged("log lines were dropped because nobody read standard error").await;
    let lines: u64 = line.rsplit("lines=").next().unwrap().parse().unwrap();
    assert!(lines >= dropped, "{line}, {dropped} by the metric a moment before");
    rig.node.xid(3, 79).unwrap();
    rig.logged("GPU is Unhealthy").await;
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(STOP).await.unwrap();
    assert_eq!(rig.plugin.log().iter().filter(|line| line.contains("dropped")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts_while_nobody_reads_the_log() {
    let (mut rig, _) = unread().await;
    // A kubelet that does not close its connection keeps the first stop busy for its grace.
    let _frozen = rig.kubelet.freeze().unwrap();
    let status = loop {
        rig.plugin.terminate().unwrap();
        if let Ok(status) = rig.plugin.wait_exit(Duration::from_millis(50)).await {
            break status;
        }
    };
    assert_eq!(status.signal(), Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_start_is_the_last_line() {
    let node = node(profiles::h100x8());
    let _kubelet = kubelet(node.kubelet()).await;
    let library = node.root().join("no-such-library");
    let options = plugin().arg("--nvml-library").arg(library).arg("--fail-on-init-error=true");
    let mut plugin = Plugin::start(&node, &options).unwrap();
    assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(1));
    let log = plugin.log();
    assert!(log.last().is_some_and(|line| line.contains("ERROR")), "{log:#?}");
}

/// Nothing in a text can begin a line or control a terminal.
fn assert_clean(what: &str, text: &str) {
    let is_clean = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
    assert!(text.chars().all(is_clean), "{what}: {text:?}");
    assert!(text.lines().all(|line| !line.starts_with("forged")), "{what}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_from_outside_begins_a_line_or_controls_a_terminal() {
    const HOSTILE: &str = "H100\nforged line\u{1b}[2J\u{202e}";
    let mut state = profiles::h100x8();
    state.gpus[0].name = HOSTILE.to_owned();
    state.driver.version = "580\nforged".to_owned();
    let node = node(state);
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let (options, http) = with_http(&node, configured(&node, QUICK));
    let rig = Rig::on(node, config, &options, 8).await;
    rig.kubelet.trouble_pod_resources(Trouble::Hostile);
    rig.kubelet.allocate("pod\nforged\u{1b}[2J", "main\u{202e}", GPU, 1).await.unwrap();
    let held = async || {
        let metrics = http.get("/metrics").await.unwrap().body;
        metrics.contains("pod=\"pod\\\\nforged").then_some(metrics)
    };
    let metrics = eventually("the pod holds the GPU", PATIENCE, held).await.unwrap();
    rig.xid_until_heard(0, 79).await;
    rig.logged("GPU is Unhealthy").await;
    for (what, text) in [
        ("the metrics", metrics),
        ("the page", http.get("/").await.unwrap().body),
        ("readyz", http.get("/readyz").await.unwrap().body),
        ("the log", rig.plugin.log().join("\n")),
        ("the table", status(&rig, &["-o", "wide"]).await),
        ("the YAML", status(&rig, &["-o", "yaml"]).await),
    ] {
        assert_clean(what, &text);
    }
    assert!(rig.plugin.log().iter().any(|line| line.contains("H100\\nforged line\\u{1b}[2J")));
}

/// What the subcommand prints.
async fn status(rig: &Rig, args: &[&str]) -> String {
    let mut options = PluginOptions::new(plugin().binary).bare().arg("status");
    let address = format!("unix:{}", rig.node.root().join("http.sock").display());
    options = options.arg("--http-address").arg(address);
    options = args.iter().fold(options, |options, arg| options.arg(arg));
    let mut status = Plugin::start(&rig.node, &options).unwrap();
    assert_eq!(status.wait_exit(PATIENCE).await.unwrap().code(), Some(0), "{:?}", status.log());
    status.log().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocate_is_one_line_however_many_containers_it_is_for() {
    let node = node(profiles::h100x8());
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let container =
        |index: usize| ContainerAllocateRequest { device_ids: vec![rig.node.uuid(index % 8)] };
    let container_requests = (0..500).map(container).collect();
    client.allocate(AllocateRequest { container_requests }).await.unwrap();
    let line = rig.logged(" allocated ").await;
    assert!(line.contains("ids=500") && line.contains("and 436 more"), "{line}");
    assert!(line.len() < 4096, "{line}");
    assert_eq!(rig.plugin.log().iter().filter(|line| line.contains(" allocated ")).count(), 1);
    let bad = ContainerAllocateRequest { device_ids: vec!["../../../etc\n".to_owned()] };
    let container_requests = vec![container(0), bad.clone(), bad];
    let refused = client.allocate(AllocateRequest { container_requests }).await.unwrap_err();
    assert!(refused.message().contains("is not a device id"), "{refused}");
    rig.logged("refused to allocate").await;
    let lines = rig.plugin.log();
    assert_eq!(lines.iter().filter(|line| line.contains("refused to allocate")).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains(" allocated ")).count(), 1);
}
