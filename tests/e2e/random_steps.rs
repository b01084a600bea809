//! Random steps of all kinds against the real binary: after each the list is what the node's truth
//! says, and on the way there no list had a GPU wrong that the step was not about.
//!
//! `RANDOM_STEPS=2000 cargo test --test e2e random_steps` goes on for longer. A failure prints the
//! seed, with which `PROPTEST_RNG_SEED=` takes the same steps again.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::Rule;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng, TestRunner};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use simnode::eventually;
use simnode::kubelet::{KubeletVersion, Trouble, View};
use simnode::node::{Node, Plugin, PluginOptions};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};
use tokio::task::{JoinSet, LocalSet};

use crate::health::{QUICK, configured};
use crate::look::run;
use crate::rig::{GPU, PATIENCE, Rig, plugin};
use crate::thread_limit::ThreadLimit;

/// Steps of all walks together, unless the environment asks for more.
const STEPS: usize = 120;

/// The nodes that the walks are on: the driver's branch, and the kubelet.
const WALKS: [(&str, KubeletVersion); 4] = [
    ("R550", KubeletVersion::V1_32),
    ("R580", KubeletVersion::V1_36),
    ("R580", KubeletVersion::V1_37),
    ("R615", KubeletVersion::V1_37),
];

const GPUS: usize = 8;

/// More lines than a pipe and the plugin's queue hold, of about 300 bytes.
const UNREAD_CALLS: usize = 2500;

/// What may be wrong with a GPU until it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Lost,
    Hung,
    Failing,
    Xid,
}

/// What is put into the quarantine directory for a GPU: whatever it is, it counts.
#[derive(Debug, Clone, Copy)]
enum Entry {
    File,
    Pipe,
    LinkToNowhere,
}

#[derive(Debug, Clone)]
enum Step {
    Break(usize, Fault),
    Restore(usize),
    Quarantine(usize, Entry),
    PodComes(usize),
    PodGoes,
    PluginEnds {
        killed: bool,
    },
    /// The plugin starts again, nobody reads its log, and it has more to log than fits.
    LogIsUnread,
    /// The plugin can open nothing more when its stream is cut.
    NoDescriptors,
    /// The stream is cut and a GPU breaks while the plugin can start no thread and no process.
    NoThreads(usize, Fault),
    KubeletRestarts,
    StreamIsCut,
    SocketIsDeleted,
    SocketIsChmodded,
    StrangersDial(usize),
    FilesOfNoGpu,
    BrokenConfig(&'static str),
    Release,
    PodResources(Trouble),
}

fn step() -> impl Strategy<Value = Step> {
    let gpu = 0..GPUS;
    let fault =
        prop_oneof![Just(Fault::Lost), Just(Fault::Hung), Just(Fault::Failing), Just(Fault::Xid)];
    let trouble = prop_oneof![Just(Trouble::None), Just(Trouble::Fails), Just(Trouble::Hangs)];
    let entry = prop_oneof![Just(Entry::File), Just(Entry::Pipe), Just(Entry::LinkToNowhere)];
    // One without content is taken for half of one.
    let broken = prop_oneof![Just("version: v9"), Just("health: ["), Just("")];
    prop_oneof![
        6 => (gpu.clone(), fault.clone()).prop_map(|(gpu, fault)| Step::Break(gpu, fault)),
        2 => (gpu.clone(), fault).prop_map(|(gpu, fault)| Step::NoThreads(gpu, fault)),
        6 => gpu.clone().prop_map(Step::Restore),
        2 => (gpu, entry).prop_map(|(gpu, entry)| Step::Quarantine(gpu, entry)),
        2 => (1..4_usize).prop_map(Step::PodComes),
        2 => Just(Step::PodGoes),
        2 => any::<bool>().prop_map(|killed| Step::PluginEnds { killed }),
        1 => Just(Step::LogIsUnread),
        1 => Just(Step::NoDescriptors),
        1 => Just(Step::KubeletRestarts),
        1 => Just(Step::StreamIsCut),
        1 => Just(Step::SocketIsDeleted),
        1 => Just(Step::SocketIsChmodded),
        1 => (1..300_usize).prop_map(Step::StrangersDial),
        1 => Just(Step::Release),
        1 => Just(Step::FilesOfNoGpu),
        1 => broken.prop_map(Step::BrokenConfig),
        1 => trouble.prop_map(Step::PodResources),
    ]
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// What is true of a GPU.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    fault: Option<Fault>,
    quarantined: bool,
}

impl Truth {
    fn is_healthy(self) -> bool {
        self.fault.is_none() && !self.quarantined
    }
}

struct Walk {
    rig: Rig,
    options: PluginOptions,
    truth: [Truth; GPUS],
    pods: Vec<String>,
    /// Connections of strangers, which are held open.
    strangers: Vec<UnixStream>,
    life: u64,
    /// Lists that were looked at.
    seen: usize,
    /// No recovery action tells that a GPU is repaired: an operator has to.
    old_driver: bool,
}

impl Walk {
    async fn begin(branch: &str, version: KubeletVersion) -> Self {
        let node = Node::of_branch(profiles::h100x8(), branch).unwrap();
        let options = configured(&node, QUICK);
        let config = node.kubelet().version(version);
        let rig = Rig::on(node, config, &options, GPUS).await;
        Self {
            rig,
            options,
            truth: Default::default(),
            pods: Vec::new(),
            strangers: Vec::new(),
            life: 1,
            seen: 0,
            old_driver: branch == "R550",
        }
    }

    /// Takes a step; returns the GPU that it is about.
    async fn take(&mut self, step: &Step) -> Option<usize> {
        match *step {
            Step::Break(gpu, fault) => return self.break_gpu(gpu, fault).await.then_some(gpu),
            Step::NoThreads(gpu, fault) => {
                return self.serve_without_threads(gpu, fault).await.then_some(gpu);
            }
            Step::Restore(gpu) => return self.restore(gpu).await.then_some(gpu),
            Step::Quarantine(gpu, entry) => {
                self.quarantine(gpu, entry);
                return Some(gpu);
            }
            Step::PodComes(devices) => self.pod_comes(devices).await,
            Step::PodGoes => {
                if let Some(pod) = self.pods.pop() {
                    self.rig.kubelet.release(&pod);
                }
            }
            Step::PluginEnds { killed } => self.restart_plugin(killed, self.options.clone()).await,
            Step::LogIsUnread => self.fill_log().await,
            Step::NoDescriptors => self.cut_without_descriptors().await,
            Step::KubeletRestarts => {
                self.rig.kubelet.restart().await.unwrap();
                self.life += 1;
            }
            Step::StreamIsCut => self.rig.kubelet.drop_stream(GPU),
            // The plugin may be replacing it already, after the step before.
            Step::SocketIsDeleted => drop(fs::remove_file(self.socket())),
            Step::SocketIsChmodded => {
                drop(fs::set_permissions(self.socket(), fs::Permissions::from_mode(0o700)));
            }
            Step::StrangersDial(count) => {
                let socket = self.socket();
                self.strangers = (0..count).flat_map(|_| UnixStream::connect(&socket)).collect();
            }
            Step::FilesOfNoGpu => {
                let directory = self.rig.node.quarantine_directory();
                for n in 0..1100 {
                    fs::write(directory.join(format!("note-{n}")), "of no GPU").unwrap();
                }
            }
            Step::BrokenConfig(text) => {
                let (file, seen) =
                    (self.rig.node.root().join("config.yaml"), self.rig.plugin.log().len());
                // A text that was refused before is not refused again.
                fs::write(&file, format!("{text}\n# {seen}\n")).unwrap();
                let refused = "the configuration before stays in force";
                self.rig.plugin.wait_for_log_after(seen, refused, PATIENCE).await.unwrap();
                fs::write(&file, QUICK).unwrap();
            }
            Step::Release => {
                // While a call hangs it is refused.
                let released = run(&self.rig.node, &plugin(), &["release", "--for", "1s"]).await;
                assert!(matches!(released.code, Some(0 | 1)), "{}", released.text);
            }
            Step::PodResources(trouble) => self.rig.kubelet.trouble_pod_resources(trouble),
        }
        None
    }

    fn socket(&self) -> PathBuf {
        let endpoint = self.rig.kubelet.view().resource(GPU).unwrap().endpoint.clone();
        self.rig.node.kubelet_directory().join(endpoint)
    }

    /// Returns whether it can: a GPU that is broken stays as it is, and of one that is quarantined
    /// no list would show when the fault was noticed.
    async fn break_gpu(&mut self, gpu: usize, fault: Fault) -> bool {
        if !self.truth[gpu].is_healthy() {
            return false;
        }
        self.truth[gpu].fault = Some(fault);
        let node = &self.rig.node;
        let rule = |rule: Rule| node.edit_gpu(gpu, |gpu| gpu.rules.push(rule));
        match fault {
            Fault::Lost => node.lose(gpu),
            Fault::Hung => rule(Rule::hang("nvmlDeviceGetMemoryInfo")),
            Fault::Failing => rule(Rule::answer("nvmlDeviceGetMemoryInfo", 999)),
            Fault::Xid => {
                node.edit_gpu(gpu, |gpu| gpu.recovery_action = 1).unwrap();
                self.xid_until_kept(gpu).await;
                Ok(())
            }
        }
        .unwrap();
        true
    }

    /// The driver reports an Xid until the state file has it: one that comes while NVML is released
    /// is lost.
    async fn xid_until_kept(&self, gpu: usize) {
        for _ in 0..30 {
            self.rig.node.xid(gpu, 95).unwrap();
            let kept = async || self.are_causes_kept().then_some(());
            if eventually("the Xid is kept", Duration::from_secs(1), kept).await.is_ok() {
                return;
            }
        }
        panic!("no Xid is heard:\n{}", self.rig.plugin.log().join("\n"));
    }

    /// Returns whether it can: a GPU that was lost is back only in a new session of NVML, which
    /// cannot begin while a call of the present one hangs.
    async fn restore(&mut self, gpu: usize) -> bool {
        let hangs = self.truth.iter().any(|truth| truth.fault == Some(Fault::Hung));
        if hangs && self.truth[gpu].fault == Some(Fault::Lost) {
            return false;
        }
        let node = &self.rig.node;
        node.restore(gpu).unwrap();
        if self.truth[gpu].fault == Some(Fault::Xid) && self.old_driver {
            let cleared = run(node, &plugin(), &["clear", &node.uuid(gpu)]).await;
            assert_eq!(cleared.code, Some(0), "{}", cleared.text);
        }
        self.truth[gpu].fault = None;
        true
    }

    /// Puts an entry there, or takes away the one that is there.
    fn quarantine(&mut self, gpu: usize, entry: Entry) {
        let path = self.rig.node.quarantine_directory().join(self.rig.node.uuid(gpu));
        let quarantined = &mut self.truth[gpu].quarantined;
        match entry {
            _ if *quarantined => fs::remove_file(path).unwrap(),
            Entry::File => fs::write(path, "drained").unwrap(),
            Entry::Pipe => pipe(&path),
            Entry::LinkToNowhere => symlink("/nowhere", path).unwrap(),
        }
        *quarantined = !*quarantined;
    }

    /// A pod gets Healthy GPUs, each for itself, or is not admitted.
    async fn pod_comes(&mut self, devices: usize) {
        let pod = format!("pod{}", self.rig.kubelet.calls().len());
        let Ok(answer) = self.rig.kubelet.allocate(&pod, "main", GPU, devices).await else {
            return;
        };
        let visible = &answer.envs["NVIDIA_VISIBLE_DEVICES"];
        let uuids: Vec<&str> = visible.split(',').collect();
        assert_eq!(uuids.len(), devices);
        for uuid in uuids {
            let gpu = (0..GPUS).find(|gpu| self.rig.node.uuid(*gpu) == uuid).unwrap();
            assert!(self.truth[gpu].is_healthy(), "{uuid} was given to a pod");
        }
        self.pods.push(pod);
    }

    async fn restart_plugin(&mut self, killed: bool, options: PluginOptions) {
        if killed {
            self.causes_are_kept().await;
        }
        self.rig.plugin.signal(if killed { 9 } else { 15 }).unwrap();
        self.rig.plugin.wait_exit(PATIENCE).await.unwrap();
        self.rig.until("the plugin is gone", |view| view.allocatable(GPU) == 0).await;
        self.rig.plugin = Plugin::start(&self.rig.node, &options).unwrap();
    }

    async fn fill_log(&mut self) {
        self.restart_plugin(false, self.options.clone().unread()).await;
        // The list is what it was while nobody reads; what does not fit is dropped.
        self.check(None).await;
        let mut client = self.rig.kubelet.client(GPU).await.unwrap();
        let device_ids = (0..GPUS).map(|gpu| self.rig.node.uuid(gpu)).collect();
        let container_requests = vec![ContainerAllocateRequest { device_ids }];
        let request = AllocateRequest { container_requests };
        for _ in 0..UNREAD_CALLS {
            // Whether it is granted is not the question here.
            let _ = client.allocate(request.clone()).await;
        }
        self.check(None).await;
        self.rig.plugin.read_log();
    }

    /// What cannot be accepted or opened meanwhile is tried again.
    async fn cut_without_descriptors(&mut self) {
        let cut = |view: &View| view.resource(GPU).is_none_or(|resource| !resource.stream_open);
        let meanwhile = async || {
            self.rig.kubelet.drop_stream(GPU);
            self.rig.until("the stream is cut", cut).await;
        };
        self.rig.without_descriptors(meanwhile).await;
    }

    /// The kubelet is served meanwhile. A GPU that breaks then is found at the latest afterwards:
    /// NVML is asked on threads.
    async fn serve_without_threads(&mut self, gpu: usize, fault: Fault) -> bool {
        let limit = ThreadLimit::of(self.rig.plugin.pid());
        self.rig.kubelet.drop_stream(GPU);
        self.check(None).await;
        self.pod_comes(1).await;
        // An Xid is waited for here.
        let broken = fault != Fault::Xid && self.break_gpu(gpu, fault).await;
        drop(limit);
        broken
    }

    /// Waits until the state file has what counts, and nothing of a GPU that is well again: the
    /// list does not wait for a disk.
    async fn causes_are_kept(&self) {
        let kept = async || self.are_causes_kept().then_some(());
        self.rig.eventually("the causes that count are in the state file", kept).await;
    }

    fn are_causes_kept(&self) -> bool {
        let file = self.rig.node.state_directory().join("health.json");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        self.truth.iter().enumerate().all(|(gpu, truth)| {
            let causes = state["gpus"][self.rig.node.uuid(gpu)].as_array();
            let causes = causes.map(Vec::as_slice).unwrap_or_default();
            match truth.fault {
                None => causes.is_empty(),
                Some(Fault::Xid) => causes.iter().any(|cause| cause["cause"] == "xid"),
                Some(_) => true,
            }
        })
    }

    /// Waits until the kubelet's list is true, and looks at all that came until then.
    async fn check(&mut self, about: Option<usize>) {
        let (truth, life) = (self.truth, self.life);
        let uuids: Vec<String> = (0..GPUS).map(|gpu| self.rig.node.uuid(gpu)).collect();
        let is_true = |view: &View| {
            view.life == life
                && view.resource(GPU).is_some_and(|resource| resource.stream_open)
                && uuids
                    .iter()
                    .zip(truth)
                    .all(|(uuid, truth)| view.healthy(GPU, uuid) == Some(truth.is_healthy()))
        };
        self.rig.until(&format!("{truth:?}"), is_true).await;
        // A kubelet takes every device as Unhealthy by itself when the stream is cut.
        let last_is_true = async || {
            let lists = self.rig.kubelet.lists(GPU);
            let of = |id: &String| uuids.iter().position(|uuid| uuid == id);
            let mut last = lists.last()?.devices.iter();
            let right = |gpu: usize, health: &str| truth[gpu].is_healthy() == (health == "Healthy");
            last.all(|device| of(&device.id).is_some_and(|gpu| right(gpu, &device.health)))
                .then_some(())
        };
        self.rig.eventually("the last list is true", last_is_true).await;
        let lists = self.rig.kubelet.lists(GPU);
        for list in &lists[self.seen..] {
            for device in &list.devices {
                let gpu = uuids.iter().position(|uuid| *uuid == device.id);
                let gpu = gpu.expect("an id of a GPU");
                let healthy = device.health == "Healthy";
                let right = about == Some(gpu) || healthy == truth[gpu].is_healthy();
                let log = || self.rig.plugin.log().join("\n");
                assert!(right, "GPU {gpu} was listed as {}:\n{}", device.health, log());
            }
            assert_eq!(list.devices.len(), GPUS, "a list without a GPU");
        }
        self.seen = lists.len();
    }
}

/// The steps of one walk.
fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| step().new_tree(&mut runner).unwrap().current()).collect()
}

/// Tells how far a walk has come when it fails.
struct Trace(String);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

async fn walk(branch: &'static str, version: KubeletVersion, seed: u64, count: usize) {
    let mut trace = Trace(format!("{branch}, {version:?}, PROPTEST_RNG_SEED={seed}:\n"));
    let mut walk = Walk::begin(branch, version).await;
    walk.check(None).await;
    for step in steps(seed, count) {
        let _ = writeln!(trace.0, "  {step:?}");
        let about = walk.take(&step).await;
        walk.check(about).await;
    }
    walk.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_true_after_each_of_many_random_steps() {
    let asked = std::env::var("RANDOM_STEPS").ok().map(|text| text.parse().unwrap());
    let count: usize = asked.unwrap_or(STEPS) / WALKS.len();
    let seed = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => {
            proptest::prelude::any::<u64>().new_tree(&mut TestRunner::default()).unwrap().current()
        }
    };
    let all = async {
        let mut walks = JoinSet::new();
        for (branch, version) in WALKS {
            walks.spawn_local(walk(branch, version, seed, count));
        }
        while let Some(ended) = walks.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(all).await;
}
