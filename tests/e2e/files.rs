//! Files that are not what they seem, that hang, or that come and go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fake_nvml::state::Rule;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use simnode::kubelet::View;
use simnode::node::{Node, Plugin};

use crate::dropin::{SLICED, config};
use crate::health::{QUICK, configured};
use crate::journal::Journal;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, plugin};

const HANGUP: u32 = 1;
const TERMINATE: i32 = 15;

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Puts a FIFO in the place of a file at once.
fn exchange_for_fifo(path: &Path) {
    let next = path.with_extension("fifo");
    fifo(&next);
    fs::rename(next, path).unwrap();
}

fn health_json(node: &Node) -> PathBuf {
    node.state_directory().join("health.json")
}

/// The plugin with a quick policy.
async fn quick(node: Node, allocatable: usize) -> Rig {
    let (config, options) = (node.kubelet(), configured(&node, QUICK));
    Rig::on(node, config, &options, allocatable).await
}

/// Ends the plugin, which takes no longer than it may.
async fn stops(mut rig: Rig) {
    let asked = Instant::now();
    rig.plugin.terminate().unwrap();
    assert_eq!(rig.plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(0));
    println!("stopped in {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_that_is_none_holds_up_nothing_and_is_set_aside() {
    for kind in ["FIFO", "symbolic link", "directory"] {
        let node = eight_h100s();
        fs::create_dir(node.state_directory()).unwrap();
        match kind {
            "FIFO" => fifo(&health_json(&node)),
            "directory" => fs::create_dir(health_json(&node)).unwrap(),
            _ => symlink("/dev/zero", health_json(&node)).unwrap(),
        }
        let rig = quick(node, 8).await;
        rig.logged(&format!("it is a {kind}, not a regular file")).await;
        rig.state_file_has("\"knownGpus\"").await;
        assert!(fs::symlink_metadata(health_json(&rig.node)).unwrap().is_file());
        stops(rig).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_beside_the_state_file_is_not_written_through() {
    let node = eight_h100s();
    let (theirs, beside) =
        (node.root().join("theirs"), health_json(&node).with_extension("json.next"));
    fs::create_dir(node.state_directory()).unwrap();
    fs::write(&theirs, "somebody's").unwrap();
    symlink(&theirs, beside).unwrap();
    let rig = quick(node, 8).await;
    rig.xid_until_heard(3, 79).await;
    rig.state_file_has("\"xid\"").await;
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "somebody's");
    assert!(fs::symlink_metadata(health_json(&rig.node)).unwrap().is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_of_a_newer_version_is_called_that_and_kept() {
    let node = eight_h100s();
    fs::create_dir(node.state_directory()).unwrap();
    fs::write(health_json(&node), "{\"version\": 2}").unwrap();
    let rig = quick(node, 8).await;
    rig.logged("it was written by a newer version of the plugin").await;
    assert!(health_json(&rig.node).with_extension("json.newer-1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_of_very_many_gpus_costs_little_memory_and_few_lines() {
    for gpus in [3_000, 30_000] {
        let node = eight_h100s();
        fs::create_dir(node.state_directory()).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let gpu = |number: usize| {
            let uuid = format!("GPU-{number:08}-0000-0000-0000-000000000000");
            format!("\"{uuid}\": [{{\"cause\": \"lost\"}}, {{\"cause\": \"of tomorrow\"}}]")
        };
        let gpus = (0..gpus).map(gpu).collect::<Vec<_>>().join(",\n");
        let boot = boot.trim();
        let text = format!(
            "{{\"version\": 1, \"boot\": \"{boot}\", \"driver\": null, \"gpus\": {{{gpus}}}}}"
        );
        fs::write(health_json(&node), &text).unwrap();
        let rig = quick(node, 8).await;
        let figures = rig.plugin.figures().unwrap();
        let lines = rig.plugin.log().len();
        println!("{} bytes: {} KiB, {lines} lines", text.len(), figures.anonymous_kib);
        // Of 1,024 GPUs at most there is a line each.
        assert!(lines < 1200, "{lines} lines");
        assert!(figures.anonymous_kib < 32 << 10, "{} KiB", figures.anonymous_kib);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_plugins_with_one_state_directory_one_writes_and_the_other_takes_over() {
    let mut rig = quick(eight_h100s(), 8).await;
    rig.state_file_has("\"knownGpus\"").await;
    // Its GPUs are called the same, and are well.
    let node = eight_h100s();
    let second = kubelet(node.kubelet()).await;
    let options = configured(&node, QUICK).arg("--state-dir").arg(rig.node.state_directory());
    let plugin = Plugin::start(&node, &options).unwrap();
    second.wait_allocatable(GPU, 8, PATIENCE).await.unwrap();
    plugin.wait_for_log("another plugin has locked the state directory", PATIENCE).await.unwrap();
    rig.xid_until_heard(3, 79).await;
    rig.state_file_has("\"number\": 79").await;
    rig.plugin.terminate().unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    let (_, line) = plugin.wait_for_log("GPU is Unhealthy", PATIENCE).await.unwrap();
    assert!(line.contains("Xid 79"), "{line}");
    plugin.wait_for_log("the state file can be written again", PATIENCE).await.unwrap();
    let said = |line: &&String| line.contains("another plugin has locked");
    assert_eq!(plugin.log().iter().filter(said).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_file_that_is_none_holds_up_nothing_and_shows_no_other() {
    let rig = quick(eight_h100s(), 8).await;
    let at = |name: &str| rig.node.quarantine_directory().join(name);
    fs::write(rig.node.root().join("secret"), "a secret line\n").unwrap();
    fifo(&at("2"));
    rig.until_healthy(2, false).await;
    symlink(rig.node.root().join("secret"), at("3")).unwrap();
    rig.until_healthy(3, false).await;
    fs::write(at("4"), "with a reason\n").unwrap();
    rig.until_healthy(4, false).await;
    exchange_for_fifo(&at("4"));
    rig.logged("it is a FIFO, not a regular file").await;
    rig.logged("it is a symbolic link, not a regular file").await;
    assert!(!rig.plugin.log().iter().any(|line| line.contains("a secret line")));
    // All goes on.
    rig.xid_until_heard(6, 79).await;
    for (name, index) in [("2", 2), ("3", 3), ("4", 4)] {
        fs::remove_file(at(name)).unwrap();
        rig.until_healthy(index, true).await;
    }
    rig.assert_flawless();
    stops(rig).await;
}

/// By the look every 60 s it would be found out late.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_could_not_be_read_is_read_soon() {
    let rig = quick(eight_h100s(), 8).await;
    let meanwhile = async || {
        fs::write(rig.node.quarantine_directory().join("5"), "").unwrap();
        rig.logged("the quarantine directory cannot be read").await;
    };
    rig.without_descriptors(meanwhile).await;
    let uuid = rig.node.uuid(5);
    let quarantined = |view: &View| view.healthy(GPU, &uuid) == Some(false);
    rig.kubelet.wait_until("it is quarantined", PATIENCE / 2, quarantined).await.unwrap();
    rig.logged("the quarantine directory can be read again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_other_files_voids_no_quarantine() {
    let node = eight_h100s();
    let directory = node.quarantine_directory();
    fs::create_dir(&directory).unwrap();
    let others = |from: usize| {
        for number in from..from + 1100 {
            fs::write(directory.join(format!("other-{number}")), "").unwrap();
            fs::write(directory.join(format!("GPU-{number:08}")), "").unwrap();
        }
    };
    others(0);
    fs::write(directory.join("5"), "first").unwrap();
    let rig = quick(node, 7).await;
    fs::write(directory.join("6"), "second").unwrap();
    rig.until_healthy(6, false).await;
    others(2000);
    fs::write(directory.join("7"), "third").unwrap();
    rig.until_healthy(7, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 5);
    rig.logged("files named like GPUs that this node does not have").await;
    let odd = rig.plugin.log().iter().filter(|line| line.contains("named after no GPU")).count();
    assert!(odd < 100, "{odd} lines");
    for index in [5, 6, 7] {
        fs::remove_file(directory.join(index.to_string())).unwrap();
        rig.until_healthy(index, true).await;
    }
}

/// The file goes with its directory, of which no event of inotify tells, between the read of the
/// directory at the start and the one when the GPUs are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_whose_file_went_before_the_gpus_were_there_is_healthy() {
    let node = eight_h100s();
    let at = |name: &str| node.root().join(name).join("quarantine");
    for name in ["mounted", "next"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("mounted").join("3"), "for a moment").unwrap();
    node.edit(|state| state.rules = vec![Rule::hang("nvmlInit_v2")]).unwrap();
    let journal = Journal::of(&node);
    let options = journal.kept_by(configured(&node, QUICK));
    let options = options.arg("--quarantine-dir").arg(at("mounted"));
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    let opens = || (journal.count("nvmlInit_v2") > 0).then_some(());
    rig.eventually("NVML is being opened", async || opens()).await;
    let root = rig.node.root();
    fs::rename(root.join("mounted"), root.join("before")).unwrap();
    fs::rename(root.join("next"), root.join("mounted")).unwrap();
    rig.node.edit(|state| state.rules.clear()).unwrap();
    rig.until("all are Healthy", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_file_that_is_emptied_never_means_the_defaults() {
    let node = eight_h100s();
    let file = PathBuf::from(config(&node, SLICED));
    let (kubelet, options) = (node.kubelet(), plugin().env("CONFIG_FILE", &file));
    let rig = Rig::on(node, kubelet, &options, 32).await;
    for empty in ["", "\n \n", "# to be written\n", "---\n"] {
        let seen = rig.plugin.log().len();
        fs::write(&file, empty).unwrap();
        let told = rig.plugin.wait_for_log_after(seen, "the file is empty", PATIENCE).await;
        told.unwrap();
        let seen = rig.plugin.log().len();
        rig.plugin.signal(HANGUP.cast_signed()).unwrap();
        rig.plugin.wait_for_log_after(seen, "the file is empty", PATIENCE).await.unwrap();
        fs::write(&file, SLICED).unwrap();
        let same = rig.plugin.wait_for_log_after(seen, "has not changed", PATIENCE).await;
        same.unwrap();
    }
    assert_eq!(rig.kubelet.view().resource(GPU).unwrap().lists_received, 1);
    // By NVIDIA's config manager it is meant so.
    fs::remove_file(&file).unwrap();
    symlink("/dev/null", &file).unwrap();
    rig.plugin.signal(HANGUP.cast_signed()).unwrap();
    rig.until("the defaults", |view| view.allocatable(GPU) == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_file_that_becomes_something_else_is_refused_and_holds_up_nothing() {
    let node = eight_h100s();
    let file = PathBuf::from(config(&node, SLICED));
    let (kubelet, options) = (node.kubelet(), plugin().env("CONFIG_FILE", &file));
    let rig = Rig::on(node, kubelet, &options, 32).await;
    exchange_for_fifo(&file);
    rig.logged("it is a FIFO, not a regular file").await;
    rig.plugin.signal(HANGUP.cast_signed()).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("/dev/zero", &file).unwrap();
    rig.logged("it is a device, not a regular file").await;
    rig.node.xid(3, 79).unwrap();
    rig.until("an Xid counts", |view| view.allocatable(GPU) == 28).await;
    fs::remove_file(&file).unwrap();
    config(&rig.node, &SLICED.replace('4', "5"));
    rig.until("another one", |view| view.allocatable(GPU) == 35).await;
    stops(rig).await;
}

/// The way to an absolute path from where the plugin is started.
fn relative(path: &Path) -> PathBuf {
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    Path::new(&"../".repeat(depth)).join(path.strip_prefix("/").unwrap())
}

/// Without inotify's events it would be applied after 60 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_file_by_a_relative_path_is_watched_too() {
    let node = eight_h100s();
    let file = config(&node, "version: v1");
    let options = plugin().arg("--config-file").arg(relative(Path::new(&file)));
    let kubelet = node.kubelet();
    let rig = Rig::on(node, kubelet, &options, 8).await;
    for replicas in [2, 3, 5] {
        let began = Instant::now();
        config(&rig.node, &SLICED.replace('4', &replicas.to_string()));
        rig.until("replicas", |view| view.allocatable(GPU) == 8 * replicas).await;
        assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    }
}

/// Without inotify's events it would count after 60 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_directory_by_a_relative_path_is_watched_too() {
    let node = eight_h100s();
    let directory = node.quarantine_directory();
    let (config, options) = (node.kubelet(), configured(&node, QUICK));
    let options = options.arg("--quarantine-dir").arg(relative(&directory));
    let rig = Rig::on(node, config, &options, 8).await;
    for index in [2, 5] {
        let began = Instant::now();
        fs::write(directory.join(index.to_string()), "").unwrap();
        rig.until_healthy(index, false).await;
        assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    }
}

/// The first thread that is started comes before the command line is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_for_the_daemon_ends_it_at_no_time() {
    let node = eight_h100s();
    let kubelet = kubelet(node.kubelet()).await;
    for round in 0..20 {
        let mut plugin = Plugin::start(&node, &plugin()).unwrap();
        while plugin.threads().unwrap() == 1 {}
        let figures = plugin.figures().unwrap();
        for signal in [HANGUP, 10, 12] {
            assert!(figures.handles.contains(&signal), "signal {signal}, round {round}");
        }
        plugin.signal(HANGUP.cast_signed()).unwrap();
        let accepted = kubelet.wait_until("it serves", PATIENCE, |view| {
            view.accepted(GPU).count() == round + 1 && view.allocatable(GPU) == 8
        });
        accepted.await.unwrap();
        plugin.signal(TERMINATE).unwrap();
        assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_thread_is_to_be_had_files_are_read_and_written_all_the_same() {
    let node = eight_h100s();
    // The stack of a thread that has ended is not kept for the next one, and the heap, which cannot
    // grow any more either, has room.
    const NO_STACKS: &str = "glibc.pthread.stack_cache_size=0";
    const LARGE_HEAP: &str = "glibc.malloc.top_pad=33554432";
    let options =
        configured(&node, QUICK).env("GLIBC_TUNABLES", format!("{NO_STACKS}:{LARGE_HEAP}"));
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.settled("all its threads are there", |_| true).await;
    rig.plugin.gets_no_threads().unwrap();
    rig.xid_until_heard(3, 79).await;
    rig.state_file_has("\"number\": 79").await;
    fs::write(rig.node.quarantine_directory().join("4"), "").unwrap();
    rig.until_healthy(4, false).await;
    fs::write(rig.node.root().join("config.yaml"), "version: v0").unwrap();
    rig.logged("is not v1").await;
    stops(rig).await;
}
