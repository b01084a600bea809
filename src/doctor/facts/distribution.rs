//! Which distribution of Kubernetes, or operating system made for one, a node runs.

/// A distribution that `docs/platforms` has a page for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesDistribution {
    /// Azure Kubernetes Service.
    Aks,
    /// Bottlerocket, whether EKS runs on it or not.
    Bottlerocket,
    /// Amazon Elastic Kubernetes Service.
    Eks,
    /// Google Kubernetes Engine.
    Gke,
    /// k0s.
    K0s,
    /// k3s.
    K3s,
    /// A node that kubeadm has joined to its cluster.
    Kubeadm,
    /// MicroK8s.
    MicroK8s,
    /// OpenShift.
    OpenShift,
    /// RKE2.
    Rke2,
    /// Talos.
    Talos,
}

/// What the host's files say of the distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DistributionFacts {
    /// One of those, with the sign of it.
    Known(KubernetesDistribution, String),
    /// None of them: the `ID` of its os-release(5).
    Other(String),
    /// Neither a sign nor an os-release(5) is there.
    NotSeen,
}

impl KubernetesDistribution {
    /// Its name, as its makers write it.
    pub(in crate::doctor) const fn name(self) -> &'static str {
        match self {
            Self::Aks => "AKS",
            Self::Bottlerocket => "Bottlerocket",
            Self::Eks => "EKS",
            Self::Gke => "GKE",
            Self::K0s => "k0s",
            Self::K3s => "k3s",
            Self::Kubeadm => "kubeadm",
            Self::MicroK8s => "MicroK8s",
            Self::OpenShift => "OpenShift",
            Self::Rke2 => "RKE2",
            Self::Talos => "Talos",
        }
    }

    /// The document of what is particular to it.
    pub(in crate::doctor) const fn document(self) -> &'static str {
        match self {
            Self::Aks => "docs/platforms/aks.md",
            Self::Bottlerocket => "docs/platforms/bottlerocket.md",
            Self::Eks => "docs/platforms/eks.md",
            Self::Gke => "docs/platforms/gke.md",
            Self::K0s | Self::Kubeadm => "docs/platforms/kubeadm.md",
            Self::K3s | Self::Rke2 => "docs/platforms/k3s-rke2.md",
            Self::MicroK8s => "docs/platforms/microk8s.md",
            Self::OpenShift => "docs/platforms/openshift.md",
            Self::Talos => "docs/platforms/talos.md",
        }
    }
}
