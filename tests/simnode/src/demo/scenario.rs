//! The scenario: what happens to a plugin on a node, step by step; each step waits until it has
//! really happened.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{bail, ensure};
use fake_nvml::state::{Event, event_type};
use simnode::View;
use simnode::kubelet::Method;
use simnode::proto::ContainerAllocateResponse;

use super::PATIENCE;
use super::setup::Setup;

const POD: &str = "train-0";
const CONTAINER: &str = "main";
/// "GPU has fallen off the bus."
const XID: u64 = 79;

/// Runs every step.
pub(super) async fn run(setup: &mut Setup) -> anyhow::Result<()> {
    arrives(setup).await?;
    let answer = allocates(setup).await?;
    loses_a_gpu(setup).await?;
    outlives_the_kubelet(setup, &answer).await?;
    outlives_its_socket(setup).await?;
    stops(setup).await?;
    kept_the_contract(setup)
}

/// Registration and the first list.
pub(super) async fn arrives(setup: &mut Setup) -> anyhow::Result<()> {
    let view = setup.wait_ready().await?;
    let started = setup.plugin.started_at();
    let answered = view.registrations.iter().filter_map(|call| call.answered).max();
    setup.screen.step(
        "The plugin registers (from exec)",
        answered.map(|at| at.saturating_duration_since(started)),
    );
    setup.show_registrations(&view.registrations);

    let listed = view.resources.values().filter_map(|resource| resource.last_list_at).max();
    setup.screen.step(
        "The kubelet has its devices (from exec)",
        listed.map(|at| at.saturating_duration_since(started)),
    );
    setup.show_devices(None);
    Ok(())
}

async fn allocates(setup: &Setup) -> anyhow::Result<ContainerAllocateResponse> {
    let resource = setup.largest_resource()?;
    let count = setup.kubelet.view().allocatable(&resource).min(2);
    let answer = setup.kubelet.allocate(POD, CONTAINER, &resource, count).await;
    let answer = answer.map_err(|error| {
        anyhow::anyhow!("a pod that asks for {count} {resource} is admitted: {error}")
    })?;
    ensure!(
        answer != ContainerAllocateResponse::default(),
        "the container of {count} {resource} receives nothing"
    );
    let took = setup
        .kubelet
        .calls()
        .iter()
        .rfind(|call| call.method == Method::Allocate)
        .map(|call| call.took);
    setup.screen.step(&format!("A pod asks for {count} {resource}; its container gets"), took);
    setup.show_answer(&answer);
    Ok(answer)
}

async fn loses_a_gpu(setup: &mut Setup) -> anyhow::Result<()> {
    let held: BTreeSet<String> =
        setup.kubelet.pod_devices().into_iter().map(|device| device.id).collect();
    let gpus = setup.node.state().gpus.len();
    let usable = |gpu: &usize| !setup.devices_of(*gpu).is_empty();
    let free = |gpu: &usize| usable(gpu) && setup.devices_of(*gpu).is_disjoint(&held);
    let Some(gpu) = (0..gpus).rev().find(free).or_else(|| (0..gpus).rev().find(usable)) else {
        bail!("no GPU has a device");
    };
    let devices = setup.devices_of(gpu);
    let before = setup.kubelet.view();

    let begun = Instant::now();
    setup.node.edit(|state| {
        state.gpus[gpu].lost = true;
        let gpu = state.gpus[gpu].uuid.clone();
        let event_type = event_type::XID;
        state.push_event(Event {
            seq: 0,
            gpu,
            event_type,
            data: XID,
            gpu_instance: None,
            compute_instance: None,
            stray: false,
            count: 1,
        })
    })?;
    let what = format!("GPU {gpu} is unhealthy after Xid {XID}, and no other one");
    let lost = |view: &View| {
        view.resources.iter().all(|(name, resource)| {
            let was = before.resource(name);
            resource.devices.iter().all(|(id, device)| {
                let was = was.and_then(|was| was.devices.get(id)).is_some_and(|was| was.healthy);
                device.healthy == (was && !devices.contains(id))
            })
        })
    };
    let view = setup.wait_until(&what, lost).await?;
    let listed = view.resources.values().filter_map(|resource| resource.last_list_at).max();
    let took = listed.map(|at| at.saturating_duration_since(begun));
    setup
        .screen
        .step(&format!("GPU {gpu} falls off the bus (Xid {XID}); the kubelet's list"), took);
    setup.show_devices(Some(&devices));
    setup.show_totals();
    Ok(())
}

async fn outlives_the_kubelet(
    setup: &mut Setup,
    answer: &ContainerAllocateResponse,
) -> anyhow::Result<()> {
    let (took, registrations) = setup.restart_kubelet().await?;
    setup
        .screen
        .step("The kubelet restarts; the plugin registers again (from its start)", Some(took));
    setup.show_registrations(&registrations);
    setup.show_totals();

    let calls = setup.kubelet.calls().len();
    let held = setup.kubelet.pod_devices();
    let Some(resource) = held.first().map(|device| device.resource.clone()) else {
        bail!("the pod of before still holds its devices");
    };
    let view = setup.kubelet.view();
    if held.iter().any(|device| view.healthy(&device.resource, &device.id) != Some(true)) {
        setup
            .screen
            .detail(&format!("{POD} holds the GPU that is lost, so it could not start once more"));
        return Ok(());
    }
    let again = setup.kubelet.allocate(POD, CONTAINER, &resource, held.len()).await;
    ensure!(
        again.as_ref() == Ok(answer),
        "the pod of before is still admitted as it was: {again:?}"
    );
    ensure!(
        setup.kubelet.calls().len() == calls,
        "the kubelet asked again for devices that the pod has"
    );
    setup
        .screen
        .detail(&format!("{POD} still holds its {} devices, and they are valid", held.len()));
    Ok(())
}

async fn outlives_its_socket(setup: &mut Setup) -> anyhow::Result<()> {
    let (took, registrations) = setup.delete_sockets().await?;
    setup.screen.step("The plugin's socket is deleted; it registers again", Some(took));
    setup.show_registrations(&registrations);
    setup.show_totals();
    Ok(())
}

/// SIGTERM.
pub(super) async fn stops(setup: &mut Setup) -> anyhow::Result<()> {
    let begun = Instant::now();
    setup.plugin.terminate()?;
    let status = setup.plugin.wait_exit(PATIENCE).await?;
    let took = begun.elapsed();
    ensure!(status.success(), "the plugin exits with code 0 after SIGTERM: {status}");
    let left = setup.node.plugin_sockets();
    ensure!(left.is_empty(), "the plugin removes its socket: {left:?} is left");
    setup
        .kubelet
        .wait_until("nothing is allocatable without the plugin", PATIENCE, |view| {
            view.resources.values().all(|resource| resource.allocatable == 0)
        })
        .await?;
    setup.screen.step("SIGTERM; the plugin stops", Some(took));
    setup
        .screen
        .detail("exit code 0, its socket is gone, the kubelet counts nothing as allocatable");
    Ok(())
}

/// The last step: nothing that the real kubelet would have tolerated.
pub(super) fn kept_the_contract(setup: &Setup) -> anyhow::Result<()> {
    let violations = setup.kubelet.violations();
    if !violations.is_empty() {
        let list: String = violations.iter().map(|violation| format!("\n  {violation}")).collect();
        bail!("the plugin keeps to the device plugin contract:{list}");
    }
    setup.screen.step("The plugin kept to the device plugin contract throughout", None);
    Ok(())
}
