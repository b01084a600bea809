//! NVML released and taken up again: by the subcommands, over the control socket, and by signals.

use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::Rule;
use simnode::node::{HttpAddress, Node, PluginOptions};

use crate::health::configured;
use crate::journal::Journal;
use crate::look::{Printed, run};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, node, plugin};

const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const HUNG: &str = "nvmlDeviceGetMemoryInfo";

fn options(node: &Node) -> PluginOptions {
    configured(
        node,
        "health: {pollInterval: 100ms, callDeadline: 300ms, releaseFor: 1h, relapses: 100}",
    )
    .env("HTTP_ADDRESS", "127.0.0.1:0")
}

/// Eight H100s whose NVML stays released until it is taken up.
async fn rig() -> Rig {
    let node = eight_h100s();
    let (config, options) = (node.kubelet(), options(&node));
    Rig::on(node, config, &options, 8).await
}

impl Rig {
    async fn say(&self, words: &[&str]) -> Printed {
        run(&self.node, &plugin(), words).await
    }

    async fn http(&self) -> HttpAddress {
        self.plugin.http(PATIENCE).await.unwrap()
    }

    /// NVML's state by the status.
    async fn nvml(&self) -> String {
        let answer = self.http().await.get("/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        status["nvml"]["state"].as_str().unwrap().to_owned()
    }

    fn has_gpus_open(&self) -> bool {
        !self.plugin.figures().unwrap().gpu_devices.is_empty()
    }

    fn count(&self, text: &str) -> usize {
        self.plugin.log().iter().filter(|line| line.contains(text)).count()
    }

    /// The driver is loaded, or not.
    fn load_driver(&self, loaded: bool) {
        self.node.edit(|state| state.driver.loaded = loaded).unwrap();
    }
}

/// Whether a subcommand has done what it says, with this in its text.
#[track_caller]
fn assert_said(printed: &Printed, code: i32, text: &str) {
    assert!(
        printed.code == Some(code) && printed.text.contains(text),
        "{:?}: {}",
        printed.code,
        printed.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_twice_and_taking_up_twice_are_each_the_same_as_once() {
    let rig = rig().await;
    assert_said(&rig.say(&["release", "--for", "10m"]).await, 0, "NVML is released for 600 s");
    assert!(!rig.has_gpus_open(), "it is said when it is true");
    assert_eq!(rig.nvml().await, "letGo");
    // The later end counts.
    assert_said(&rig.say(&["release", "--for", "5s"]).await, 0, "NVML is released for ");
    assert_said(&rig.say(&["release"]).await, 0, "NVML is released for 3600 s");
    assert_eq!(rig.count("NVML is released, so that"), 1);
    assert!(!rig.has_gpus_open());
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    for _ in 0..2 {
        assert_said(&rig.say(&["take-up"]).await, 0, "NVML is in use");
        assert_eq!(rig.nvml().await, "up");
        assert!(rig.has_gpus_open());
    }
    assert_eq!(rig.count("taking up NVML again"), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signals_do_the_same_and_two_of_one_do_not_cancel_each_other() {
    let rig = rig().await;
    for _ in 0..2 {
        let seen = rig.plugin.log().len();
        rig.plugin.signal(SIGUSR1).unwrap();
        rig.plugin
            .wait_for_log_after(seen, "SIGUSR1: a request to release NVML", PATIENCE)
            .await
            .unwrap();
        rig.logged("NVML is released").await;
    }
    assert_said(&rig.say(&["release"]).await, 0, "NVML is released");
    assert_eq!((rig.nvml().await.as_str(), rig.has_gpus_open()), ("letGo", false));
    rig.plugin.signal(SIGUSR2).unwrap();
    rig.logged("NVML is in use, as it was asked to be").await;
    assert_eq!(rig.nvml().await, "up");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_while_nvml_is_down_is_refused_at_once_and_never_fires_later() {
    let mut state = profiles::h100x8();
    state.driver.loaded = false;
    let node = node(state);
    let kubelet = kubelet(node.kubelet()).await;
    let journal = Journal::of(&node);
    let options = journal.kept_by(options(&node)).env("FAIL_ON_INIT_ERROR", "false");
    let plugin = simnode::node::Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.logged("no GPUs to serve yet").await;
    rig.logged("serving the control socket").await;
    let refused = "NVML is not in use, so that there is nothing to release";
    assert_said(&rig.say(&["release"]).await, 1, refused);
    let seen = rig.plugin.log().len();
    rig.plugin.signal(SIGUSR1).unwrap();
    let asked = "SIGUSR1: a request to release NVML";
    rig.plugin.wait_for_log_after(seen, asked, PATIENCE).await.unwrap();
    rig.eventually("two refusals", async || (rig.count(refused) == 2).then_some(())).await;
    assert_said(&rig.say(&["take-up"]).await, 1, "NVML is not released, and is down");
    rig.load_driver(true);
    rig.until("all eight", |view| view.allocatable(GPU) == 8).await;
    // As long as it takes to notice another Xid.
    rig.xid_until_heard(3, 79).await;
    assert_eq!((rig.nvml().await.as_str(), rig.count("NVML is released")), ("up", 0));
    assert_eq!(journal.count("nvmlShutdown"), 0);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_named_and_the_release_withdrawn_for_good() {
    let rig = rig().await;
    rig.node.edit_gpu(5, |gpu| gpu.rules = vec![Rule::hang(HUNG)]).unwrap();
    rig.until_healthy(5, false).await;
    let printed = rig.say(&["release"]).await;
    let held = format!("{HUNG} about {} has not returned for ", rig.node.uuid(5));
    assert_said(&printed, 1, &held);
    assert!(printed.text.contains("the request is withdrawn"), "{}", printed.text);
    assert!(rig.has_gpus_open());
    // The others are watched again, and nothing is released once the call returns.
    rig.xid_until_heard(1, 79).await;
    rig.node.restore(5).unwrap();
    rig.until_healthy(5, true).await;
    assert_eq!((rig.nvml().await.as_str(), rig.count("NVML is released,")), ("up", 0));
    assert_said(&rig.say(&["release"]).await, 0, "NVML is released");
    assert!(!rig.has_gpus_open());
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_up_comes_before_a_release_that_a_call_holds_up() {
    let rig = rig().await;
    rig.node.edit_gpu(5, |gpu| gpu.rules = vec![Rule::hang(HUNG)]).unwrap();
    rig.until_healthy(5, false).await;
    let release = async {
        assert_said(&rig.say(&["release"]).await, 1, "it was taken up again before that was done");
    };
    let take_up = async {
        rig.logged("a request over the control socket to release NVML").await;
        rig.say(&["take-up"]).await
    };
    let ((), _) = tokio::join!(release, take_up);
    rig.xid_until_heard(1, 79).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_changes_nothing_over_any_address() {
    let rig = rig().await;
    let socket = rig.node.state_directory().join("status.sock");
    let http = rig.http().await;
    rig.logged("serving the status socket").await;
    for address in [http, HttpAddress::Unix(socket)] {
        for path in ["/let-go", "/release", "/take-up", "/", "/status"] {
            for method in ["POST", "PUT", "DELETE"] {
                let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let answer = address.ask(&request).await.unwrap();
                assert!(matches!(answer.status, 404 | 405 | 410), "{path}: {answer:?}");
            }
        }
        let ask = "POST /let-go HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let answer = address.ask(ask).await.unwrap();
        assert_eq!(answer.status, 410);
        assert!(answer.body.contains("gpu-device-plugin release"), "{}", answer.body);
    }
    rig.xid_until_heard(1, 79).await;
    assert_eq!((rig.nvml().await.as_str(), rig.count("request to release")), ("up", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_refused() {
    let rig = rig().await;
    for time in ["0s", "2h", "soon", "-5s"] {
        assert_said(
            &rig.say(&["release", &format!("--for={time}")]).await,
            64,
            "from 1s to 3600 s",
        );
    }
    let nobody = eight_h100s();
    for verb in ["release", "take-up"] {
        let printed = run(&nobody, &plugin(), &[verb]).await;
        assert_said(&printed, 2, "control.sock: there is no such socket");
        assert!(printed.text.contains(&format!("gpu-device-plugin {verb})")), "{}", printed.text);
    }
    assert_eq!(rig.nvml().await, "up");
}

/// The status socket: who may open it, and that it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_read_over_its_socket_by_its_group() {
    use std::os::unix::fs::MetadataExt;
    let node = eight_h100s();
    let group = std::fs::metadata(node.root()).unwrap().gid();
    let socket = node.state_directory().join("status.sock");
    let options = plugin().arg(format!("--status-socket-gid={group}"));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    let made = || std::fs::symlink_metadata(&socket).ok();
    for _ in 0..2 {
        let file = rig.eventually("the socket", async || made()).await;
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, group));
        // HTTP is turned off: it is the socket that answers.
        for (words, text) in [
            (&["status"][..], "NVML is up"),
            (&["check", "gpus"], "8 GPUs Healthy"),
            (&["check", "registration"], "registered"),
        ] {
            let printed = rig.say(words).await;
            assert_said(&printed, 0, text);
        }
        let answer = HttpAddress::Unix(socket.clone()).get("/metrics").await.unwrap();
        assert!(answer.body.contains("gpu_device_plugin_nvml_up 1"), "{}", answer.body);
        std::fs::remove_file(&socket).unwrap();
    }
    rig.eventually("the socket again", async || made()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_socket_is_made_again_and_never_in_the_place_of_somebodys() {
    let node = eight_h100s();
    let path = node.root().join("http.sock");
    let beside = path.with_extension("next");
    std::fs::write(&beside, "somebody's").unwrap();
    let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let options = plugin().arg(format!("--http-address=unix:{}", path.display()));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "somebody's");
    rig.logged("another process serves the socket of HTTP").await;
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    theirs.accept().unwrap();
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "somebody's");
    // One of ours comes back when it is deleted.
    let own = rig.node.root().join("own.sock");
    let options = plugin().arg(format!("--http-address=unix:{}", own.display()));
    let second = eight_h100s();
    let config = second.kubelet();
    let rig = Rig::on(second, config, &options, 8).await;
    let http = rig.http().await;
    assert_eq!(http.get("/healthz").await.unwrap().status, 200);
    std::fs::remove_file(&own).unwrap();
    let answers = async || http.get("/healthz").await.ok().filter(|answer| answer.status == 200);
    rig.eventually("it is there again", answers).await;
}

/// Readers that read nothing, at a unix socket: the kernel takes 200 KB of each answer, where of
/// one over the loopback address it takes all.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_hold_no_more_than_a_few_answers() {
    use tokio::io::AsyncWriteExt;
    // Without a bound they would hold 43 MiB; more readers would take longer, and show no more.
    const READERS: usize = 28;
    const MOST_KIB: u64 = 20 << 10;
    let node = eight_h100s();
    let sharing = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1000}]}}";
    let text = format!("version: v1\nhealth: {{pollInterval: 1h}}\n{sharing}\n");
    let path = node.root().join("http.sock");
    let options = configured(&node, &text).env("HTTP_ADDRESS", format!("unix:{}", path.display()));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8000).await;
    let http = rig.http().await;
    // Rendered once, so that what that needs is counted before.
    let length = http.get("/status").await.unwrap().body.len();
    let before = rig.plugin.anonymous_kib().unwrap();
    let mut slow = Vec::new();
    for _ in 0..READERS {
        let mut io = tokio::net::UnixStream::connect(&path).await.unwrap();
        io.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        io.readable().await.unwrap();
        slow.push(io);
    }
    let held = rig.plugin.anonymous_kib().unwrap().saturating_sub(before);
    println!("{READERS} slow readers of a status of {length} bytes hold {held} KiB");
    assert!(held < MOST_KIB, "{held} KiB");
    let times = Duration::from_secs(5);
    let probe = tokio::time::timeout(times, http.get("/healthz")).await;
    assert_eq!(probe.unwrap().unwrap().status, 200);
    assert_eq!(http.get("/status").await.unwrap().body.len() / 1000, length / 1000);
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
}
