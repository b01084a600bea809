//! The log: nobody reads it, and what comes from outside is in it.

use std::time::Duration;

use fake_nvml::profiles;
use simnode::eventually;
use simnode::kubelet::{KubeletVersion, Trouble};
use simnode::node::{HttpAddress, Node, Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};

use crate::health::configured;
use crate::rig::{GPU, PATIENCE, Rig, kubelet, node, plugin, replace};
use crate::stopping::{ATTEMPTS, is_aborted};

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
    for _ in 0..ATTEMPTS {
        let (mut rig, _) = unread().await;
        if is_aborted(&mut rig).await {
            return;
        }
    }
    panic!("each stop was over before the second signal");
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

/// The fields of a line of logfmt, or why it is none. Stricter than those that read it: one space
/// between fields, keys of few characters and each once, values bare or as JSON writes a text.
fn fields(line: &str) -> Result<Vec<(String, String)>, String> {
    let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    let is_bare = |c: char| !"\"=\\;".contains(c) && !c.is_whitespace();
    let (mut rest, mut fields) = (line, Vec::<(String, String)>::new());
    loop {
        let (key, value) = rest.split_once('=').ok_or(format!("no value: {rest:?}"))?;
        if key.is_empty() || !key.chars().all(is_key) {
            return Err(format!("a bad key: {key:?}"));
        }
        if fields.iter().any(|(known, _)| known == key) {
            return Err(format!("{key} is there twice"));
        }
        let value = if value.starts_with('"') {
            let mut texts = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let text = texts.next().and_then(Result::ok).ok_or(format!("a bad text: {value}"))?;
            rest = &value[texts.byte_offset()..];
            text
        } else {
            let end = value.find(' ').unwrap_or(value.len());
            rest = &value[end..];
            let word = &value[..end];
            if word.is_empty() || !word.chars().all(is_bare) {
                return Err(format!("a bad value: {key}={word}"));
            }
            word.to_owned()
        };
        if !rest.is_empty() && !rest.starts_with(' ') {
            return Err(format!("no space before {rest:?}"));
        }
        fields.push((key.to_owned(), value));
        match rest.strip_prefix(' ') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[test]
fn the_parser_of_these_tests_is_strict() {
    for line in ["a=1 b=\"x \\\"y\\\" \\u001b\" c.d=GPU-1:0", "a=\"\""] {
        assert!(fields(line).is_ok(), "{line}: {:?}", fields(line));
    }
    for line in [
        "",
        "word",
        "a",
        "a=1 b",
        "a=x; y=1",
        "a=1  b=2",
        "a=1 a=2",
        "a=\"x",
        "a=\"x\"y",
        "A=1",
        "a=b=c",
        "a=x\"y",
        "reload{a=1}: b=2",
        "a=",
        "a=\"\\u{1b}\"",
    ] {
        assert!(fields(line).is_err(), "{line}: {:?}", fields(line));
    }
}

/// Every line of a plugin, parsed.
fn parsed(plugin: &Plugin) -> Vec<Vec<(String, String)>> {
    let parse = |line: &String| match fields(line) {
        Ok(fields) => fields,
        Err(error) => panic!("{error}\n{line}"),
    };
    plugin.log().iter().map(parse).collect()
}

fn field<'r>(record: &'r [(String, String)], key: &str) -> Option<&'r str> {
    record.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Lets much happen on a node with names that are made to mislead, and a config file that is
/// refused.
async fn eventful(options: impl Fn(&Node) -> PluginOptions) -> Rig {
    const HOSTILE: &str = "H100\n level=ERROR msg=\"x\u{1b}[2J\u{202e}\\";
    let mut state = profiles::h100x8();
    state.gpus[0].name = HOSTILE.to_owned();
    let node = node(state);
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = options(&node);
    let rig = Rig::on(node, config, &options, 8).await;
    rig.kubelet.trouble_pod_resources(Trouble::Hostile);
    rig.kubelet.allocate("pod\nforged =\"", "main", GPU, 1).await.unwrap();
    rig.node.edit_gpu(1, |gpu| gpu.remapped_rows.as_mut().unwrap().pending = true).unwrap();
    rig.logged("GPU is degraded").await;
    rig.xid_until_heard(3, 79).await;
    rig.logged("GPU is Unhealthy").await;
    std::fs::create_dir_all(rig.node.quarantine_directory()).unwrap();
    let quarantined = rig.node.quarantine_directory().join("5");
    replace(&quarantined, "dcgm: \"bad\" memory; a=b\n");
    rig.until_healthy(5, false).await;
    std::fs::remove_file(quarantined).unwrap();
    // A list is sent before the log says why.
    rig.logged("a cause is over").await;
    let file = rig.node.root().join("config.yaml");
    replace(&file, "version: v1\nflags: {migStrategy: \"a = \\\"b\", x: 1}\n");
    rig.logged("the config file is refused").await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_logfmt_in_the_order_of_what_happened() {
    let rig =
        eventful(|node| configured(node, QUICK).env("RUST_LOG", "info,gpu_device_plugin=debug"))
            .await;
    let records = parsed(&rig.plugin);
    for record in &records {
        let keys: Vec<&str> = record.iter().take(3).map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["time", "level", "msg"], "{record:?}");
    }
    let uuid = rig.node.uuid(3);
    let of_gpu = |message: &str| {
        let position = records.iter().position(|record| {
            field(record, "msg") == Some(message) && field(record, "gpu.uuid") == Some(&uuid)
        });
        position.unwrap_or_else(|| panic!("{message} is not logged"))
    };
    assert!(of_gpu("the driver reports an Xid") < of_gpu("GPU is Unhealthy"), "cause first");
    let said = |message: &str| {
        let is_it = |record: &&Vec<(String, String)>| field(record, "msg") == Some(message);
        records.iter().filter(is_it).collect::<Vec<_>>()
    };
    let refused = "the config file is refused, the configuration before stays in force";
    assert_eq!(said(refused).len(), 1, "one event is one record");
    // What was to be done about it is done.
    let over: Vec<_> =
        said("a cause is over").into_iter().flat_map(|of| field(of, "cause")).collect();
    assert!(over.contains(&"quarantined from outside: dcgm: \"bad\" memory; a=b"), "{over:?}");
    let model = said("GPU found").into_iter().find_map(|record| field(record, "model"));
    assert_eq!(model, Some("H100\n level=ERROR msg=\"x\u{1b}[2J\u{202e}\\"), "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_where_that_is_asked_for() {
    let json = |node: &Node| configured(node, QUICK).env("LOG_FORMAT", "json");
    let rig = eventful(json).await;
    for line in rig.plugin.log() {
        let value: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert!(value["message"].is_string() && value["level"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_degraded_gpu_are_named() {
    let node = node(profiles::h100x8());
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let (options, http) = with_http(&node, configured(&node, QUICK));
    let rig = Rig::on(node, config, &options, 8).await;
    rig.kubelet.allocate("trainer", "main", GPU, 8).await.unwrap();
    let known = async || {
        let metrics = http.get("/metrics").await.unwrap().body;
        metrics.contains("pod=\"trainer\"").then_some(())
    };
    eventually("the pod holds the GPUs", PATIENCE, known).await.unwrap();
    rig.node.edit_gpu(1, |gpu| gpu.remapped_rows.as_mut().unwrap().pending = true).unwrap();
    let line = rig.logged("GPU is degraded").await;
    assert!(line.contains("pod=\"default/trainer/main\""), "{line}");
}

/// The lines of a start that is refused.
async fn refused(options: PluginOptions) -> Vec<String> {
    let node = node(profiles::h100x8());
    let mut plugin = Plugin::start(&node, &options).unwrap();
    assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(64), "{:?}", plugin.log());
    plugin.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_start_is_written_as_the_log_is() {
    let mistake = || plugin().env("MIG_STRATEGY", "some\ntimes").env("DEVICE_ID_STRATEGY", "x");
    let unknown = || plugin().arg("--no-such-flag");
    for (options, texts) in [
        (mistake(), &["the configuration was refused", "MIG_STRATEGY", "DEVICE_ID_STRATEGY"][..]),
        (unknown(), &["the command line was refused", "--no-such-flag"]),
    ] {
        let lines = refused(options.clone()).await;
        assert!(lines.len() == 1 && fields(&lines[0]).is_ok(), "{lines:?}");
        for by_flag in [false, true] {
            let json = match by_flag {
                true => options.clone().arg("--log-format=json"),
                false => options.clone().env("LOG_FORMAT", "json"),
            };
            let json = refused(json).await;
            assert_eq!(json.len(), 1, "{json:?}");
            let value: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
            assert_eq!(value["level"], "ERROR");
            for text in texts {
                assert!(lines[0].contains(text) && json[0].contains(text), "{text}: {json:?}");
            }
        }
    }
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
        metrics.contains("pod=\"pod").then_some(metrics)
    };
    let metrics = eventually("the pod holds the GPU", PATIENCE, held).await.unwrap();
    rig.xid_until_heard(0, 79).await;
    rig.logged("GPU is Unhealthy").await;
    for (what, text) in [
        ("the metrics", metrics.clone()),
        ("the page", http.get("/").await.unwrap().body),
        ("readyz", http.get("/readyz").await.unwrap().body),
        ("the log", rig.plugin.log().join("\n")),
        ("the table", status(&rig, &["-o", "wide"]).await),
        ("the YAML", status(&rig, &["-o", "yaml"]).await),
    ] {
        assert_clean(what, &text);
    }
    assert!(metrics.contains("pod=\"pod\\\\nforged"), "{metrics}");
    assert!(rig.plugin.log().iter().any(|line| line.contains("H100\\nforged line\\u001b[2J")));
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
    let line = rig.logged("msg=\"allocated\"").await;
    assert!(line.contains("ids=500") && line.contains("and 436 more"), "{line}");
    assert!(line.len() < 4096, "{line}");
    assert_eq!(
        rig.plugin.log().iter().filter(|line| line.contains("msg=\"allocated\"")).count(),
        1
    );
    let bad = ContainerAllocateRequest { device_ids: vec!["../../../etc\n".to_owned()] };
    let container_requests = vec![container(0), bad.clone(), bad];
    let refused = client.allocate(AllocateRequest { container_requests }).await.unwrap_err();
    assert!(refused.message().contains("is not a device id"), "{refused}");
    rig.logged("refused to allocate").await;
    let lines = rig.plugin.log();
    assert_eq!(lines.iter().filter(|line| line.contains("refused to allocate")).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains("msg=\"allocated\"")).count(), 1);
}
