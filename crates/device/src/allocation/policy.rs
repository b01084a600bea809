//! The allocation policies.

/// How whole GPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WholeGpuPolicy {
    /// By the links between them: best for the request, then best for later ones.
    #[default]
    Optimal,
    /// By NUMA node alone, as if no links were known.
    Numa,
    /// The lowest indices.
    Index,
}

/// How replicas and MIG devices are chosen, counted by physical GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SharedPolicy {
    /// The GPU with the least in use, one device at a time.
    #[default]
    Distributed,
    /// The fullest GPU on which the request fits.
    Packed,
    /// Never two of one request on one GPU while another has a free device.
    Spread,
}

impl WholeGpuPolicy {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Optimal, Self::Numa, Self::Index];
}

impl SharedPolicy {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Distributed, Self::Packed, Self::Spread];
}

/// The policies for whole GPUs and for shared devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AllocationPolicy {
    /// For whole GPUs.
    pub whole: WholeGpuPolicy,
    /// For replicas and MIG devices.
    pub shared: SharedPolicy,
}
