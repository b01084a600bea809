//! Numbers and answers from outside that no honest library or kubelet gives, and resources that are
//! not to be had: each costs little and harms nothing else.

use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::{Event, Rule};
use simnode::kubelet::{KubeletVersion, Trouble};

use crate::health::configured;
use crate::journal::Journal;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, node, plugin};

const QUICK: &str = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms}\n";
/// A number that no node or GPU has of anything.
const ABSURD: u32 = u32::MAX;
/// What a stop may take, whatever is wrong.
const STOP: Duration = Duration::from_secs(2);

impl Rig {
    /// Waits until so many polls more were made.
    pub(crate) async fn polled(&self, journal: &Journal, polls: usize) {
        let count = || journal.count("nvmlDeviceGetCount_v2");
        let enough = count() + polls.div_ceil(3);
        self.eventually("polls", async || (count() >= enough).then_some(())).await;
    }

    pub(crate) fn lines_with(&self, text: &str) -> usize {
        self.plugin.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Its resident memory that is its own alone.
    fn private_kib(&self) -> u64 {
        self.plugin.anonymous_kib().expect("it runs")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_gpus_that_no_node_has_is_a_finding_and_costs_little() {
    let mut state = profiles::h100x8();
    state.rules.push(Rule::value("nvmlDeviceGetCount", ABSURD));
    let node = node(state);
    let journal = Journal::of(&node);
    let options = journal.kept_by(configured(&node, QUICK)).env("HTTP_ADDRESS", "127.0.0.1:0");
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.polled(&journal, 6).await;
    assert!(journal.count("nvmlDeviceGetHandleByIndex_v2") <= 5 * 1024);
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status = http.get("/status").await.unwrap().body;
    assert!(status.contains("\"unidentified\"") && status.contains("4294967295"), "{status}");
    assert!(rig.lines_with("a GPU answers with an error") <= 16, "{:#?}", rig.plugin.log());
    assert_eq!(rig.lines_with("more GPUs answer with an error"), 1);
    rig.until_healthy(3, true).await;
    rig.xid_until_heard(3, 79).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_mig_devices_that_no_gpu_has_is_a_finding_and_costs_little() {
    let mut state = profiles::h100x8_mig_single();
    for gpu in &mut state.gpus {
        gpu.rules.push(Rule::value("nvmlDeviceGetMaxMigDeviceCount", ABSURD));
    }
    let node = node(state);
    let journal = Journal::of(&node);
    let text = format!("{QUICK}flags: {{migStrategy: single}}\n");
    let options = journal.kept_by(configured(&node, &text)).env("HTTP_ADDRESS", "127.0.0.1:0");
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 56).await;
    rig.polled(&journal, 3).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status = http.get("/status").await.unwrap().body;
    assert!(status.contains("broken_mig_device"), "{status}");
    assert!(rig.plugin.threads().unwrap() < 16);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_about_the_links_of_every_gpu_is_one_line() {
    let mut state = profiles::dgx1_v100();
    for gpu in &mut state.gpus {
        gpu.rules.push(Rule::answer("nvmlDeviceGetNvLinkVersion", 999));
    }
    let node = node(state);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    let line = rig.logged("cannot read all links of these GPUs").await;
    assert!((0..8).all(|index| line.contains(&rig.node.uuid(index))), "{line}");
    rig.logged("the links between GPUs are known").await;
    assert_eq!(rig.lines_with("cannot read all links"), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn uuids_that_change_with_each_answer_make_no_more_devices() {
    let mut state = profiles::h100x8();
    for (place, gpu) in state.gpus.iter_mut().enumerate() {
        let uuid = format!("GPU-{place}{{n}}");
        gpu.rules.push(Rule::value("nvmlDeviceGetUUID", uuid));
    }
    let node = node(state);
    let journal = Journal::of(&node);
    let options = journal.kept_by(configured(&node, QUICK));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.polled(&journal, 60).await;
    let capacity = rig.kubelet.view().capacity(GPU);
    assert_eq!(capacity, 8, "{:#?}", rig.plugin.log());
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_without_a_gpu_is_counted_and_told_in_few_lines() {
    const EVENTS: u32 = 10_000;
    let node = eight_h100s();
    let config = node.kubelet();
    let journal = Journal::of(&node);
    let options = journal.kept_by(configured(&node, QUICK)).env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let waits = || (journal.count("nvmlEventSetWait_v2") > 0).then_some(());
    rig.eventually("a wait for events", async || waits()).await;
    let event = Event { count: EVENTS, stray: true, ..Event::xid("", 13) };
    rig.node.edit(|state| state.push_event(event)).unwrap();
    let uuid = rig.node.uuid(1);
    let line = format!("gpu_device_plugin_xid_events_total{{uuid=\"{uuid}\",xid=\"13\"}} {EVENTS}");
    let mut answers = 0;
    let counted = async || {
        let metrics = http.get("/metrics").await.unwrap().body;
        answers += 1;
        metrics.contains(&line).then_some(())
    };
    rig.eventually("every event is counted", counted).await;
    // HTTP has its turn between them.
    assert!(answers > 2, "{answers} answers until every event was counted");
    assert!(rig.plugin.log().len() < 400, "{}", rig.plugin.log().len());
    assert_eq!(rig.lines_with("NVML reported an event without a GPU"), 1);
    rig.until_healthy(1, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_of_nvml_that_hangs_holds_up_no_stop() {
    for disabled in ["", "all"] {
        let node = eight_h100s();
        node.edit(|state| state.rules.push(Rule::hang("nvmlShutdown"))).unwrap();
        let config = node.kubelet();
        let options = plugin().env("DP_DISABLE_HEALTHCHECKS", disabled);
        let mut rig = Rig::on(node, config, &options, 8).await;
        rig.plugin.terminate().unwrap();
        assert_eq!(rig.plugin.wait_exit(STOP).await.unwrap().code(), Some(0), "{disabled:?}");
        assert!(rig.node.plugin_sockets().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_thread_the_plugin_goes_on_and_stops_as_ever() {
    let node = eight_h100s();
    let config = node.kubelet();
    let options = configured(&node, QUICK).arg("--state-dir").arg("");
    let mut rig = Rig::on(node, config, &options, 8).await;
    rig.settled("all its threads are there", |_| true).await;
    // Room for what it needs, and none for another stack.
    rig.plugin.limit_memory(3 << 19).unwrap();
    // More than the stacks of threads that have ended, which the C library keeps for others.
    let hang = || Rule::hang("nvmlDeviceGetFieldValues");
    let others = || (0..8).filter(|index| *index != 5);
    others().for_each(|index| rig.node.edit_gpu(index, |gpu| gpu.rules.push(hang())).unwrap());
    rig.logged("cannot start a thread to call NVML").await;
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    others().for_each(|index| rig.node.edit_gpu(index, |gpu| gpu.rules.clear()).unwrap());
    rig.xid_until_heard(5, 79).await;
    rig.plugin.terminate().unwrap();
    let status = rig.plugin.wait_exit(STOP).await.unwrap();
    assert_eq!(status.code(), Some(0), "{:#?}", rig.plugin.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_megabytes_from_podresources_cost_little_and_lose_nothing() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    rig.asked_after(1).await;
    for trouble in [Trouble::Pods(500_000), Trouble::ForeignIds(160_000)] {
        rig.kubelet.trouble_pod_resources(trouble);
        let before = rig.private_kib();
        let asked = rig.kubelet.pod_resources_asked().len();
        rig.kubelet.allocate(&format!("{trouble:?}"), "main", GPU, 1).await.unwrap();
        rig.asked_after(asked).await;
        let mut most = 0;
        let deadline = std::time::Instant::now() + Duration::from_secs(4);
        while std::time::Instant::now() < deadline {
            most = most.max(rig.private_kib());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("{trouble:?}: {before} KiB before, {most} KiB at most");
        assert!(most < 32 << 10, "{trouble:?}: {before} KiB became {most} KiB");
        assert_eq!(rig.kubelet.view().allocatable(GPU), 8);
    }
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_another_form_than_ours_are_neither_listed_nor_given() {
    let node = eight_h100s();
    let config = node.kubelet();
    let options = plugin().env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = Rig::on(node, config, &options, 8).await;
    rig.kubelet.trouble_pod_resources(Trouble::Hostile);
    rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status = async || http.get("/status").await.unwrap().body;
    let holds = async || status().await.contains("\"pod\":\"pod\"").then_some(());
    rig.eventually("the answer is in", holds).await;
    assert_eq!(rig.kubelet.view().capacity(GPU), 8);
    for id in ["all", "../../../etc"] {
        let status = status().await;
        assert!(!status.contains(&format!("\"{id}\"")), "{status}");
    }
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_gpu_that_was_lost_at_the_start_is_its_own() {
    const LOST: u32 = 15;
    let mut state = profiles::h100x8();
    state.gpus[5].rules = vec![Rule::answer("nvmlDeviceGetHandleByIndex_v2", LOST)];
    let node = node(state);
    let journal = Journal::of(&node);
    let config = node.kubelet();
    // No other enumeration comes before the event.
    let options = journal.kept_by(plugin().arg("--health-poll-interval").arg("1h"));
    let rig = Rig::on(node, config, &options, 7).await;
    let waits = || (journal.count("nvmlEventSetWait_v2") > 0).then_some(());
    rig.eventually("a wait for events", async || waits()).await;
    // It is back, under a handle that nobody has asked for.
    rig.node.edit_gpu(5, |gpu| gpu.rules.clear()).unwrap();
    let stray = Event { stray: true, ..Event::xid(&rig.node.uuid(5), 48) };
    rig.node.edit(|state| state.push_event(stray)).unwrap();
    rig.node.xid(3, 48).unwrap();
    rig.until_healthy(3, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 6, "{:#?}", rig.plugin.log());
    rig.assert_flawless();
}
