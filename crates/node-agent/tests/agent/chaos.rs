//! Random faults and restarts of agent, plugin and API server, after which everything is as it
//! should be.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use fake_apiserver::Fault;
use gpu_node_agent::condition::condition;
use gpu_node_agent::labels::{LabelSettings, labels};
use gpu_node_agent::summary::SUMMARY;
use gpu_node_agent::taint::wants_taint;
use serde_json::{Value, json};
use status::{NodeBrief, Status};
use status_stream::View;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::label;
use crate::in_process::{agent, pass, settle, stop_clock};
use crate::rig::{FakePlugin, NODE, NODE_PATH, RIGHTS, Rig, h200, xid_79};

const FLAGS: &[&str] = &[
    "--labels=node",
    "--labels-conflict=take",
    "--no-timestamp",
    "--node-condition",
    "--node-taint",
    "--node-summary",
    "--events",
];

/// A right that is not among those of the rig.
const WATCH: &str = "watch nodes";
const LABEL: &str = "nvidia.com/device-plugin.config";
/// Within this time of the clock all is right again: the longest pause, the time between two looks,
/// and that between two writes of the summary.
const RECOVERY: Duration = Duration::from_secs(300);

/// xorshift64: the same steps again from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }

    fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[usize::try_from(self.below(these.len() as u64)).unwrap()]
    }
}

fn number(name: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(otherwise)
}

struct Chaos {
    rig: Rig,
    random: Random,
    agent: JoinHandle<()>,
    /// The status of the plugin, and the label of the node.
    status: Value,
    label: Option<&'static str>,
    token: u64,
    starts: u64,
    /// What can make each function write once more.
    reasons: u64,
}

impl Chaos {
    async fn start(random: Random) -> Self {
        let rig = Rig::new().await;
        rig.api.grant(&[WATCH]);
        let agent = agent(&rig, &flags(&rig));
        let (status, label) = (h200(), None);
        Self { rig, random, agent, status, label, token: 0, starts: 1, reasons: 1 }
    }

    async fn step(&mut self) {
        self.reasons += 1;
        match self.random.below(16) {
            0..=2 => {
                self.change_status();
                self.rig.plugin.set(self.status.clone());
            }
            3 | 4 => {
                self.label = [None, Some("a"), Some("b")][self.random.below(3) as usize];
                label(&self.rig, self.label);
            }
            5 | 6 => self.fail(),
            7 => self.rig.api.end_watches(),
            8 => self.rig.api.expire_watches(),
            9 => self.rig.api.expire_events(),
            10 => self.interfere(),
            11 => {
                self.change_status();
                let socket = self.rig.plugin.socket.clone();
                self.rig.plugin = FakePlugin::start(socket, self.status.clone());
            }
            12 => {
                self.agent.abort();
                self.agent = agent(&self.rig, &flags(&self.rig));
                self.starts += 1;
            }
            13 => {
                self.rig.api.stop().await;
                self.pass().await;
                self.rig.api.start_again().await;
            }
            14 => {
                self.token += 1;
                self.rig.api.set_token(&format!("token-{}", self.token));
                self.pass().await;
                self.rig.write_kubeconfig();
            }
            _ => {
                let right = self.random.one_of(RIGHTS);
                self.rig.api.revoke(&[right, WATCH]);
                self.pass().await;
                self.rig.api.grant(&[right, WATCH]);
            }
        }
        self.pass().await;
    }

    /// Time goes by: mostly seconds, at times minutes.
    async fn pass(&mut self) {
        let most = if self.random.below(20) == 0 { 300_000 } else { 8_000 };
        pass(&self.rig, Duration::from_millis(self.random.below(most))).await;
    }

    fn change_status(&mut self) {
        self.status = if self.random.below(2) == 0 { h200() } else { xid_79() };
        self.status["gpus"][0]["xids"] = json!([{"xid": 13, "count": self.random.below(4)}]);
    }

    fn fail(&mut self) {
        for _ in 0..self.random.below(5) {
            let seconds = 1 + self.random.below(30);
            let codes = [500, 503, 504, 409, 410, 403, 404].map(Fault::Code);
            let others = [Fault::TooMany(seconds), Fault::LostAnswer];
            let fault = self.random.one_of(&[&codes[..], &others, &others].concat());
            self.rig.api.fail_next([fault]);
            self.reasons += 1;
        }
    }

    /// Others take away, or change, what the agent wrote.
    fn interfere(&mut self) {
        let change = match self.random.below(3) {
            0 => json!({"spec": {"taints": []}}),
            1 => json!({"metadata": {"labels": {"nvidia.com/gpu.count": "99"}}}),
            _ => json!({"metadata": {"annotations": {SUMMARY: "{}"}}}),
        };
        self.rig.api.apply_as("other", NODE_PATH, &change);
    }

    /// What is not as plugin and label say.
    fn wrong(&self) -> Vec<String> {
        let status: Status = serde_json::from_value(self.status.clone()).unwrap();
        let view = View { status: Some(Arc::new(status.clone())), silent: false };
        let mut wrong = Vec::new();
        let mut compare = |what: &str, there: Value, expected: Value| {
            if there != expected {
                wrong.push(format!("{what}: {there}, not {expected}"));
            }
        };
        let api = &self.rig.api;
        let mut there = api.labels(NODE, "nvidia.com/");
        there.remove(LABEL);
        compare("labels", json!(there), json!(labels(&status, &LabelSettings::default())));
        let expected = condition(&view).unwrap();
        let there = api.condition(NODE, "GPUUnhealthy").unwrap_or_default();
        compare(
            "condition",
            json!([there["status"], there["reason"], there["message"]]),
            json!([expected.status, expected.reason, expected.message]),
        );
        let node = api.object(NODE_PATH).unwrap();
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let tainted = taints.filter(|taint| taint["key"] == "nvidia.com/gpu-unhealthy").count();
        compare("taint", json!(tainted == 1), json!(wants_taint(&view).unwrap()));
        let summary = json!(api.annotation(NODE, SUMMARY));
        compare("summary", summary, json!(NodeBrief::of(&status).text()));
        let name = fs::read_to_string(self.rig.path("config-name")).unwrap_or_default();
        compare("name", json!(name.trim()), json!(self.label.unwrap_or_default()));
        wrong
    }

    /// How often each function has written, by its manager.
    fn writes(&self) -> BTreeMap<String, u64> {
        let mut writes = BTreeMap::new();
        for call in self.rig.api.received() {
            if matches!(call.verb, "patch" | "create") && call.code < 300 {
                *writes.entry(call.manager).or_default() += 1;
            }
        }
        writes
    }
}

fn flags(rig: &Rig) -> Vec<String> {
    let file = format!("--config-name-file={}", rig.path("config-name").display());
    FLAGS.iter().map(|&flag| flag.to_owned()).chain([file]).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn after_random_faults_and_restarts_everything_is_as_the_status_and_the_label_say() {
    let seed = number("CHAOS_SEED", || RandomState::new().build_hasher().finish() | 1);
    let steps = number("CHAOS_STEPS", || 100);
    println!("these steps again: CHAOS_SEED={seed} CHAOS_STEPS={steps}");
    let _clock = stop_clock();
    let (began, real) = (Instant::now(), std::time::Instant::now());
    let mut chaos = Chaos::start(Random(seed)).await;
    for _ in 0..steps {
        chaos.step().await;
    }
    chaos.rig.api.forget_faults();
    until_right(&mut chaos).await;
    // What was written, and the answer lost, is written again.
    for _ in 0..60 {
        pass(&chaos.rig, Duration::from_secs(2)).await;
    }
    assert!(!chaos.agent.is_finished(), "the agent has ended");
    let (writes, elapsed) = (chaos.writes(), began.elapsed().as_secs());
    let (real, starts) = (real.elapsed(), chaos.starts);
    println!("{steps} steps in {real:?} for {elapsed} s, {starts} starts: {writes:?}");
    assert_writes(&chaos, &writes, elapsed);
    // Nothing is written while nothing changes.
    for _ in 0..120 {
        pass(&chaos.rig, Duration::from_secs(5)).await;
    }
    assert_eq!(chaos.writes(), writes);
    assert_eq!(chaos.wrong(), [""; 0]);
}

async fn until_right(chaos: &mut Chaos) {
    let began = Instant::now();
    loop {
        settle(&chaos.rig).await;
        let wrong = chaos.wrong();
        if wrong.is_empty() {
            return;
        }
        assert!(began.elapsed() < RECOVERY, "{}", wrong.join("\n"));
        // Files are written by a thread of their own, which goes by the real time.
        std::thread::sleep(Duration::from_millis(1));
        pass(&chaos.rig, Duration::from_secs(1)).await;
    }
}

/// A function writes once for each reason, and every five seconds at most, but for what it has to
/// try again. All that was sent was valid.
fn assert_writes(chaos: &Chaos, writes: &BTreeMap<String, u64>, elapsed: u64) {
    let (reasons, starts) = (chaos.reasons, chaos.starts);
    for (manager, count) in writes.iter().filter(|(manager, _)| !manager.is_empty()) {
        assert!(*count <= reasons, "{manager}: {count} writes for {reasons} reasons");
    }
    let events = writes.get("").copied().unwrap_or_default();
    assert!(events <= elapsed + starts, "{events} Events in {elapsed} s");
    let received = chaos.rig.api.received();
    let invalid: Vec<_> =
        received.into_iter().filter(|call| matches!(call.code, 400 | 405 | 415 | 422)).collect();
    assert_eq!(invalid, []);
}
