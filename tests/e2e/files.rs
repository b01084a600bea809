//! Files that are not what they seem, that hang, or that come and go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::dropin::{SLICED, config};
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin};

const HANGUP: u32 = 1;

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Puts a FIFO in the place of a file at once.
fn exchange_for_fifo(path: &Path) {
    let next = path.with_extension("fifo");
    fifo(&next);
    fs::rename(next, path).unwrap();
}

/// Ends the plugin, which takes no longer than it may.
async fn stops(mut rig: Rig) {
    let asked = Instant::now();
    rig.plugin.terminate().unwrap();
    assert_eq!(rig.plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(0));
    println!("stopped in {:?}", asked.elapsed());
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

/// Without inotify's events it would be applied after 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_file_by_a_relative_path_is_watched_too() {
    let node = eight_h100s();
    let file = config(&node, "version: v1");
    let up = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
    let relative = format!("{up}{}", file.trim_start_matches('/'));
    let (kubelet, options) = (node.kubelet(), plugin().arg("--config-file").arg(relative));
    let rig = Rig::on(node, kubelet, &options, 8).await;
    for replicas in [2, 3, 5] {
        let began = Instant::now();
        config(&rig.node, &SLICED.replace('4', &replicas.to_string()));
        rig.until("replicas", |view| view.allocatable(GPU) == 8 * replicas).await;
        assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    }
}
