//! `doctor`: each known cause of a node without GPUs is made on a simulated node, and named with
//! what mends it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use fake_nvml::profiles;
use fake_nvml::state::{Rule, State};
use serde_json::Value;
use simnode::kubelet::{CHECKPOINT, ViolationKind};
use simnode::node::{Node, Plugin, PluginOptions};

use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, kubelet, left_socket, node, plugin, script, until_refused};

const CONTAINERD: &str = "etc/containerd/config.toml";
const TOOLKIT: &str = "etc/nvidia-container-runtime/config.toml";
const RUNTIME: &str = "usr/bin/nvidia-container-runtime";

/// A containerd with NVIDIA's runtime, as `nvidia-ctk runtime configure --set-as-default` leaves
/// it.
const CONFIGURED: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"#;

/// A node with the files of its host, and the options of `doctor`.
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) options: PluginOptions,
    /// Arguments of `doctor` itself.
    pub(crate) arguments: Vec<&'static str>,
}

/// What `doctor` printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Report {
    code: Option<i32>,
    document: Value,
}

impl Machine {
    /// A node in good order, without kubelet or plugin.
    pub(crate) fn new(state: State) -> Self {
        let node = node(state);
        let options = plugin()
            .env("HTTP_ADDRESS", format!("unix:{}", node.root().join("http.sock").display()));
        let machine = Self { node, options, arguments: Vec::new() };
        for directory in ["etc", "usr", "var/lib/kubelet", "run/containerd"] {
            fs::create_dir_all(machine.host(directory)).unwrap();
        }
        fs::write(machine.host("run/containerd/containerd.sock"), "").unwrap();
        machine.write(CONTAINERD, CONFIGURED);
        machine.write(RUNTIME, "");
        machine.write(
            TOOLKIT,
            "disable-require = false\n[nvidia-container-runtime]\nmode = \"auto\"\n",
        );
        machine.write("etc/os-release", "ID=ubuntu\n");
        machine.script("usr/bin/kubelet", "echo Kubernetes v1.36.2");
        machine
    }

    fn host(&self, path: &str) -> PathBuf {
        self.node.root().join("host").join(path)
    }

    /// Writes a file of the host.
    fn write(&self, path: &str, text: &str) {
        let path = self.host(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn script(&self, path: &str, text: &str) {
        let path = self.host(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        script(&path, &format!("#!/bin/sh\n{text}\n"));
    }

    fn env(mut self, name: &str, value: impl Into<std::ffi::OsString>) -> Self {
        self.options = self.options.env(name, value);
        self
    }

    /// With a short deadline for each call of NVML.
    pub(crate) fn with_short_deadline(mut self) -> Self {
        self.arguments = vec!["--driver-timeout", "1"];
        self
    }

    fn arguments(&self, arguments: &[&str]) -> PluginOptions {
        let options = self.options.clone().arg("doctor");
        let arguments = self.arguments.iter().chain(arguments);
        let options = arguments.fold(options, |options, argument| options.arg(*argument));
        options.arg("--host-root").arg(self.host(""))
    }

    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut doctor = Plugin::start(&self.node, &self.arguments(arguments)).unwrap();
        let status = doctor.wait_exit(PATIENCE).await.unwrap();
        (status.code(), doctor.log().join("\n"))
    }

    pub(crate) async fn report(&self) -> Report {
        let (code, text) = self.run(&["-o", "json"]).await;
        let document =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Report { code, document }
    }
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.document["findings"].as_array().unwrap().iter()
    }

    /// There is a finding of this level and name which has each of these texts in it; all that is
    /// not as it should be says why and what to do.
    pub(crate) fn has(&self, level: &str, id: &str, texts: &[&str]) {
        let fits = |finding: &&Value| {
            let told = ["checked", "seen", "why", "fix"]
                .map(|part| finding[part].as_str().unwrap_or_default())
                .join("\n");
            finding["level"] == level
                && finding["id"] == id
                && texts.iter().all(|text| told.contains(text))
        };
        assert!(
            self.findings().any(|finding| fits(&finding)),
            "{level} {id} {texts:?} is not in {:#}",
            self.document
        );
        for finding in self.findings().filter(|finding| finding["level"] != "ok") {
            assert!(
                finding["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
                "no remedy: {finding}"
            );
        }
    }

    /// Nothing is a problem, where the plugin runs, and something could not be checked.
    fn unchecked(&self) {
        assert!(self.findings().any(|f| f["level"] == "unknown"), "{:#}", self.document);
        self.problems(&[]);
    }

    /// Nothing but these is a problem, where the plugin runs; most of these nodes have none.
    pub(crate) fn problems(&self, ids: &[&str]) {
        let mut problems: Vec<&str> = self
            .findings()
            .filter(|f| f["level"] == "problem")
            .map(|f| f["id"].as_str().unwrap())
            .collect();
        problems.dedup();
        let unknown = self.findings().any(|f| f["level"] == "unknown");
        let code = if problems.is_empty() && unknown { 2 } else { i32::from(!problems.is_empty()) };
        assert_eq!(self.code, Some(code), "{:#}", self.document);
        problems.retain(|id| *id != "kubelet.plugin" || ids.contains(id));
        assert_eq!(problems, ids, "{:#}", self.document);
    }
}

/// A node with a kubelet on it, a cause made by `make`, and the finding that names it: level, id,
/// texts.
pub(crate) async fn with_kubelet(
    what: &str,
    make: impl FnOnce(Machine) -> Machine,
    level: &str,
    id: &str,
    texts: &[&str],
) -> Report {
    println!("{what}");
    let machine = Machine::new(profiles::h100x8());
    let kubelet = kubelet(machine.node.kubelet()).await;
    let machine = make(machine);
    let report = machine.report().await;
    report.has(level, id, texts);
    let violations = kubelet.violations();
    assert!(violations.is_empty(), "{what}: {violations:?}");
    report
}

/// As [`with_kubelet`], where the cause is the only problem.
pub(crate) async fn problem(
    what: &str,
    make: impl FnOnce(Machine) -> Machine,
    id: &str,
    texts: &[&str],
) {
    with_kubelet(what, make, "problem", id, texts).await.problems(&[id]);
}

async fn warning(what: &str, make: impl FnOnce(Machine) -> Machine, id: &str, texts: &[&str]) {
    with_kubelet(what, make, "warning", id, texts).await.problems(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_node_in_good_order_with_the_plugin_beside_it_all_is_well_and_nothing_is_changed() {
    let machine = Machine::new(profiles::h100x8()).env("API_TOKEN", "opensesame");
    let kubelet = kubelet(machine.node.kubelet()).await;
    let plugin = Plugin::start(&machine.node, &machine.options).unwrap();
    let Machine { node, options, arguments } = machine;
    let rig = Rig { kubelet, plugin, node };
    rig.until("the first list", |view| view.allocatable(GPU) == 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
    // The plugin itself writes which GPUs it knows.
    let state = rig.node.state_directory().join("health.json");
    while !fs::read_to_string(&state).is_ok_and(|text| text.contains("GPU-")) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = files(rig.node.root());
    let machine = Machine { node: rig.node, options, arguments };
    let report = machine.report().await;
    assert_eq!(report.code, Some(0), "{:#}", report.document);
    assert_eq!(report.document["verdict"], "fine");
    assert_eq!(report.document["schemaVersion"], 1);
    let not_ok: Vec<&Value> =
        report.findings().filter(|finding| finding["level"] != "ok").collect();
    assert!(not_ok.is_empty(), "{not_ok:#?}");
    report.has("ok", "gpus.offered", &["nvidia.com/gpu: 8 (8 Healthy)"]);
    report.has("ok", "kubelet.plugin", &["serves nvidia-gpu-"]);
    report.has("ok", "kubelet.known", &["it can allocate nvidia.com/gpu: 8 devices"]);
    report.has("ok", "kubelet.ready", &["ready: nvidia.com/gpu"]);
    report.has("ok", "driver.versions", &["580.95.05"]);
    let after = files(machine.node.root());
    let is_same = |path: &&PathBuf| before.get(*path) == after.get(*path);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(|path| !is_same(path)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert!(rig.kubelet.violations().is_empty(), "{:?}", rig.kubelet.violations());
    let (code, text) = machine.run(&[]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("Nothing was found that keeps GPUs from pods."), "{text}");
    assert!(!text.contains('\x1b'), "colour is for terminals");
    assert!(!text.contains("opensesame") && !report.document.to_string().contains("opensesame"));
}

/// Every file below a directory with its mode and its content, but the checkpoint that the kubelet
/// writes by and by.
fn files(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if !name.starts_with('.') && name != CHECKPOINT {
            let content = if kind.is_file() { fs::read(entry.path()) } else { Ok(Vec::new()) };
            let mode = entry.metadata().map(|there| there.permissions().mode());
            found.insert(entry.path(), (mode.unwrap_or_default(), content.unwrap_or_default()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_running_plugin_has_seen_is_reported_from_its_status() {
    let machine = Machine::new(profiles::h100x8());
    let kubelet = kubelet(machine.node.kubelet()).await;
    let mut plugin = Plugin::start(&machine.node, &machine.options).unwrap();
    kubelet.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    machine.node.xid(3, 95).unwrap();
    kubelet.wait_allocatable(GPU, 7, PATIENCE).await.unwrap();
    let http = plugin.http(PATIENCE).await.unwrap();
    until(&http, "/readyz", "ready", |answer| answer.status == 200).await;
    // Without access to the state file, `doctor` learns it from the running plugin.
    let with_state = machine.options.clone();
    let mut machine = Machine { options: with_state.clone().arg("--state-dir="), ..machine };
    let report = machine.report().await;
    report.has("ok", "gpus.gpu", &["GPU 4"]);
    report.has(
        "problem",
        "gpus.plugin",
        &["GPU 3, by the running plugin", "Xid 95", "drain the GPU and reset it"],
    );
    report.problems(&["gpus.plugin"]);
    // Once the plugin has stopped, its state file is read.
    machine.options = with_state;
    plugin.terminate().unwrap();
    plugin.wait_exit(PATIENCE).await.unwrap();
    let report = machine.report().await;
    report.has("problem", "gpus.gpu", &["GPU 3", "Xid 95", "drain the GPU and reset it"]);
    report.problems(&["gpus.gpu"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_are_all_reported() {
    let make = |machine: Machine| {
        machine.env("MIG_STRATEGY", "sometimes").env("DEVICE_ID_STRATEGY", "name")
    };
    let report = with_kubelet(
        "two",
        make,
        "problem",
        "configuration.mistake",
        &["sometimes", "config show"],
    )
    .await;
    report.has("problem", "configuration.mistake", &["DEVICE_ID_STRATEGY"]);
    report.problems(&["configuration.mistake"]);
    let make = |machine: Machine| machine.env("CONFIG_FILE", "/nowhere/config.yaml");
    problem("no file", make, "configuration.mistake", &["/nowhere/config.yaml", "cannot be read"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_gpus_on_the_bus_is_reported() {
    let devices = |machine: &Machine| machine.node.sysfs().join("bus/pci/devices");
    let empty = |machine: Machine| {
        fs::remove_dir_all(devices(&machine)).unwrap();
        fs::create_dir(devices(&machine)).unwrap();
        machine.node.edit(|state| state.gpus.clear()).unwrap();
        machine
    };
    let report = with_kubelet("no GPU", empty, "problem", "driver.bus", &["vendor 0x10de"]).await;
    report.problems(&["driver.bus", "gpus.offered"]);
    let unseen = |machine: Machine| {
        fs::remove_dir_all(devices(&machine)).unwrap();
        machine
    };
    let report = with_kubelet("no sysfs", unseen, "unknown", "driver.bus", &["--sysfs-root"]).await;
    report.unchecked();
    let taken = |driver: &'static str, all: bool| {
        move |machine: Machine| {
            let gpus = machine.node.state().gpus;
            let count = if all { gpus.len() } else { 1 };
            gpus.iter()
                .take(count)
                .for_each(|gpu| machine.node.write_pci(gpu, Some(driver)).unwrap());
            machine.node.edit(|state| state.gpus.drain(..count).count()).unwrap();
            machine
        }
    };
    warning(
        "one passed through",
        taken("vfio-pci", false),
        "driver.bus",
        &["by vfio-pci", "virtual machines"],
    )
    .await;
    let report = with_kubelet(
        "nouveau",
        taken("nouveau", true),
        "problem",
        "driver.bus",
        &["blacklist nouveau"],
    )
    .await;
    report.problems(&["driver.bus", "gpus.offered"]);
    let dead = |machine: Machine| {
        machine.node.edit_gpu(2, |gpu| gpu.present = false).unwrap();
        machine
    };
    problem("not initialised", dead, "gpus.enumeration", &["7 GPUs of 8", "RmInitAdapter"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_not_loaded_or_not_of_one_version_is_reported() {
    let unloaded = |machine: Machine| {
        machine.node.write_module(None).unwrap();
        machine.node.edit(|state| state.driver.loaded = false).unwrap();
        machine
    };
    let report =
        with_kubelet("unloaded", unloaded, "problem", "driver.module", &["modprobe nvidia"]).await;
    report.has("problem", "driver.nvml", &["return code 9"]);
    report.problems(&["driver.module", "driver.nvml"]);
    // One cause is one problem, from which the other follows; that no plugin runs is another.
    let nvml = report.findings().find(|finding| finding["id"] == "driver.nvml").unwrap();
    assert_eq!(nvml["followsFrom"], "driver.module");
    assert_eq!(report.document["problems"], 2, "{:#}", report.document);
    let nouveau = |machine: Machine| {
        fs::create_dir_all(machine.node.sysfs().join("module/nouveau")).unwrap();
        unloaded(machine)
    };
    with_kubelet(
        "nouveau",
        nouveau,
        "problem",
        "driver.module",
        &["nouveau is loaded in its place"],
    )
    .await;
    let mismatch = |machine: Machine| {
        machine.node.edit(|state| state.driver.mismatch = true).unwrap();
        machine
    };
    problem("18", mismatch, "driver.nvml", &["return code 18", "reboot it", "mismatch"]).await;
    let two = |machine: Machine| {
        machine.node.write_module(Some("570.86.15")).unwrap();
        machine
    };
    problem(
        "two versions",
        two,
        "driver.versions",
        &["the module is 570.86.15, the library 580.95.05"],
    )
    .await;
    let no_uvm = |machine: Machine| {
        fs::create_dir_all(machine.node.sysfs().join("module/nvidia")).unwrap();
        machine
    };
    warning("no uvm", no_uvm, "driver.module", &["modprobe nvidia-uvm"]).await;
    let refuses = |machine: Machine| {
        machine
            .node
            .edit(|state| state.rules.push(Rule::answer("nvmlDeviceGetCount_v2", 999)))
            .unwrap();
        machine
    };
    problem("999", refuses, "driver.nvml", &["nvmlDeviceGetCount_v2", "return code 999"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_is_missing_or_none_is_reported_with_every_place_that_was_tried() {
    let named = |machine: Machine| {
        fs::remove_file(machine.node.nvml_library()).unwrap();
        machine
    };
    problem("named", named, "driver.library", &["--nvml-library", "No such file"]).await;
    let broken = |machine: Machine| {
        fs::write(machine.node.nvml_library(), "no library").unwrap();
        machine
    };
    problem("broken", broken, "driver.library", &["libnvidia-ml.so.1 ("]).await;
    // No library is named, and the driver's root has none.
    let searched = |machine: Machine| {
        let elsewhere = machine.node.root().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let machine = machine.env("NVML_LIBRARY", "").env("DRIVER_ROOT_CTR_PATH", elsewhere);
        Machine { options: placed(&machine), ..machine }
    };
    let texts = ["usr/lib64, usr/lib/x86_64-linux-gnu", "etc/ld.so.cache", "DRIVER_ROOT_CTR_PATH"];
    with_kubelet("searched", searched, "problem", "driver.library", &texts).await;
    let found = |machine: Machine| {
        let machine = machine.env("DRIVER_ROOT_CTR_PATH", "");
        let root = machine.node.driver_root();
        let machine = machine.env("DRIVER_ROOT_CTR_PATH", root);
        Machine { options: placed(&machine), ..machine }
    };
    with_kubelet("found", found, "ok", "driver.library", &["driver/usr/lib64/libnvidia-ml.so.1"])
        .await;
}

/// The options that place the plugin on the node, without the library and the driver's root.
pub(crate) fn placed(machine: &Machine) -> PluginOptions {
    let node = &machine.node;
    let options = machine.options.clone().bare();
    options
        .env("KUBELET_SOCKET", node.kubelet_socket())
        .env("POD_RESOURCES_SOCKET", node.pod_resources_socket())
        .env("SYSFS_ROOT", node.sysfs())
        .env("PROC_ROOT", node.proc())
        .env("STATE_DIR", node.state_directory())
        .env("QUARANTINE_DIR", node.quarantine_directory())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_hangs_or_kills_is_a_finding_and_no_hang() {
    let init = |machine: Machine| {
        machine.node.edit(|state| state.rules.push(Rule::hang("nvmlInit_v2"))).unwrap();
        machine.with_short_deadline()
    };
    // A driver that is just starting takes long as well.
    with_kubelet("init", init, "unknown", "driver.nvml", &["nvmlInit_v2 has not returned yet"])
        .await;
    let gpu = |machine: Machine| {
        machine
            .node
            .edit_gpu(3, |gpu| gpu.rules.push(Rule::hang("nvmlDeviceGetFieldValues")))
            .unwrap();
        machine.with_short_deadline()
    };
    let report = with_kubelet(
        "GPU 3",
        gpu,
        "problem",
        "gpus.gpu",
        &["GPU 3", "nvmlDeviceGetFieldValues does not return"],
    )
    .await;
    report.has("ok", "gpus.gpu", &["GPU 4"]);
    report.problems(&["gpus.gpu"]);
    let dies = |machine: Machine| {
        machine.node.edit(|state| state.rules.push(Rule::abort("nvmlInit_v2"))).unwrap();
        machine
    };
    problem("abort", dies, "driver.nvml", &["the process that asked it ended", "signal: 6"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_library_writes_holds_up_no_answer() {
    // The loader writes some megabytes to standard error.
    const NOISY: &str = "LD_DEBUG=all exec \"$0\" \"$@\" 2>/dev/null";
    let noisy = |machine: Machine| {
        let mut options = placed(&machine).env("NVML_LIBRARY", machine.node.nvml_library());
        let plugin = std::mem::replace(&mut options.binary, "sh".into());
        options.args = vec!["-c".into(), NOISY.into(), plugin.into()];
        Machine { options, ..machine }
    };
    with_kubelet("noise", noisy, "ok", "driver.nvml", &["answers: driver"]).await;
    // More than a pipe holds, on both standard streams, at the beginning and before the end.
    const BYTES: u32 = 1 << 20;
    let loud = |machine: Machine, rules: Vec<Rule>| {
        machine.node.edit(|state| state.rules = rules).unwrap();
        machine
    };
    let noise = || ["nvmlInit_v2", "nvmlSystemGetCudaDriverVersion_v2"].map(call);
    fn call(name: &str) -> Rule {
        Rule::noise(name, BYTES)
    }
    let answers = |machine| loud(machine, noise().into());
    let report = with_kubelet("loud", answers, "ok", "driver.nvml", &["answers: driver 580"]).await;
    report.has("ok", "gpus.gpu", &["GPU 7"]);
    report.problems(&[]);
    // The beginning of it is reported where the process ends.
    let dies = |machine| {
        let abort = Rule::abort("nvmlDeviceGetCount_v2");
        loud(machine, noise().into_iter().chain([abort]).collect())
    };
    problem("loud end", dies, "driver.nvml", &["signal: 6", "fake NVML: noise"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_nodes_that_are_missing_or_lead_nowhere_are_reported() {
    let missing = |name: &'static str| {
        move |machine: Machine| {
            fs::remove_file(machine.node.dev().join(name)).unwrap();
            machine
        }
    };
    problem(
        "a GPU's",
        missing("nvidia3"),
        "driver.nodes",
        &["nvidia3 is not there", "nvidia-modprobe"],
    )
    .await;
    problem("the control node", missing("nvidiactl"), "driver.nodes", &["nvidiactl is not there"])
        .await;
    warning(
        "uvm",
        missing("nvidia-uvm"),
        "driver.nodes",
        &["nvidia-uvm is not there", "CUDA needs it"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gpu_that_is_not_well_is_reported_with_what_to_do() {
    let edit = |change: fn(&mut fake_nvml::state::Gpu)| {
        move |machine: Machine| {
            machine.node.edit_gpu(5, change).unwrap();
            machine
        }
    };
    let lost = edit(|gpu| gpu.lost = true);
    with_kubelet("lost", lost, "problem", "gpus.gpu", &["GPU 5", "return code 15"]).await;
    let code = edit(|gpu| gpu.rules = vec![Rule::answer("nvmlDeviceGetUUID", 999)]);
    let texts = &["GPU 5", "nvmlDeviceGetUUID", "return code 999"];
    let report = with_kubelet("no UUID", code, "problem", "gpus.gpu", texts).await;
    report.has("problem", "gpus.layout", &["lists 8 GPUs and identifies 7"]);
    report.problems(&["gpus.gpu", "gpus.layout"]);
    let action = edit(|gpu| gpu.recovery_action = 1);
    problem("reset", action, "gpus.gpu", &["Unhealthy: the driver asks for a reset of the GPU"])
        .await;
    let failed = edit(|gpu| gpu.remapped_rows.as_mut().unwrap().failure = true);
    problem("remap failed", failed, "gpus.gpu", &["could not be remapped", "replace it"]).await;
    let pending = edit(|gpu| gpu.remapped_rows.as_mut().unwrap().pending = true);
    warning(
        "remap pending",
        pending,
        "gpus.gpu",
        &["waits to be remapped", "reset the GPU when convenient"],
    )
    .await;
    let pending = edit(|gpu| gpu.mig.as_mut().unwrap().pending = Some(true));
    let texts = &["MIG mode is off, and on after its next reset", "nvidia-smi --gpu-reset -i GPU-"];
    warning("MIG mode pending", pending, "gpus.gpu", texts).await;
    let unlicensed = edit(|gpu| gpu.licensed = Some(false));
    warning("unlicensed", unlicensed, "gpus.gpu", &["GPU 5", "unlicensed vGPU", "gridd"]).await;
    let licensed = |machine: Machine| {
        machine.node.edit_gpu(5, |gpu| gpu.licensed = Some(true)).unwrap();
        machine.node.edit(|state| state.driver.accepts_work = Some(true)).unwrap();
        machine
    };
    let texts = &["the GPUs accept work"];
    with_kubelet("licensed, ready", licensed, "ok", "gpus.confidential", texts).await.problems(&[]);
    let not_ready = |machine: Machine| {
        machine.node.edit(|state| state.driver.accepts_work = Some(false)).unwrap();
        machine
    };
    problem("not ready", not_ready, "gpus.confidential", &["conf-compute -srs 1"]).await;
    let quarantined = |machine: Machine| {
        fs::create_dir_all(machine.node.quarantine_directory()).unwrap();
        fs::write(machine.node.quarantine_directory().join("5"), "dcgm: bad memory\n").unwrap();
        machine
    };
    problem(
        "quarantine",
        quarantined,
        "gpus.gpu",
        &["GPU 5", "dcgm: bad memory", "--quarantine-dir"],
    )
    .await;
    let all = |machine: Machine| {
        (0..8)
            .for_each(|index| machine.node.edit_gpu(index, |gpu| gpu.recovery_action = 2).unwrap());
        machine
    };
    let report = with_kubelet("all", all, "problem", "gpus.offered", &["8 (0 Healthy)"]).await;
    report.problems(&["gpus.gpu", "gpus.offered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mig_layout_that_does_not_fit_the_strategy_is_reported() {
    for (state, strategy, id, text) in [
        (profiles::h100x8_mig_single(), "none", "gpus.layout", "MIG strategy is none"),
        (
            profiles::h100x8_mig_mixed(),
            "single",
            "gpus.layout",
            "make the GPUs alike, or set the strategy mixed",
        ),
    ] {
        let machine = Machine::new(state).env("MIG_STRATEGY", strategy);
        let _kubelet = kubelet(machine.node.kubelet()).await;
        let report = machine.report().await;
        report.has("problem", id, &[text]);
    }
    let machine = Machine::new(profiles::h100x8_mig_single()).env("MIG_STRATEGY", "single");
    let _kubelet = kubelet(machine.node.kubelet()).await;
    let report = machine.report().await;
    report.problems(&[]);
    report.has("ok", "gpus.gpu", &["MIG mode on, 7 MIG devices"]);
    let reserved = |machine: Machine| machine.env("DEVICES", "!0");
    warning("reserved", reserved, "gpus.reserved", &["GPU 0", "--devices"]).await;
    let all = |machine: Machine| machine.env("DEVICES", "!0-7");
    problem("all reserved", all, "gpus.offered", &["nothing", "--devices"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_not_there_is_reported() {
    let machine = Machine::new(profiles::h100x8());
    machine.report().await.has(
        "problem",
        "kubelet.socket",
        &["is not there", "systemctl status kubelet"],
    );
    let dead = UnixListener::bind(machine.node.kubelet_socket()).unwrap();
    let report = machine.report().await;
    report.has(
        "problem",
        "kubelet.socket",
        &["somebody listens, and does not answer", "journalctl"],
    );
    drop(dead);
    until_refused(&machine.node.kubelet_socket()).await;
    machine.report().await.has("problem", "kubelet.socket", &["nobody listens"]);
    fs::remove_dir_all(machine.node.kubelet_directory()).unwrap();
    let report = machine.report().await;
    report.has(
        "problem",
        "kubelet.directory",
        &["is not there", "/var/lib/kubelet/device-plugins"],
    );
    fs::write(machine.node.kubelet_directory(), "").unwrap();
    machine.report().await.has("problem", "kubelet.directory", &["is no directory"]);
    let machine = machine.env("KUBELET_SOCKET", "");
    let machine = Machine { options: machine.options.clone().arg("--kubelet-socket="), ..machine };
    machine.report().await.has("warning", "kubelet.socket", &["never to register"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubelet_and_one_that_does_not_tell_who_holds_what_are_reported() {
    let old = |machine: Machine| {
        machine.script("usr/bin/kubelet", "echo Kubernetes v1.25.16");
        machine
    };
    problem("1.25", old, "kubelet.version", &["1.25", "1.26 or later"]).await;
    let silent = |machine: Machine| Machine {
        options: machine.options.clone().arg("--pod-resources-socket").arg("/nowhere/kubelet.sock"),
        ..machine
    };
    warning(
        "podresources",
        silent,
        "kubelet.podresources",
        &["/nowhere/kubelet.sock is not there"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plugin_for_the_same_resource_is_reported() {
    let machine = Machine::new(profiles::h100x8());
    let kubelet = kubelet(machine.node.kubelet()).await;
    let plugin = Plugin::start(&machine.node, &machine.options).unwrap();
    kubelet.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    // Our own stands in for NVIDIA's, which has this name and answers the same call.
    let own = machine.node.plugin_sockets().remove(0);
    symlink(&own, machine.node.kubelet_directory().join("nvidia-gpu.sock")).unwrap();
    let report = machine.report().await;
    let process = format!("by gpu-device-plugin (process {})", plugin.pid());
    report.has(
        "problem",
        "kubelet.rival",
        &["nvidia-gpu.sock is served", &process, "delete daemonset"],
    );
    report.problems(&["kubelet.rival"]);
    fs::remove_file(machine.node.kubelet_directory().join("nvidia-gpu.sock")).unwrap();
    // Two plugins for one resource are what the report is about.
    kubelet.forgive(ViolationKind::OverlappingRegistration);
    let _second = Plugin::start(&machine.node, &machine.options).unwrap();
    kubelet.wait_until("both", PATIENCE, |view| view.accepted(GPU).count() > 1).await.unwrap();
    machine.report().await.has("problem", "kubelet.rival", &["more than once on this node"]);
    // A socket on which nobody listens does no harm; one that accepts and does not answer does.
    let machine = Machine::new(profiles::h100x8());
    left_socket(&machine.node.kubelet_directory().join("nvidia-gpu.sock")).await;
    machine.report().await.has("ok", "kubelet.rival", &["1 dead socket"]);
    let _silent =
        UnixListener::bind(machine.node.kubelet_directory().join("nvidia-gpu-aaaaaaaa.sock"))
            .unwrap();
    machine.report().await.has(
        "problem",
        "kubelet.plugin",
        &["does not answer on nvidia-gpu-aaaaaaaa.sock"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_is_not_ready_is_reported() {
    let containerd = |text: &'static str| {
        move |machine: Machine| {
            machine.write(CONTAINERD, text);
            machine
        }
    };
    let id = "runtime.handler";
    problem(
        "bare",
        containerd("version = 2\n"),
        id,
        &["does not know it", "nvidia-ctk runtime configure"],
    )
    .await;
    let other = CONFIGURED
        .replace("default_runtime_name = \"nvidia\"", "default_runtime_name = \"runc\"")
        .leak();
    warning("not default", containerd(other), id, &["that is runc", "runtimeClassName: nvidia"])
        .await;
    let no_program = |machine: Machine| {
        fs::remove_file(machine.host(RUNTIME)).unwrap();
        machine
    };
    problem("no program", no_program, id, &["/usr/bin/nvidia-container-runtime is not there"])
        .await;
    let imported = |machine: Machine| {
        machine.write(CONTAINERD, "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n");
        machine.write("etc/containerd/conf.d/99-nvidia.toml", CONFIGURED);
        machine
    };
    with_kubelet("imports", imported, "ok", id, &["nvidia is the default runtime of containerd"])
        .await
        .problems(&[]);
    let broken = with_kubelet(
        "broken",
        containerd("version = \n"),
        "unknown",
        "runtime.config",
        &["config.toml"],
    )
    .await;
    broken.unchecked();
    let none = |machine: Machine| {
        fs::remove_dir_all(machine.host("etc/containerd")).unwrap();
        fs::remove_dir_all(machine.host("run")).unwrap();
        machine
    };
    let none = with_kubelet("none", none, "unknown", "runtime.found", &["--host-root"]).await;
    none.unchecked();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_runtimes_are_known_too() {
    let instead = |files: &'static [(&'static str, &'static str)]| {
        move |machine: Machine| {
            fs::remove_dir_all(machine.host("etc/containerd")).unwrap();
            fs::remove_dir_all(machine.host("run")).unwrap();
            files.iter().for_each(|(path, text)| machine.write(path, text));
            machine
        }
    };
    let id = "runtime.handler";
    let crio = instead(&[(
        "etc/crio/crio.conf.d/99-nvidia.conf",
        "[crio.runtime]\ndefault_runtime = \
            \"nvidia\"\n[crio.runtime.runtimes.nvidia]\nruntime_path = \
            \"/usr/bin/nvidia-container-runtime\"\n",
    )]);
    with_kubelet("CRI-O", crio, "ok", id, &["nvidia is the default runtime of CRI-O"])
        .await
        .problems(&[]);
    let hook = instead(&[
        ("etc/crio/crio.conf", ""),
        ("usr/share/containers/oci/hooks.d/oci-nvidia-hook.json", "{}"),
    ]);
    with_kubelet("hook", hook, "ok", id, &["OCI hook"]).await.problems(&[]);
    let bare = instead(&[("run/crio/crio.sock", ""), ("etc/crio/crio.conf", "")]);
    problem("CRI-O without it", bare, id, &["CRI-O does not know it", "--runtime=crio"]).await;
    let docker = instead(&[(
        "etc/docker/daemon.json",
        "{\"default-runtime\": \"nvidia\", \"runtimes\": {\"nvidia\": {\"path\": \
            \"nvidia-container-runtime\"}}}",
    )]);
    with_kubelet("docker", docker, "ok", id, &["nvidia is the default runtime of docker"])
        .await
        .problems(&[]);
    let k3s = instead(&[("var/lib/rancher/k3s/agent/etc/containerd/config.toml", CONFIGURED)]);
    with_kubelet("k3s", k3s, "ok", id, &["nvidia is the default runtime of containerd"])
        .await
        .problems(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_nvidias_runtime_that_break_the_strategy_are_reported() {
    let strategy = |strategy: &'static str, toolkit: &'static str| {
        move |machine: Machine| {
            machine.write(TOOLKIT, toolkit);
            machine.env("DEVICE_LIST_STRATEGY", strategy)
        }
    };
    let (id, mounts) = ("runtime.toolkit", "accept-nvidia-visible-devices-as-volume-mounts");
    problem(
        "mounts off",
        strategy("volume-mounts", ""),
        id,
        &[mounts, "nvidia-ctk config --in-place"],
    )
    .await;
    let on = strategy("volume-mounts", "accept-nvidia-visible-devices-as-volume-mounts = true\n");
    with_kubelet("mounts on", on, "ok", id, &["lets the strategy work"]).await.problems(&[]);
    let off =
        strategy("envvar", "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n");
    problem("variables off", off, id, &["envvar-when-unprivileged is off", "volume-mounts"]).await;
    let broken =
        with_kubelet("broken", strategy("envvar", "mode ="), "unknown", id, &["nvidia-ctk config"])
            .await;
    broken.unchecked();
}

#[tokio::test(flavor = "multi_thread")]
async fn cdi_specifications_that_are_missing_or_lack_a_gpu_are_reported() {
    let id = "runtime.specs";
    let cdi = |machine: Machine, left_out: usize| {
        machine.write(CONTAINERD, "version = 3\n");
        let names = (left_out..8).map(|index| {
            format!("  - name: {}\n    containerEdits: {{}}\n", machine.node.uuid(index))
        });
        let names: String = names.collect();
        machine.write(
            "etc/cdi/gpu.yaml",
            &format!(
                "cdiVersion: 0.5.0\nkind: k8s.device-plugin.nvidia.com/gpu\ndevices:\n{names}"
            ),
        );
        machine.env("DEVICE_LIST_STRATEGY", "cdi-cri")
    };
    let complete = |machine| cdi(machine, 0);
    with_kubelet("complete", complete, "ok", id, &["8 devices"]).await.problems(&[]);
    let lacks = |machine: Machine| {
        let first = machine.node.uuid(0);
        let machine = cdi(machine, 1);
        assert!(!fs::read_to_string(machine.host("etc/cdi/gpu.yaml")).unwrap().contains(&first));
        machine
    };
    problem(
        "lacks one",
        lacks,
        id,
        &["not in the specifications: GPU-", "gpu-device-plugin cdi generate"],
    )
    .await;
    let none = |machine: Machine| {
        let machine = cdi(machine, 0);
        fs::remove_dir_all(machine.host("etc/cdi")).unwrap();
        machine
    };
    problem("none", none, id, &["none of the kind k8s.device-plugin.nvidia.com/gpu", "/etc/cdi"])
        .await;
    let broken = |machine: Machine| {
        let machine = cdi(machine, 0);
        machine.write("run/cdi/other.json", "{\"kind\": ");
        machine
    };
    problem("broken", broken, "runtime.spec", &["other.json"]).await;
    let off = |machine: Machine| {
        let machine = cdi(machine, 0);
        machine.write(
            CONTAINERD,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = false\n",
        );
        machine
    };
    problem("off", off, "runtime.cdi", &["CDI is off in containerd", "enable_cdi = true"]).await;
    let unset = |machine: Machine| {
        let machine = cdi(machine, 0);
        machine.write(CONTAINERD, "version = 2\n");
        machine
    };
    warning("unset", unset, "runtime.cdi", &["its version decides"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_node_is_looked_at() {
    let few = |machine: Machine| {
        let directory = machine.node.proc().join("sys/fs/inotify");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("max_user_instances"), "4\n").unwrap();
        fs::write(directory.join("max_user_watches"), "8192\n").unwrap();
        machine
    };
    warning("few inotify instances", few, "node.inotify", &["max_user_instances 4", "sysctl -w"])
        .await;
    let behind = |machine: Machine| {
        let file = fs::File::create(machine.node.kubelet_directory().join(CHECKPOINT)).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(86_400))
            .unwrap();
        machine
    };
    problem("the clock went back", behind, "node.clock", &["behind the last change of", "set-ntp"])
        .await;
    let in_the_way = |machine: Machine| {
        fs::write(machine.node.state_directory(), "").unwrap();
        fs::write(machine.node.quarantine_directory(), "").unwrap();
        machine
    };
    let report = with_kubelet(
        "files",
        in_the_way,
        "warning",
        "node.state",
        &["is no directory", "--state-dir"],
    )
    .await;
    report.has("warning", "node.quarantine", &["is no directory"]);
    report.problems(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_free_inotify_instance_is_reported() {
    // A user namespace of its own has a limit of its own; that of the machine is everybody's.
    const NONE: &str = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let mut alone = std::process::Command::new("unshare");
    alone.args(["--user", "--map-root-user", "sh", "-c", NONE, "true"]);
    if !alone.status().is_ok_and(|status| status.success()) {
        println!("not tested: this machine allows no user namespace to take inotify away in");
        return;
    }
    let machine = Machine::new(profiles::h100x8());
    let _kubelet = kubelet(machine.node.kubelet()).await;
    let bare = [
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        NONE,
        env!("CARGO_BIN_EXE_gpu-device-plugin"),
        "doctor",
        "-o",
        "json",
    ];
    let options = bare.into_iter().fold(PluginOptions::new("unshare"), PluginOptions::arg);
    let options = options
        .arg("--host-root")
        .arg(machine.host(""))
        .env("NVML_LIBRARY", machine.node.nvml_library());
    let inner = Machine { options, ..machine };
    let options = placed(&inner).env("DRIVER_ROOT_CTR_PATH", inner.node.driver_root());
    let mut doctor = Plugin::start(&inner.node, &options).unwrap();
    doctor.wait_exit(PATIENCE).await.unwrap();
    let text = doctor.log().join("\n");
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Report { code: None, document }.has(
        "warning",
        "node.inotify",
        &["no watch can be had", "max_user_instances"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_distribution_is_seen_by_the_hosts_files() {
    let machine = Machine::new(profiles::h100x8());
    machine.report().await.has("ok", "node.distribution", &["none of those", "ID=ubuntu"]);
    machine.write("etc/os-release", "NAME=Bottlerocket\nID=bottlerocket\n");
    let page = "docs/platforms/bottlerocket.md";
    machine.report().await.has("ok", "node.distribution", &["Bottlerocket, since", page]);
    fs::remove_file(machine.host("etc/os-release")).unwrap();
    let texts = &["no os-release below", "--host-root"];
    machine.report().await.has("unknown", "node.distribution", texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_problem_is_the_one_to_begin_with() {
    let machine = Machine::new(profiles::h100x8());
    machine.node.write_module(None).unwrap();
    machine.node.edit(|state| state.driver.loaded = false).unwrap();
    let (code, text) = machine.run(&["--output=text"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Begin with: NVIDIA's kernel module: not loaded"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}
