//! Names that others give: those of the node agent, and labels by which nodes with GPUs are known.

/// The annotation with a node's GPUs in brief.
pub(crate) const SUMMARY: &str = "nvidia.com/gpu.summary";
/// Who owns it, for the API server.
pub(crate) const SUMMARY_MANAGER: &str = "gpu-node-agent-summary";

/// Labels of nodes with GPUs, and how the value begins: of GPU feature discovery and the node
/// agent, of node feature discovery (by vendor alone, and by its defaults), and of GKE.
pub(crate) const GPU_LABELS: [(&str, &str); 5] = [
    ("nvidia.com/gpu.present", "true"),
    ("feature.node.kubernetes.io/pci-10de.present", "true"),
    ("feature.node.kubernetes.io/pci-0300_10de.present", "true"),
    ("feature.node.kubernetes.io/pci-0302_10de.present", "true"),
    ("cloud.google.com/gke-accelerator", "nvidia-"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_annotation_are_those_of_the_agent() {
        assert_eq!(SUMMARY, gpu_node_agent::summary::SUMMARY);
        assert_eq!(SUMMARY_MANAGER, gpu_node_agent::summary::SUMMARY_MANAGER);
    }
}
