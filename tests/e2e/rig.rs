//! A simulated node with a kubelet and the plugin on it.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::State;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use simnode::eventually;
use simnode::kubelet::{Kubelet, KubeletConfig, KubeletVersion, View};
use simnode::node::{Figures, Node, Plugin, PluginOptions};

/// The resource of whole GPUs.
pub(crate) const GPU: &str = "nvidia.com/gpu";
/// Long enough that only a failure takes it, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node of eight H100s, its kubelet and the plugin.
pub(crate) struct Rig {
    pub(crate) kubelet: Kubelet,
    pub(crate) plugin: Plugin,
    pub(crate) node: Node,
}

/// The plugin as a test starts it.
pub(crate) fn plugin() -> PluginOptions {
    PluginOptions::new(env!("CARGO_BIN_EXE_gpu-device-plugin"))
}

/// The plugin that polls no GPU while a test goes on, however long it takes: one with Xid 79 that
/// answers is Healthy again after a poll.
pub(crate) fn without_polls() -> PluginOptions {
    plugin().env("HEALTH_POLL_INTERVAL", "10m")
}

/// Copies a program to where it can be run. A process of its own writes it: what this one has open
/// for writing is open too in a process that another test is about to start, and cannot be run as
/// long as it is (ETXTBSY).
pub(crate) fn install(program: &Path, at: &Path) {
    let installed = Command::new("install").args(["-m", "755"]).arg(program).arg(at).status();
    assert!(installed.is_ok_and(|status| status.success()), "{} is installed", at.display());
}

/// Writes a script that can be run.
pub(crate) fn script(at: &Path, text: &str) {
    let source = at.with_extension("source");
    fs::write(&source, text).expect("a script");
    install(&source, at);
    fs::remove_file(source).expect("it is there");
}

/// Replaces a file that is watched, or creates it, so that nobody reads a part of it.
pub(crate) fn replace(path: &Path, text: &str) {
    // A file whose name begins with a dot is nothing to those that read the directory.
    let next = path.with_file_name(".next");
    fs::write(&next, text).expect("the directory is ours");
    fs::rename(next, path).expect("it was written");
}

/// Creates a socket that its listener has left behind.
pub(crate) async fn left_socket(path: &Path) {
    drop(UnixListener::bind(path).expect("the directory is ours"));
    until_refused(path).await;
}

/// Waits until nobody listens at a socket that was closed: a process that another test is about to
/// start has it open for a moment more.
pub(crate) async fn until_refused(socket: &Path) {
    let refused = async || UnixStream::connect(socket).is_err().then_some(());
    eventually("nobody listens", PATIENCE, refused).await.expect("it was closed");
}

pub(crate) fn eight_h100s() -> Node {
    node(profiles::h100x8())
}

pub(crate) fn node(state: State) -> Node {
    Node::new(state).expect("a simulated node")
}

/// A kubelet that fails the test at its end over what the plugin did against the contract, unless
/// that was forgiven.
pub(crate) async fn kubelet(config: KubeletConfig) -> Kubelet {
    Kubelet::start(config.guarded()).await.expect("a fake kubelet")
}

impl Rig {
    /// Eight H100s, a kubelet of this version, and the plugin without polls, with its list
    /// received.
    pub(crate) async fn of(version: KubeletVersion) -> Self {
        let node = eight_h100s();
        let config = node.kubelet().version(version);
        Self::on(node, config, &without_polls(), 8).await
    }

    /// The plugin on a node, with a list that has `allocatable` devices.
    pub(crate) async fn on(
        node: Node,
        config: KubeletConfig,
        options: &PluginOptions,
        allocatable: usize,
    ) -> Self {
        let kubelet = kubelet(config).await;
        let plugin = Plugin::start(&node, options).expect("the plugin");
        let rig = Self { kubelet, plugin, node };
        rig.until("the first list", |view| view.allocatable(GPU) == allocatable).await;
        rig
    }

    /// Waits for a condition of the kubelet's view; a failure shows the plugin's log.
    pub(crate) async fn until(
        &self,
        what: &str,
        condition: impl FnMut(&View) -> bool + Send,
    ) -> View {
        match self.kubelet.wait_until(what, PATIENCE, condition).await {
            Ok(view) => view,
            Err(error) => panic!("{error:#}\n{}", self.plugin.log().join("\n")),
        }
    }

    /// Waits until the device at this index is healthy or not in the kubelet's list.
    pub(crate) async fn until_healthy(&self, index: usize, healthy: bool) {
        let uuid = self.node.uuid(index);
        let what = format!("GPU {index} is {}", if healthy { "Healthy" } else { "Unhealthy" });
        self.until(&what, |view| view.healthy(GPU, &uuid) == Some(healthy)).await;
    }

    /// The driver reports an Xid on a GPU until it is Unhealthy: an event before the registration
    /// is lost, as with the real driver.
    pub(crate) async fn xid_until_heard(&self, index: usize, xid: u64) {
        let uuid = self.node.uuid(index);
        let heard = |view: &View| view.healthy(GPU, &uuid) == Some(false);
        for _ in 0..30 {
            self.node.xid(index, xid).expect("the node is ours");
            if self
                .kubelet
                .wait_until("an Xid is heard", Duration::from_secs(1), heard)
                .await
                .is_ok()
            {
                break;
            }
        }
        self.until_healthy(index, false).await;
    }

    /// Waits for a line in the plugin's log.
    pub(crate) async fn logged(&self, text: &str) -> String {
        self.plugin.wait_for_log(text, PATIENCE).await.expect("the line is written").1
    }

    /// The plugin gets no descriptor more while this goes on.
    pub(crate) async fn without_descriptors(&self, meanwhile: impl AsyncFnOnce()) {
        let pid = Pid::from_raw(self.plugin.pid().cast_signed());
        let none = Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) };
        let before = prlimit(pid, Resource::Nofile, none).expect("it is ours");
        meanwhile().await;
        prlimit(pid, Resource::Nofile, before).expect("it is there");
    }

    /// Looks until there is an answer; for what nobody gives notice of. A failure shows the
    /// plugin's log.
    pub(crate) async fn eventually<T>(
        &self,
        what: &str,
        look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        match eventually(what, PATIENCE, look).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error:#}\n{}", self.plugin.log().join("\n")),
        }
    }

    /// What /proc tells of the plugin, at a moment when it has no file open in passing and fulfils
    /// the condition.
    pub(crate) async fn settled(
        &self,
        what: &str,
        condition: impl Fn(&Figures) -> bool,
    ) -> Figures {
        let mut last = self.plugin.figures().expect("the plugin runs");
        let settled = eventually(what, PATIENCE, async || {
            last = self.plugin.figures().expect("the plugin runs");
            (last.files == 0 && condition(&last)).then(|| last.clone())
        });
        match settled.await {
            Ok(figures) => figures,
            Err(error) => panic!("{error:#}: {last:?}"),
        }
    }

    /// How often the kubelet has accepted a registration, over all its lives.
    pub(crate) fn registrations(&self) -> usize {
        self.kubelet.view().accepted(GPU).count()
    }

    /// The plugin did nothing that a kubelet would only have put up with.
    pub(crate) fn assert_flawless(&self) {
        let violations = self.kubelet.violations();
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.plugin.log().join("\n"));
    }
}
