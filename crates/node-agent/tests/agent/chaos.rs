//! Random faults and restarts of agent, plugin and API server, after which everything is as it
//! should be. `keep` has the same with 10,000 steps and a clock of its own; this is the program.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use fake_apiserver::Fault;
use serde_json::json;

use crate::config::label;
use crate::rig::{Agent, FakePlugin, NODE_PATH, Rig, h200, until, xid_79};

const FLAGS: &[&str] = &[
    "--labels=node",
    "--labels-conflict=take",
    "--no-timestamp",
    "--node-condition",
    "--node-taint",
    "--events",
    "--sleep-interval=1s",
];
/// What the functions of these flags keep on the Node.
const KEPT: u64 = 3;

/// xorshift64: the same steps again from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }
}

fn number(name: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(otherwise)
}

fn agent(rig: &Rig) -> Agent {
    let name = rig.path("config-name");
    rig.agent(&[FLAGS, &["--config-name-file", name.to_str().unwrap()]].concat())
}

#[tokio::test]
async fn after_random_faults_and_restarts_everything_is_as_the_status_and_the_label_say() {
    let seed = number("CHAOS_SEED", || RandomState::new().build_hasher().finish() | 1);
    let steps = number("CHAOS_STEPS", || 120);
    println!("these steps again: CHAOS_SEED={seed} CHAOS_STEPS={steps}");
    let mut random = Random(seed);
    let mut rig = Rig::new().await;
    rig.api.grant(&["watch nodes"]);
    let (began, mut starts) = (Instant::now(), 1);
    let mut running = agent(&rig);
    for _ in 0..steps {
        match random.below(10) {
            0 => rig.plugin.set(h200()),
            1 => rig.plugin.set(xid_79()),
            2 => {
                let faults = [
                    Fault::Code(500),
                    Fault::Code(503),
                    Fault::Code(409),
                    Fault::TooMany(1),
                    Fault::LostAnswer,
                ];
                let count = usize::try_from(random.below(4)).unwrap();
                rig.api.fail_next((0..count).map(|_| faults[random.below(5) as usize]));
            }
            3 => rig.api.end_watches(),
            4 => rig.api.expire_watches(),
            5 => rig.api.expire_events(),
            6 => label(&rig, ["a", "b"].get(random.below(3) as usize).copied()),
            // Others take away, or change, what the agent wrote.
            7 => rig.api.apply_as("other", NODE_PATH, &json!({"spec": {"taints": []}})),
            8 => {
                let socket = rig.plugin.socket.clone();
                let status = if random.below(2) == 0 { h200() } else { xid_79() };
                // The socket is removed with the one before.
                drop(std::mem::replace(
                    &mut rig.plugin,
                    FakePlugin::start(socket.with_extension("next"), json!({})),
                ));
                rig.plugin = FakePlugin::start(socket, status);
            }
            _ => {
                drop(running);
                running = agent(&rig);
                starts += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
    }
    rig.plugin.set(xid_79());
    label(&rig, Some("last"));
    rig.until_condition("True", "GPUUnhealthy").await;
    rig.until_labels("nvidia.com/gpu.product", &[("nvidia.com/gpu.product", "NVIDIA-H200")]).await;
    until("the taint", || {
        let node = rig.api.object(NODE_PATH).unwrap();
        let key = node["spec"]["taints"][0]["key"].clone();
        if key == "nvidia.com/gpu-unhealthy" { Ok(()) } else { Err(node["spec"].to_string()) }
    })
    .await;
    until("the name", || match fs::read_to_string(rig.path("config-name")) {
        Ok(name) if name == "last\n" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let writes = rig.api.received().into_iter().filter(|call| {
        call.verb == "patch" && call.resource.starts_with("nodes") && call.code < 300
    });
    let writes = writes.count() as u64;
    let allowed = KEPT * (began.elapsed().as_secs() / 5 + 1 + starts);
    // What others changed is set right at the next look, beside what the status says.
    assert!(writes <= allowed + steps, "{writes} writes, {allowed} are allowed");
    println!("{steps} steps, {starts} starts, {writes} writes on the Node");
}
