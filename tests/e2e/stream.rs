//! The status stream of the real binary: a client of the status socket waits for the next status.

use simnode::kubelet::KubeletVersion;
use simnode::node::{HttpAddress, Plugin};
use tokio::time::timeout;

use crate::dropin::config;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin};

/// A status with its token.
#[derive(Debug)]
struct Answer {
    token: String,
    status: serde_json::Value,
}

/// Asks for the status, or waits for the next one after a token.
async fn ask(rig: &Rig, after: Option<&str>) -> Answer {
    let socket = HttpAddress::Unix(rig.node.state_directory().join("status.sock"));
    let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
    let answer = socket.get(&format!("/status{query}")).await.unwrap();
    let token = answer.header("status-token").expect("a token").to_owned();
    Answer { token, status: serde_json::from_str(&answer.body).unwrap() }
}

/// Waits for statuses one after the other, until one is as it should be.
async fn follow(rig: &Rig, from: Answer, is: impl Fn(&serde_json::Value) -> bool) -> Answer {
    let mut last = from;
    let following = async {
        while !is(&last.status) {
            let next = ask(rig, Some(&last.token)).await;
            assert_ne!(next.token, last.token, "it was answered before a change");
            last = next;
        }
    };
    let followed = timeout(PATIENCE, following).await;
    assert!(followed.is_ok(), "{:#}", last.status);
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_change_is_sent_to_who_waits_for_it() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, "version: v1"));
    let kubelet = node.kubelet().version(KubeletVersion::V1_36);
    let rig = Rig::on(node, kubelet, &options, 8).await;
    rig.logged("serving the status socket").await;
    let answer = ask(&rig, None).await;
    let registered = |status: &serde_json::Value| {
        status["holdersKnown"] == true && status["resources"][0]["kubelet"]["registered"] == true
    };
    let answer = follow(&rig, answer, registered).await;

    // Health.
    rig.xid_until_heard(3, 79).await;
    let answer = follow(&rig, answer, |status| status["gpus"][3]["healthy"] == false).await;
    // Holders.
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    let held = |status: &serde_json::Value| status["resources"][0]["allocated"] == 1;
    let answer = follow(&rig, answer, held).await;
    // Configuration.
    config(&rig.node, "version: v1\nflags: {migStrategy: mixed}");
    let mixed = |status: &serde_json::Value| status["configuration"]["migStrategy"] == "mixed";
    let answer = follow(&rig, answer, mixed).await;
    config(&rig.node, "version: v1\nflags: {migStrategy: no}");
    let refused =
        |status: &serde_json::Value| status["configuration"]["lastReload"]["refused"].is_string();
    let answer = follow(&rig, answer, refused).await;
    // Registration.
    rig.kubelet.stop().await;
    let lost =
        |status: &serde_json::Value| status["resources"][0]["kubelet"]["registered"] == false;
    follow(&rig, answer, lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_earlier_process_is_answered_at_once_and_the_address_of_http_lets_none_wait()
{
    let node = eight_h100s();
    let options = plugin().env("HTTP_ADDRESS", "127.0.0.1:0");
    let kubelet = node.kubelet().version(KubeletVersion::V1_36);
    let mut rig = Rig::on(node, kubelet, &options, 8).await;
    rig.logged("serving the status socket").await;
    let before = ask(&rig, None).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let refused = http.get(&format!("/status?after={}", before.token)).await.unwrap();
    assert_eq!(refused.status, 400, "{}", refused.body);
    let socket = HttpAddress::Unix(rig.node.state_directory().join("status.sock"));
    assert_eq!(socket.get("/status?after=nonsense").await.unwrap().status, 200);
    rig.plugin.signal(15).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    rig.plugin = Plugin::start(&rig.node, &options).unwrap();
    rig.logged("serving the status socket").await;
    let after = ask(&rig, Some(&before.token)).await;
    assert_ne!(after.token.split('-').next(), before.token.split('-').next());
}
