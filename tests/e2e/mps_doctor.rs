//! What the doctor sees of MPS on a node.

use simnode::eventually;

use crate::mps_node::{MpsNode, shared};
use crate::rig::{GPU, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_daemon_program_and_limits_and_daemons_of_others() {
    let mps = MpsNode::new(&shared(2, "")).await;
    let found = mps.doctor().await;
    assert_eq!(found["runtime.mps"], "problem", "{found:?}");
    let supervisor = mps.supervise();
    mps.allocatable(GPU, 4, &supervisor).await;
    let found = mps.doctor().await;
    assert_eq!((&*found["runtime.mps"], &*found["runtime.mps.program"]), ("ok", "ok"), "{found:?}");
    assert!(!found.contains_key("runtime.mps.foreign"), "{found:?}");

    let mut foreign = mps.foreign_daemon();
    let seen = async || mps.doctor().await.contains_key("runtime.mps.foreign").then_some(());
    eventually("the daemon of somebody else", PATIENCE, seen).await.unwrap();
    foreign.kill().unwrap();
    foreign.wait().unwrap();

    // As where neither the driver's root nor its capability is there.
    std::fs::remove_file(mps.program("nvidia-cuda-mps-control")).unwrap();
    let found = mps.doctor().await;
    assert_eq!(found["runtime.mps.program"], "warning", "{found:?}");
    assert_eq!(found["runtime.mps"], "warning", "its supervisor says that it works: {found:?}");
}
