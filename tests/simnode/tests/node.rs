//! The simulated node: its files, and its library with and without symbols.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::State;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use simnode::{Node, Plugin, PluginOptions, eventually};

const SOON: Duration = Duration::from_secs(20);

fn node() -> Node {
    Node::new(profiles::h100x8()).expect("the library lies beside the test")
}

fn open(node: &Node) -> Nvml {
    Nvml::builder().lib_path(node.nvml_library().as_os_str()).init().expect("the copy loads")
}

#[test]
fn has_a_numa_node_in_sysfs_for_each_gpu() {
    let node = node();
    let devices = node.sysfs().join("bus/pci/devices");
    let read =
        |name: &str| fs::read_to_string(devices.join(name).join("numa_node")).expect("there");
    assert_eq!((read("0000:1b:00.0"), read("0000:df:00.0")), ("0\n".to_owned(), "1\n".to_owned()));
    node.write_numa(&node.state().gpus[0], "-1").expect("written");
    assert_eq!(read("0000:1b:00.0"), "-1\n");
}

#[test]
fn an_edit_is_in_the_state_file() {
    let node = node();
    let file = || State::read(&node.state_file()).expect("a state");
    node.lose(3).expect("lost");
    node.xid(2, 79).expect("reported");
    node.xid(2, 48).expect("reported");
    let state = file();
    assert_eq!(state, node.state());
    assert!(state.gpus[3].lost);
    let events: Vec<_> =
        state.events.iter().map(|event| (event.seq, event.gpu.as_str(), event.data)).collect();
    assert_eq!(events, [(1, node.uuid(2).as_str(), 79), (2, node.uuid(2).as_str(), 48)]);
    node.restore(3).expect("restored");
    assert!(!file().gpus[3].lost);
    node.lose(8).expect_err("there are eight");
}

#[test]
fn the_librarys_copy_shows_the_nodes_gpus() {
    let node = node();
    let nvml = open(&node);
    assert_eq!(nvml.device_count().expect("answered"), 8);
    assert_eq!(nvml.device_by_index(5).expect("there").uuid().expect("answered"), node.uuid(5));
}

#[test]
fn two_nodes_do_not_share_a_library() {
    let (eight, one) = (node(), Node::new(profiles::h100x1()).expect("made"));
    let (eight, one) = (open(&eight), open(&one));
    assert_eq!(
        (eight.device_count().expect("answered"), one.device_count().expect("answered")),
        (8, 1)
    );
}

#[test]
fn a_removed_symbol_is_not_found_and_every_other_one_is() {
    let node = node();
    node.library_without(&["nvmlDeviceGetName", "nvmlDeviceGetUUID"]).expect("removed");
    let nvml = open(&node);
    let device = nvml.device_by_index(0).expect("there");
    for missing in [device.name(), device.uuid()] {
        assert!(matches!(missing, Err(NvmlError::FailedToLoadSymbol(_))), "{missing:?}");
    }
    assert_eq!(device.index().expect("answered"), 0);
    assert_eq!(device.memory_info().expect("answered").total, 81_559 << 20);
    drop(nvml);

    // A later copy is whole again.
    node.library_without(&[]).expect("copied");
    let other = Node::with_library(profiles::h100x1(), &node.nvml_library()).expect("made");
    open(&other).device_by_index(0).expect("there").name().expect("answered");
    other.library_without(&["nvmlNoSuchFunction"]).expect_err("the library never had it");
}

/// A shell that stands for the plugin.
fn shell(script: &str) -> PluginOptions {
    PluginOptions::new("/bin/sh").bare().arg("-c").arg(script)
}

#[tokio::test]
async fn a_plugin_has_its_lines_its_figures_and_its_end() {
    let node = node();
    let script =
        "echo to stdout; echo to stderr >&2; trap 'exit 7' TERM; while :; do sleep 0.01; done";
    let mut plugin = Plugin::start(&node, &shell(script)).expect("started");
    plugin.wait_for_log("stdout", SOON).await.expect("written");
    let (at, line) = plugin.wait_for_log("stderr", SOON).await.expect("written");
    assert!(line == "to stderr" && at >= plugin.started_at());
    let error = plugin
        .wait_for_log("nothing", Duration::ZERO)
        .await
        .expect_err("never written")
        .to_string();
    assert!(error.contains("to stdout"), "{error}");
    assert_eq!(plugin.threads().expect("running"), 1);
    assert!(plugin.descriptors().expect("running") >= 3 && plugin.rss_kib().expect("running") > 0);

    assert!(plugin.exited().expect("asked").is_none());
    plugin.terminate().expect("running");
    assert_eq!(plugin.wait_exit(SOON).await.expect("ended").code(), Some(7));
    plugin.terminate().expect_err("it has ended");
}

#[tokio::test]
async fn a_plugin_has_a_clean_environment() {
    let node = node();
    let mut plugin =
        Plugin::start(&node, &shell("env; echo end").env("EXTRA", "1")).expect("started");
    plugin.wait_for_log("end", SOON).await.expect("written");
    plugin.wait_exit(SOON).await.expect("ended");
    let mut names: Vec<String> =
        plugin.log().iter().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    names.retain(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(&name.as_str()));
    names.sort();
    assert_eq!(names, ["EXTRA", "FAKE_NVML_STATE", "HTTP_ADDRESS", "PATH"]);
}

#[tokio::test]
async fn a_plugin_dies_with_its_owner_and_by_signal() {
    let node = node();
    let mut plugin = Plugin::start(&node, &shell("while :; do sleep 0.01; done")).expect("started");
    plugin.signal(9).expect("running");
    assert_eq!(plugin.wait_exit(SOON).await.expect("ended").signal(), Some(9));

    let plugin = Plugin::start(&node, &shell("while :; do sleep 0.01; done")).expect("started");
    let status = format!("/proc/{}/status", plugin.pid());
    drop(plugin);
    let gone = || fs::read_to_string(&status).map_or(true, |text| text.contains("State:\tZ"));
    eventually("it is gone", SOON, async || gone().then_some(())).await.expect("killed");
}

#[test]
fn an_old_branch_lacks_what_came_later() {
    let node = Node::of_branch(profiles::h100x8(), "R470").expect("a branch");
    let nvml = open(&node);
    assert_eq!(nvml.sys_driver_version().expect("a version"), "470.256.02");
    let gpu = nvml.device_by_index(0).expect("GPU 0");
    assert!(matches!(gpu.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))), "it asks v2");
    Node::of_branch(profiles::h100x8(), "R999").expect_err("there is none");
}
