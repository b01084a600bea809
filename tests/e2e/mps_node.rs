//! A node with the driver's MPS programs, played by this executable, and the supervisor on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fake_mps::{BEHAVIOUR, Behaviour, CudaClient, Fault, Gpu, Invocation};
use fake_nvml::profiles;
use simnode::node::{Plugin, PluginOptions, kill_all_with};

use crate::dropin::config;
use crate::rig::{GPU, PATIENCE, Rig, kubelet, node, plugin, script};

/// The variables by which this executable is one of the programs.
const NAME: &str = "FAKE_MPS_NAME";
const ARGUMENTS: &str = "FAKE_MPS_ARGUMENTS";

/// Not a test: what the programs on the node start, so that they need not be built by themselves.
/// What it writes goes past the test harness, by the descriptors 3 and 4.
#[test]
#[ignore = "a program of the simulated node"]
#[allow(clippy::exit, reason = "it is a program")]
fn program() {
    let Ok(name) = std::env::var(NAME) else { return };
    let descriptor = |number: u32| {
        let path = format!("/proc/self/fd/{number}");
        Box::new(fs::OpenOptions::new().write(true).open(path).expect("a descriptor"))
    };
    let arguments = std::env::var(ARGUMENTS).unwrap_or_default();
    let code = fake_mps::run(Invocation {
        name,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        environment: std::env::vars().collect(),
        input: Box::new(std::io::stdin()),
        output: descriptor(3),
        error: descriptor(4),
    });
    std::process::exit(code);
}

/// A node with MPS.
pub(crate) struct MpsNode {
    pub(crate) rig: Rig,
    /// The MPS root.
    pub(crate) root: PathBuf,
    behaviour: PathBuf,
    options: PluginOptions,
}

/// A config file that shares whole GPUs by MPS.
pub(crate) fn shared(replicas: u32, more: &str) -> String {
    let head = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms}\nsharing:\n  mps:\n";
    let resource = format!("    - name: nvidia.com/gpu\n      replicas: {replicas}\n");
    format!("{head}{more}    resources:\n{resource}")
}

/// A config file with a resource of H100s and one of all others, each shared by MPS.
pub(crate) fn two_resources(one: u32, two: u32) -> String {
    format!(
        "version: v1\nflags: {{plugin: {{customResources: true}}}}\nresources:\n  gpus:\n  - \
         {{pattern: \"*H100*\", name: nvidia.com/one}}\n  - {{pattern: \"*\", name: \
         nvidia.com/two}}\nsharing:\n  mps:\n    resources:\n    - {{name: nvidia.com/one, \
         replicas: {one}}}\n    - {{name: nvidia.com/two, replicas: {two}}}\n"
    )
}

impl MpsNode {
    /// Two H100s with a plugin that shares them as a config file says, and no control daemon yet.
    pub(crate) async fn new(text: &str) -> Self {
        Self::with(text, |options| options, |_| {}).await
    }

    /// Two H100s, each shared by so many, with a supervisor by which all replicas are allocatable.
    pub(crate) async fn served(replicas: u32) -> (Self, Plugin) {
        let mps = Self::new(&shared(replicas, "")).await;
        let supervisor = mps.supervise();
        mps.allocatable(GPU, 2 * usize::try_from(replicas).unwrap(), &supervisor).await;
        (mps, supervisor)
    }

    /// An H100 that is shared by two as nvidia.com/one, and a T4 by three as nvidia.com/two.
    pub(crate) async fn of_two_resources() -> Self {
        let change =
            |state: &mut fake_nvml::state::State| state.gpus[1].name = "NVIDIA T4".to_owned();
        Self::with(&two_resources(2, 3), |options| options, change).await
    }

    /// The same, with other options of the plugin and another driver.
    pub(crate) async fn with(
        text: &str,
        options: impl FnOnce(PluginOptions) -> PluginOptions,
        change: impl FnOnce(&mut fake_nvml::state::State),
    ) -> Self {
        let mut state = profiles::h100x8();
        state.gpus.truncate(2);
        change(&mut state);
        let node = node(state);
        let (root, behaviour) = (node.root().join("mps"), node.root().join("behaviour.json"));
        fs::create_dir(&root).unwrap();
        let gpu = |gpu: &fake_nvml::state::Gpu| Gpu {
            uuid: gpu.uuid.clone(),
            pci_bus_id: gpu.uuid.clone(),
            memory_mib: 80_000,
            // CUDA would number them the other way round.
            speed: u32::from(gpu.uuid == node.uuid(1)),
        };
        let gpus = node.state().gpus.iter().map(gpu).collect();
        Behaviour { protocol: 2, gpus, ..Behaviour::default() }.write(&behaviour).unwrap();
        let bin = node.driver_root().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        for name in ["nvidia-cuda-mps-control", "nvidia-smi"] {
            install(&bin.join(name), name, &behaviour);
        }
        let options = options(plugin())
            .env("CONFIG_FILE", config(&node, text))
            .env("MPS_ROOT", "/run/nvidia/mps")
            .env("MPS_DIR", &root);
        let kubelet = kubelet(node.kubelet()).await;
        let plugin = Plugin::start(&node, &options).unwrap();
        Self { rig: Rig { kubelet, plugin, node }, root, behaviour, options }
    }

    /// Ends the plugin and starts another one, with another config file if there is one.
    pub(crate) async fn restart_plugin(&mut self, text: Option<&str>) {
        self.rig.plugin.terminate().unwrap();
        self.rig.plugin.wait_exit(PATIENCE).await.unwrap();
        text.map(|text| config(&self.rig.node, text));
        self.rig.plugin = Plugin::start(&self.rig.node, &self.options).unwrap();
    }

    /// The supervisor, as it runs in a container of its own: of the plugin's it has the MPS root.
    pub(crate) fn supervise(&self) -> Plugin {
        let options = plugin().bare().arg("--log-level").arg("debug").arg("mps-control-daemon");
        let options = options
            .env("MPS_DIR", &self.root)
            .env("DRIVER_ROOT_CTR_PATH", self.rig.node.driver_root());
        Plugin::start(&self.rig.node, &options).unwrap()
    }

    /// What the doctor says of MPS: the level of each finding, by its id.
    pub(crate) async fn doctor(&self) -> BTreeMap<String, String> {
        let options = self.options.clone().arg("doctor").arg("-o").arg("json");
        let options = options.arg("--host-root").arg(self.host());
        let mut doctor = Plugin::start(&self.rig.node, &options).unwrap();
        doctor.wait_exit(PATIENCE).await.unwrap();
        let report: serde_json::Value = serde_json::from_str(&doctor.log().join("\n")).unwrap();
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        let findings = findings.map(|finding| (text(finding, "id"), text(finding, "level")));
        findings.filter(|(id, _)| id.starts_with("runtime.mps")).collect()
    }

    /// The root of the host, for the doctor.
    fn host(&self) -> PathBuf {
        self.rig.node.root().join("host")
    }

    /// A control daemon of somebody else's, at the pipes that are the default.
    pub(crate) fn foreign_daemon(&self) -> std::process::Child {
        let pipes = self.host().join("tmp/nvidia-mps");
        fs::create_dir_all(&pipes).unwrap();
        std::process::Command::new(self.program("nvidia-cuda-mps-control"))
            .arg("-f")
            .env("CUDA_MPS_PIPE_DIRECTORY", &pipes)
            .env("CUDA_MPS_LOG_DIRECTORY", &pipes)
            .spawn()
            .unwrap()
    }

    /// A program of the driver.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.rig.node.driver_root().join("usr/bin").join(name)
    }

    /// Changes what goes wrong.
    pub(crate) fn fault(&self, step: &str, fault: Option<Fault>) {
        let mut behaviour = Behaviour::read(&self.behaviour).unwrap();
        match fault {
            Some(fault) => drop(behaviour.faults.insert(step.to_owned(), fault)),
            None => drop(behaviour.faults.remove(step)),
        }
        behaviour.write(&self.behaviour).unwrap();
    }

    /// Sets the protocol that the daemon speaks by default.
    pub(crate) fn speaks(&self, protocol: u32) {
        let behaviour = Behaviour::read(&self.behaviour).unwrap();
        Behaviour { protocol, ..behaviour }.write(&self.behaviour).unwrap();
    }

    /// Every start of a program and every command so far, but for those that only ask.
    pub(crate) fn trace(&self) -> Vec<String> {
        let text = fs::read_to_string(self.behaviour.with_file_name("trace")).unwrap_or_default();
        let asks = |line: &&str| line.starts_with("command get_") || *line == "no daemon";
        text.lines().filter(|line| !asks(line)).map(str::to_owned).collect()
    }

    /// The compute mode of a GPU.
    pub(crate) fn mode(&self, index: usize) -> String {
        fs::read_to_string(self.mode_file(index)).unwrap_or_default()
    }

    /// Sets the compute mode of a GPU, as an administrator.
    pub(crate) fn set_mode(&self, index: usize, mode: &str) {
        fs::write(self.mode_file(index), mode).unwrap();
    }

    fn mode_file(&self, index: usize) -> PathBuf {
        self.behaviour.with_file_name(format!("compute-mode-{}", self.rig.node.uuid(index)))
    }

    /// The commands in the log of the daemon of a resource that change something.
    pub(crate) fn changes(&self, resource: &str) -> Vec<String> {
        let log = fs::read_to_string(self.root.join(resource).join("log/control.log"));
        let log = log.unwrap_or_default();
        let commands = log.lines().filter_map(|line| Some(line.split_once("Cmd:")?.1));
        commands.filter(|command| !command.starts_with("get_")).map(str::to_owned).collect()
    }

    /// The pipes of the daemon of a resource.
    pub(crate) fn pipes(&self, resource: &str) -> PathBuf {
        self.root.join(resource).join("pipe")
    }

    /// The process id of the daemon of a resource.
    pub(crate) fn daemon(&self, resource: &str) -> Option<i32> {
        let file = self.pipes(resource).join("nvidia-cuda-mps-control.pid");
        fs::read_to_string(file).ok()?.parse().ok()
    }

    /// A command that a tenant sends from its container; its output.
    pub(crate) fn tenant_sends(&self, line: &str) -> String {
        let mut output = Vec::new();
        let environment = [
            (BEHAVIOUR.to_owned(), self.behaviour.display().to_string()),
            ("CUDA_MPS_PIPE_DIRECTORY".to_owned(), self.pipes(GPU).display().to_string()),
        ];
        fake_mps::run(Invocation {
            name: "nvidia-cuda-mps-control".to_owned(),
            arguments: Vec::new(),
            environment: environment.into(),
            input: Box::new(line.as_bytes()),
            output: Box::new(&mut output),
            error: Box::new(std::io::sink()),
        });
        String::from_utf8(output).unwrap()
    }

    /// A program in a container, with the variables that it got.
    pub(crate) fn client(&self, pid: u32, user: u32, environment: &[(&str, &str)]) -> CudaClient {
        CudaClient::connect(&self.pipes(GPU), (pid, user), environment).unwrap()
    }

    /// Waits until so many devices of a resource can be allocated; a failure shows both logs.
    pub(crate) async fn allocatable(&self, resource: &str, count: usize, supervisor: &Plugin) {
        let what = format!("{count} of {resource}");
        let seen = |view: &simnode::View| view.allocatable(resource) == count;
        if let Err(error) = self.rig.kubelet.wait_until(&what, PATIENCE, seen).await {
            let (plugin, supervisor) = (self.rig.plugin.log(), supervisor.log());
            panic!("{error:#}\n{}\n\n{}", plugin.join("\n"), supervisor.join("\n"));
        }
    }
}

impl Drop for MpsNode {
    fn drop(&mut self) {
        // A control daemon outlives a supervisor that is killed, as at the end of a test.
        kill_all_with(BEHAVIOUR, &self.behaviour);
    }
}

fn install(file: &Path, name: &str, behaviour: &Path) {
    let executable = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\n{BEHAVIOUR}={} {NAME}={name} {ARGUMENTS}=\"$*\"\nexport {BEHAVIOUR} {NAME} \
         {ARGUMENTS}\nexec {} mps_node::program --exact --ignored --quiet --nocapture 3>&1 4>&2 \
         >/dev/null 2>&1\n",
        behaviour.display(),
        executable.display(),
    );
    script(file, &text);
}

/// Kills a process that the supervisor has started.
pub(crate) fn kill(pid: i32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "it runs");
}
