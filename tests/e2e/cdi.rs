//! CDI specifications: what a container runtime would find when it resolves a name that Allocate
//! gave.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fake_nvml::profiles;
use fake_nvml::state::State;
use serde_json::Value;
use simnode::node::{Node, Plugin, PluginOptions};

use crate::dropin::{config, rig};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, node, plugin};

const VENDOR: &str = "k8s.device-plugin.nvidia.com";

fn with_cdi() -> PluginOptions {
    plugin().env("DEVICE_LIST_STRATEGY", "cdi-cri")
}

fn file(node: &Node) -> PathBuf {
    node.cdi_directory().join(format!("{VENDOR}-gpu.json"))
}

/// The names in a specification, as a runtime knows them; none if there is no file.
fn names(file: &Path) -> BTreeSet<String> {
    let Ok(text) = fs::read(file) else { return BTreeSet::new() };
    let document: Value = serde_json::from_slice(&text).expect("no half of a file is ever seen");
    let kind = document["kind"].as_str().unwrap();
    let devices = document["devices"].as_array().unwrap().iter();
    devices.map(|device| format!("{kind}={}", device["name"].as_str().unwrap())).collect()
}

/// Allocates devices, and sees that the names of the answer are in the file at that moment.
async fn allocate(rig: &Rig, resource: &str, count: usize) -> Vec<String> {
    static PODS: AtomicUsize = AtomicUsize::new(0);
    let pod = format!("pod-{}", PODS.fetch_add(1, Relaxed));
    let answer = rig.kubelet.allocate(&pod, "main", resource, count).await.unwrap();
    let there = names(&file(&rig.node));
    let given: Vec<String> = answer.cdi_devices.iter().map(|device| device.name.clone()).collect();
    assert_eq!(given.len(), count);
    assert!(given.iter().all(|name| there.contains(name)), "{given:?} are not in {there:?}");
    given
}

/// No list that the kubelet was sent had a device that is not Healthy.
fn assert_never_unhealthy(rig: &Rig, resource: &str) {
    for list in rig.kubelet.lists(resource) {
        assert!(list.devices.iter().all(|device| device.health == "Healthy"), "{list:?}");
    }
}

async fn until_named(rig: &Rig, expected: usize) {
    rig.eventually(&format!("{expected} names in the file"), async || {
        (names(&file(&rig.node)).len() == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_when_their_specification_is_there_and_it_stays_there() {
    let rig = rig(eight_h100s(), &with_cdi(), GPU, 8).await;
    assert_eq!(names(&file(&rig.node)).len(), 8, "it was there before the first list");
    assert_never_unhealthy(&rig, GPU);
    allocate(&rig, GPU, 2).await;
    let written = fs::read(file(&rig.node)).unwrap();
    // What others do to it does not last.
    fs::remove_file(file(&rig.node)).unwrap();
    until_named(&rig, 8).await;
    fs::write(file(&rig.node), "{}").unwrap();
    rig.logged("another program has changed or removed CDI specifications").await;
    rig.eventually("the file as it was", async || {
        (fs::read(file(&rig.node)).unwrap_or_default() == written).then_some(())
    })
    .await;
    fs::rename(rig.node.cdi_directory(), rig.node.root().join("moved")).unwrap();
    until_named(&rig, 8).await;
    allocate(&rig, GPU, 1).await;
    assert_never_unhealthy(&rig, GPU);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_comes_later_is_named_before_it_is_listed_and_one_that_goes_keeps_its_name() {
    let node = eight_h100s();
    node.unbind(7).unwrap();
    let rig = rig(node, &with_cdi(), GPU, 7).await;
    assert_eq!(names(&file(&rig.node)).len(), 7);
    rig.node.bind(7).unwrap();
    rig.until("the eighth", |view| view.allocatable(GPU) == 8).await;
    assert_eq!(names(&file(&rig.node)).len(), 8);
    assert_never_unhealthy(&rig, GPU);
    // What becomes Unhealthy waits for nothing, and its name stays for pods that hold it.
    rig.node.lose(3).unwrap();
    rig.until_healthy(3, false).await;
    assert_eq!(names(&file(&rig.node)).len(), 8);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_to_write_every_new_device_is_unhealthy_for_it_until_there_is_one() {
    let node = eight_h100s();
    // Not even root can make a directory there.
    fs::write(node.cdi_directory(), "").unwrap();
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, &with_cdi().env("HTTP_ADDRESS", "127.0.0.1:0")).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.logged("the CDI specifications cannot be written, will retry").await;
    let view = rig.until("a list", |view| view.capacity(GPU) == 8).await;
    assert_eq!(view.allocatable(GPU), 0);
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status: Value = serde_json::from_str(&http.get("/status").await.unwrap().body).unwrap();
    let device = &status["resources"][0]["devices"][0];
    assert_eq!(device["reasons"], serde_json::json!(["awaits_cdi"]), "{device}");
    let findings = status["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["kind"] == "cdi_not_written").unwrap();
    let text = finding["message"].as_str().unwrap();
    assert!(text.contains("cdi cannot be created") && text.contains("--cdi-spec-dir"), "{text}");
    let metrics = http.get("/metrics").await.unwrap().body;
    assert!(metrics.contains("gpu_device_plugin_findings{kind=\"cdi_not_written\"} 1"));
    fs::remove_file(rig.node.cdi_directory()).unwrap();
    rig.until("all of them", |view| view.allocatable(GPU) == 8).await;
    allocate(&rig, GPU, 8).await;
    rig.logged("no longer so: the CDI specifications cannot be written").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn mig_devices_that_are_made_again_are_named_before_they_are_listed() {
    const SMALL: &str = "nvidia.com/mig-1g.10gb";
    let mut state: State = profiles::h100x8_mig_single();
    state.gpus.truncate(2);
    let options = with_cdi().env("MIG_STRATEGY", "mixed").env("HEALTH_POLL_INTERVAL", "200ms");
    let rig = rig(node(state), &options, SMALL, 14).await;
    allocate(&rig, SMALL, 2).await;
    let before = names(&file(&rig.node));
    rig.node
        .edit_gpu(1, |gpu| {
            let devices = &mut gpu.mig.as_mut().unwrap().devices;
            for device in devices.iter_mut() {
                device.uuid = device.uuid.replace("MIG-", "MIG-a");
                device.uuid.truncate(40);
            }
        })
        .unwrap();
    let renamed = rig.node.state().gpus[1].mig.as_ref().unwrap().devices[0].uuid.clone();
    rig.until("the new ones", |view| view.healthy(SMALL, &renamed) == Some(true)).await;
    let after = names(&file(&rig.node));
    assert!(after.contains(&format!("{VENDOR}/gpu={renamed}")));
    assert!(after.is_superset(&before), "pods may hold the old ones");
    rig.assert_flawless();
}

/// The libraries of the driver in a specification.
fn libraries(file: &Path) -> Vec<String> {
    let document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mounts = document["containerEdits"]["mounts"].as_array().cloned().unwrap_or_default();
    let names =
        mounts.iter().filter_map(|mount| mount["containerPath"].as_str()?.rsplit('/').next());
    names.filter(|name| name.contains(".so.")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_upgraded_under_the_plugin_has_its_own_files_in_the_specification() {
    let node = eight_h100s();
    let directory = node.driver_root().join("usr/lib64");
    fs::create_dir_all(&directory).unwrap();
    let install = |version: &str| {
        fs::write(directory.join(format!("libcuda.so.{version}")), version).unwrap();
    };
    let old = node.state().driver.version;
    install(&old);
    let rig = rig(node, &with_cdi().env("HEALTH_POLL_INTERVAL", "200ms"), GPU, 8).await;
    assert!(libraries(&file(&rig.node)).contains(&format!("libcuda.so.{old}")));
    let held = allocate(&rig, GPU, 2).await;
    rig.node.edit(|state| state.driver.loaded = false).unwrap();
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    fs::remove_file(directory.join(format!("libcuda.so.{old}"))).unwrap();
    install("590.44.01");
    rig.node
        .edit(|state| {
            state.driver.loaded = true;
            state.driver.generation = 1;
            state.driver.version = "590.44.01".to_owned();
        })
        .unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    rig.eventually("the new driver's files", async || {
        let there = libraries(&file(&rig.node));
        let is_new = there.contains(&"libcuda.so.590.44.01".to_owned());
        (is_new && !there.contains(&format!("libcuda.so.{old}"))).then_some(())
    })
    .await;
    let there = names(&file(&rig.node));
    assert!(held.iter().all(|name| there.contains(name)), "pods that hold them start again");
    allocate(&rig, GPU, 1).await;
    rig.assert_flawless();
}

/// By the look every 60 s it would be there that late.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_with_a_driver_is_found_when_its_gpus_are_the_same() {
    let node = eight_h100s();
    let directory = node.driver_root().join("usr/lib64");
    fs::create_dir_all(&directory).unwrap();
    let library = format!("libcuda.so.{}", node.state().driver.version);
    let rig = rig(node, &with_cdi().env("HEALTH_POLL_INTERVAL", "200ms"), GPU, 8).await;
    assert!(!libraries(&file(&rig.node)).contains(&library));
    rig.node.edit(|state| state.driver.loaded = false).unwrap();
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    fs::write(directory.join(&library), "").unwrap();
    rig.node.edit(|state| (state.driver.loaded, state.driver.generation) = (true, 1)).unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    let found = async || libraries(&file(&rig.node)).contains(&library).then_some(());
    rig.eventually("the library", found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cdi_that_is_turned_on_by_a_reload_makes_no_device_unhealthy() {
    let node = eight_h100s();
    let options = plugin().env("CONFIG_FILE", config(&node, "version: v1\n"));
    let rig = rig(node, &options, GPU, 8).await;
    assert!(!rig.node.cdi_directory().exists(), "nobody asked for specifications");
    let lists = rig.kubelet.lists(GPU).len();
    config(&rig.node, "version: v1\nflags: {plugin: {deviceListStrategy: [cdi-annotations]}}\n");
    rig.logged("injection=true").await;
    until_named(&rig, 8).await;
    let mut pods = 0;
    let annotated = rig.eventually("an annotation", async || {
        pods += 1;
        let pod = format!("pod-{pods}");
        let answer = rig.kubelet.allocate(&pod, "main", GPU, 1).await.unwrap();
        rig.kubelet.release(&pod);
        answer.annotations.values().next().cloned()
    });
    assert!(names(&file(&rig.node)).contains(&annotated.await));
    assert_eq!(rig.kubelet.lists(GPU).len(), lists, "no list was sent for it");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_plugin_goes_on_with_the_names_that_pods_hold() {
    let mut rig = rig(eight_h100s(), &with_cdi().env("DEVICE_ID_STRATEGY", "index"), GPU, 8).await;
    let held = allocate(&rig, GPU, 1).await;
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(names(&file(&rig.node)).len(), 8, "containers are started without the plugin too");
    rig.plugin = Plugin::start(&rig.node, &with_cdi()).unwrap();
    rig.until("registered again", |view| view.accepted(GPU).count() == 2).await;
    rig.until("all", |view| view.allocatable(GPU) == 8).await;
    let there = names(&file(&rig.node));
    assert!(there.contains(&held[0]), "{held:?} is not in {there:?}");
    allocate(&rig, GPU, 1).await;
    rig.assert_flawless();
}

fn run(node: &Node, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-device-plugin"))
        .args(arguments)
        .env_clear()
        .env("FAKE_NVML_STATE", node.state_file())
        .args(["--cdi-spec-dir".as_ref(), node.cdi_directory().as_os_str()])
        .args(["--nvml-library".as_ref(), node.nvml_library().as_os_str()])
        .args(["--driver-root-ctr-path".as_ref(), node.driver_root().as_os_str()])
        .args(["--sysfs-root".as_ref(), node.sysfs().as_os_str()])
        .args(["--proc-root".as_ref(), node.proc().as_os_str()])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_subcommand_prints_lists_and_checks_specifications() {
    let node = eight_h100s();
    let (code, _, said) = run(&node, &["cdi", "list"]);
    assert!(code == Some(1) && said.contains("there is no specification of the vendor"), "{said}");
    let (code, printed, said) = run(&node, &["cdi", "generate"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no hooks are called"), "{said}");
    fs::create_dir(node.cdi_directory()).unwrap();
    let directory = node.cdi_directory().display().to_string();
    assert_eq!(run(&node, &["cdi", "generate", "--output", &directory]).0, Some(0));
    assert_eq!(fs::read_to_string(file(&node)).unwrap(), printed);
    let (code, listed, _) = run(&node, &["cdi", "list"]);
    let expected: Vec<String> = names(&file(&node)).into_iter().collect();
    assert_eq!((code, listed.lines().map(str::to_owned).collect()), (Some(0), expected));
    let (code, valid, _) = run(&node, &["cdi", "validate"]);
    assert!(code == Some(0) && valid.ends_with(": valid, 8 devices\n"), "{valid}");
    fs::write(file(&node), printed.replace("0.3.0", "9.9.9").replace("0.5.0", "9.9.9")).unwrap();
    let (code, invalid, _) = run(&node, &["cdi", "validate"]);
    assert!(code == Some(1) && invalid.contains("cdiVersion \"9.9.9\" is none of"), "{invalid}");
}
