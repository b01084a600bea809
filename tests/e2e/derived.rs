//! The states of a GPU are what its last reading says of them: what it says no more is over, and
//! each time that it says so again is a relapse.

use fake_nvml::profiles;
use fake_nvml::state::{Fabric, Gpu, RemappedRows, Rule, State};

use crate::driver::load_module;
use crate::health::{QUICK, configured};
use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, node};

/// As many fields as a driver before 565 has: no recovery action.
const FIELDS: u32 = 230;
const PROBE: &str = "nvmlDeviceGetMemoryInfo";

/// A row that waits to be remapped makes Unhealthy.
fn strict() -> String {
    QUICK.replace("relapses", "rowRemapPending: unhealthy, relapses")
}

/// A node in this state, with a kernel module and HTTP.
async fn rig_of(state: State, text: &str) -> Rig {
    let node = node(state);
    std::fs::create_dir_all(node.sysfs().join("module/nvidia")).unwrap();
    let options = configured(&node, text).env("HTTP_ADDRESS", "127.0.0.1:0");
    let config = node.kubelet();
    Rig::on(node, config, &options, 8).await
}

fn rows_wait(gpu: &mut Gpu) {
    gpu.remapped_rows = Some(RemappedRows { pending: true, ..RemappedRows::default() });
}

fn joins(gpu: &mut Gpu) {
    gpu.fabric = Some(Fabric { state: 2, ..Fabric::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_over_where_the_gpu_no_longer_has_what_it_is_about() {
    let rig = rig_of(profiles::h100x8(), &strict()).await;
    let fails: [fn(&mut Gpu); 2] = [joins, rows_wait];
    let lacks: [fn(&mut Gpu); 2] = [|gpu| gpu.fabric = None, |gpu| gpu.remapped_rows = None];
    for (fails, lacks) in fails.into_iter().zip(lacks) {
        rig.node.edit_gpu(4, fails).unwrap();
        rig.until_healthy(4, false).await;
        rig.node.edit_gpu(4, lacks).unwrap();
        rig.until_healthy(4, true).await;
    }
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_to_be_remapped_is_no_state_of_a_gpu_without_row_remapping() {
    let mut state = profiles::h100x8();
    state.gpus[1].remapped_rows = None;
    let rig = rig_of(state, &strict()).await;
    rig.node.xid(1, 63).unwrap();
    rig.logged("xid=63").await;
    // It takes more polls than a recovery does.
    rig.fails_and_recovers(7).await;
    rig.until("all are Healthy", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_load_of_the_driver_ends_what_it_cannot_say() {
    let rig = rig_of(profiles::h100x8(), QUICK).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let uuid = rig.node.uuid(2);
    let metric = |value| format!("gpu_device_plugin_row_remap_pending{{uuid=\"{uuid}\"}} {value}");
    let shows = async |value: u32| {
        until(&http, "/metrics", "the row", |answer| answer.body.contains(&metric(value))).await
    };
    rig.node.edit_gpu(2, rows_wait).unwrap();
    rig.node.edit_gpu(5, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(5, false).await;
    shows(1).await;
    // An older driver, which knows of neither.
    let older = |state: &mut State| {
        state.driver.generation = 1;
        state.driver.fields = FIELDS;
        state.gpus.iter_mut().for_each(|gpu| gpu.remapped_rows = None);
    };
    load_module(&rig);
    rig.node.edit(older).unwrap();
    shows(0).await;
    rig.until_healthy(5, true).await;
    rig.assert_flawless();
}

/// What a test makes of a GPU.
type Change = fn(&mut Gpu);

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_gpu_itself_is_a_relapse() {
    let rig = rig_of(profiles::h100x8(), &QUICK.replace("relapses: 100", "relapses: 2")).await;
    let fails: [(&str, Change); 3] = [
        ("nvml_error", |gpu| gpu.rules = vec![Rule::answer(PROBE, 999)]),
        ("nvml_unresponsive", |gpu| gpu.rules = vec![Rule::hang(PROBE)]),
        ("fabric", joins),
    ];
    let ends = |gpu: &mut Gpu| (gpu.rules, gpu.fabric) = (Vec::new(), Some(Fabric::default()));
    for (index, (kind, fails)) in fails.into_iter().enumerate() {
        for failure in 0..3 {
            rig.node.edit_gpu(index, fails).unwrap();
            rig.until_healthy(index, false).await;
            rig.node.edit_gpu(index, ends).unwrap();
            if failure < 2 {
                rig.until_healthy(index, true).await;
            }
        }
        let (uuid, relapses) = (rig.node.uuid(index), "kind=\"relapses\"");
        let log = || rig.plugin.log().iter().any(|l| l.contains(&uuid) && l.contains(relapses));
        rig.eventually(kind, async || log().then_some(())).await;
        // It takes more polls than a recovery does.
        rig.fails_and_recovers(7 - index).await;
        assert_eq!(rig.kubelet.view().healthy(GPU, &uuid), Some(false), "{kind}");
    }
    rig.assert_flawless();
}
