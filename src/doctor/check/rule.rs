//! The questions.

/// A question about the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rule {
    /// Is every GPU Healthy?
    Gpus,
    /// Is every resource registered with the kubelet, and watched by it?
    Registration,
    /// Does NVML answer?
    Nvml,
    /// All of these; the worst answer counts.
    #[default]
    All,
}

impl Rule {
    /// The words of the command line.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("gpus", Self::Gpus),
        ("registration", Self::Registration),
        ("nvml", Self::Nvml),
        ("all", Self::All),
    ];
}
