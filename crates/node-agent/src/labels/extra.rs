//! What is written on request, beside the labels of GPU feature discovery. Pure.
//!
//! No name of that program begins with `nvidia.com/gpu-node-agent.`, as these labels do.

use std::collections::BTreeMap;

use status::{Gpu, Status};

use super::resource::{capability, family, strategy_name};
use super::value;

/// How many GPUs of a node are described at most: an object of the API server has a bound too.
const MAX_GPUS: usize = 256;
pub(super) const HEALTHY: &str = "gpu-node-agent.healthy-count";
const SHARING: &str = "gpu-node-agent.sharing";
const DRIVER_BRANCH: &str = "gpu-node-agent.driver-branch";

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Extra {
    /// How many GPUs are Healthy.
    HealthyCount,
    /// How GPUs are shared.
    Sharing,
    /// The branch of the driver.
    DriverBranch,
    /// Each GPU with its attributes, for the rules of node feature discovery.
    Instances,
}

/// What is known of a GPU, by name.
pub type Attributes = BTreeMap<&'static str, String>;

/// The labels that are asked for, of a node with GPUs.
pub(super) fn labels(status: &Status, wanted: &[Extra], add: &mut impl FnMut(&str, String)) {
    for extra in wanted {
        match extra {
            Extra::HealthyCount => add(HEALTHY, status.gpu_tally().healthy.to_string()),
            Extra::Sharing => add(SHARING, sharing(status).to_owned()),
            Extra::DriverBranch => {
                let version = status.nvml.driver_version.as_deref().unwrap_or_default();
                if let Some([major, ..]) = value::driver_parts(version) {
                    add(DRIVER_BRANCH, format!("R{major}"));
                }
            }
            Extra::Instances => {}
        }
    }
}

/// The attributes of these GPUs.
pub(super) fn attributes(gpus: &[&Gpu]) -> Vec<Attributes> {
    gpus.iter().take(MAX_GPUS).map(|gpu| of_gpu(gpu)).collect()
}

/// The strategy of all resources that are shared.
fn sharing(status: &Status) -> &'static str {
    let shared = status.resources.iter().filter_map(|resource| resource.sharing.as_ref());
    let shared = shared.filter(|sharing| sharing.replicas > 1);
    let mut strategies = shared.map(|sharing| strategy_name(sharing.strategy));
    let first = strategies.next().unwrap_or("none");
    if strategies.all(|other| other == first) { first } else { "several" }
}

fn of_gpu(gpu: &Gpu) -> Attributes {
    let mut all = Attributes::from([
        ("index", gpu.index.to_string()),
        ("uuid", value::of_text(&gpu.uuid)),
        ("healthy", gpu.healthy.to_string()),
        ("mig_enabled", gpu.mig_enabled.to_string()),
    ]);
    if let Some(model) = &gpu.model {
        all.insert("product", value::of_text(model));
    }
    if let Some(bytes) = gpu.memory_bytes {
        all.insert("memory", (bytes >> 20).to_string());
    }
    if let Some(capability) = capability(gpu) {
        all.insert("family", family(capability).to_owned());
        all.insert("compute_major", capability.0.to_string());
        all.insert("compute_minor", capability.1.to_string());
    }
    all
}

#[cfg(test)]
mod tests {
    use status::{NvmlState, SharingStrategy, VgpuHost};

    use super::super::testing::{gpu, partitioned, shared, status};
    use super::super::{LabelSettings, Labeller, Labels};
    use super::*;

    const ALL: [Extra; 4] =
        [Extra::HealthyCount, Extra::Sharing, Extra::DriverBranch, Extra::Instances];

    fn labeller(extra: &[Extra]) -> Labeller {
        Labeller::new(LabelSettings { extra: extra.to_vec(), ..LabelSettings::default() })
    }

    /// The labels on request, in one line.
    fn extras(status: &Status, extra: &[Extra]) -> String {
        line(&labeller(extra).features(status).unwrap().labels)
    }

    fn line(labels: &Labels) -> String {
        let ours = labels.iter().filter_map(|(name, value)| {
            Some(format!("{}={value}", name.strip_prefix("nvidia.com/gpu-node-agent.")?))
        });
        ours.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn they_are_there_on_request_alone_and_not_without_gpus() {
        let mut node = status(&[gpu(0, "NVIDIA H200"), gpu(1, "NVIDIA H200")]);
        node.gpus[1].healthy = false;
        assert_eq!(extras(&node, &[]), "");
        assert_eq!(labeller(&[]).features(&node).unwrap().gpus, [] as [Attributes; 0]);
        assert_eq!(extras(&node, &ALL), "driver-branch=R580 healthy-count=1 sharing=none");
        assert_eq!(extras(&status(&[]), &ALL), "");
        node.gpus[0].reserved = Some("for the display".to_owned());
        assert_eq!(extras(&node, &[Extra::HealthyCount]), "healthy-count=0");
        node.nvml.driver_version = Some("of a vendor".to_owned());
        assert_eq!(extras(&node, &[Extra::DriverBranch]), "");
    }

    #[test]
    fn the_sharing_is_that_of_all_resources() {
        let of = |resources: &[(SharingStrategy, u32)]| {
            let mut node = status(&[gpu(0, "NVIDIA H200")]);
            let one = |(strategy, replicas): &(_, _)| shared("a", "a", *strategy, *replicas);
            node.resources = resources.iter().map(one).collect();
            extras(&node, &[Extra::Sharing])
        };
        let (slicing, mps) = (SharingStrategy::TimeSlicing, SharingStrategy::Mps);
        assert_eq!(of(&[(slicing, 4), (slicing, 2)]), "sharing=time-slicing");
        assert_eq!(of(&[(mps, 10), (slicing, 1)]), "sharing=mps");
        assert_eq!(of(&[(mps, 10), (slicing, 2)]), "sharing=several");
        assert_eq!(of(&[(slicing, 1)]), "sharing=none");
    }

    #[test]
    fn an_instance_has_what_a_rule_can_match() {
        let vgpu = VgpuHost { driver_version: "550".to_owned(), driver_branch: "r550".to_owned() };
        let node = status(&[
            partitioned(gpu(0, "NVIDIA H200"), &["1g.18gb"]),
            Gpu { model: None, memory_bytes: None, compute_capability: None, ..gpu(1, "") },
            Gpu { healthy: false, vgpu_host: Some(vgpu), ..gpu(2, "a\u{1b}[2J\n b") },
        ]);
        let gpus = labeller(&ALL).features(&node).unwrap().gpus;
        let text = |of: &Attributes| {
            of.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(&gpus[0]),
            "compute_major=9 compute_minor=0 family=hopper healthy=true index=0 memory=143771 \
            mig_enabled=true product=NVIDIA-H200 uuid=GPU-0"
        );
        assert_eq!(text(&gpus[1]), "healthy=true index=1 mig_enabled=false uuid=GPU-1");
        assert_eq!(gpus[2]["product"], "a2J-b");
        assert_eq!(gpus[2]["healthy"], "false");
        let many: Vec<Gpu> = (0..1_000).map(|index| gpu(index, "x")).collect();
        assert_eq!(labeller(&ALL).features(&status(&many)).unwrap().gpus.len(), MAX_GPUS);
    }

    #[test]
    fn health_moves_while_nvml_does_not_answer_and_nothing_else() {
        let mut node = status(&[gpu(0, "NVIDIA H200")]);
        let known = labeller(&ALL);
        let up = known.features(&node).unwrap();
        node.nvml.state = NvmlState::Down;
        node.nvml.driver_version = None;
        assert_eq!(known.features(&node), Some(up.clone()));
        node.gpus[0].healthy = false;
        let down = known.features(&node).unwrap();
        assert_eq!(line(&down.labels), "driver-branch=R580 healthy-count=0 sharing=none");
        assert_eq!(down.gpus[0]["healthy"], "false");
        node.gpus.clear();
        assert_eq!(known.features(&node), Some(down));
        let mut again = status(&[gpu(0, "NVIDIA H200")]);
        assert_eq!(known.features(&again), Some(up));
        // Of a node of which nothing was known yet, nothing is said.
        again.nvml.state = NvmlState::Down;
        assert_eq!(labeller(&ALL).features(&again), None);
    }
}
