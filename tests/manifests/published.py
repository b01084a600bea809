"""Published fields of what Kubernetes' own schemas do not have: of each kind those that the examples use, with where
they are published. A field that is not here is a mistake, or has to be looked up first."""

import re

# kubernetes/kubernetes, staging/src/k8s.io/kubelet/config/v1beta1/types.go.
KUBELET = {
    "maxPods": int,
    "kubeReserved": dict,
    "systemReserved": dict,
    "evictionHard": dict,
    "evictionSoft": dict,
    "evictionSoftGracePeriod": dict,
    "evictionMaxPodGracePeriod": int,
    "enforceNodeAllocatable": [str],
    "imageGCHighThresholdPercent": int,
    "imageGCLowThresholdPercent": int,
    "cpuManagerPolicy": str,
    "topologyManagerPolicy": str,
    "registerWithTaints": [{"key!": str, "value": str, "effect!": str}],
}
KUBELET_FILE = {"apiVersion!": str, "kind!": str, **KUBELET}
# Its command line (cmd/kubelet/app/options/options.go), which k3s takes as kubelet-arg and bootstrap.sh as
# --kubelet-extra-args.
KUBELET_FLAGS = {
    "max-pods",
    "kube-reserved",
    "system-reserved",
    "eviction-hard",
    "node-labels",
    "register-with-taints",
}
# pkg/kubelet/eviction/api/types.go.
SIGNALS = {
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
}
# What can be reserved: pkg/kubelet/apis/config/validation/validation_reserved_memory.go and cmd/kubelet/app/server.go.
RESERVABLE = {"cpu", "memory", "ephemeral-storage", "pid"}

# kubernetes/kubernetes, cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go.
KUBEADM_JOIN = {
    "apiVersion!": str,
    "kind!": str,
    "discovery!": {
        "bootstrapToken!": {"apiServerEndpoint!": str, "token!": str, "caCertHashes!": [str]},
    },
    "nodeRegistration!": {
        "taints": [{"key!": str, "value": str, "effect!": str}],
        "kubeletExtraArgs": [{"name!": str, "value!": str}],
    },
    "patches!": {"directory!": str},
}

# awslabs/amazon-eks-ami, nodeadm/api/v1alpha1/nodeconfig_types.go at 01348c0d.
NODE_CONFIG = {
    "apiVersion!": str,
    "kind!": str,
    "spec!": {
        "cluster": {"name!": str, "apiServerEndpoint!": str, "certificateAuthority!": str, "cidr!": str},
        "instance": {"localStorage": {"strategy!": str}},
        "kubelet!": {"config!": KUBELET, "flags": [str]},
    },
}
LOCAL_STORAGE = {"RAID0", "RAID10", "Mount"}
# awslabs/amazon-eks-ami, templates/al2/runtime/bootstrap.sh.
BOOTSTRAP_FLAGS = {"--use-max-pods", "--kubelet-extra-args"}

# openshift/api, machineconfiguration/v1/types.go at 079ff78f. OpenShift does not use kubeReserved
# (docs.okd.io, nodes-nodes-resources-configuring).
OPENSHIFT_KUBELET = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": {"name!": str},
    "spec!": {
        "machineConfigPoolSelector!": {"matchLabels!": dict},
        "kubeletConfig!": {field: form for field, form in KUBELET.items() if field != "kubeReserved"},
    },
}

# kubernetes-sigs/karpenter and aws/karpenter-provider-aws, pkg/apis/crds, of v1 (as in @kubernetes-models/karpenter).
REQUIREMENT = {"key!": str, "operator!": str, "values": [str], "minValues": int}
NODE_POOL = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": {"name!": str},
    "spec!": {
        "template!": {
            "metadata": {"labels": dict, "annotations": dict},
            "spec!": {
                "nodeClassRef!": {"group!": str, "kind!": str, "name!": str},
                "requirements!": [REQUIREMENT],
                "taints": [{"key!": str, "value": str, "effect!": str}],
                "startupTaints": [{"key!": str, "value": str, "effect!": str}],
                "expireAfter": str,
                "terminationGracePeriod": str,
            },
        },
        "limits": dict,
        "disruption": {"consolidationPolicy": str, "consolidateAfter!": str, "budgets": [{"nodes!": str}]},
        "weight": int,
    },
}
SELECTOR_TERMS = [{"tags": dict, "id": str}]
EC2_NODE_CLASS = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": {"name!": str},
    "spec!": {
        "amiFamily": str,
        "amiSelectorTerms!": [{"alias": str, "id": str, "name": str, "owner": str, "tags": dict}],
        "role!": str,
        "subnetSelectorTerms!": SELECTOR_TERMS,
        "securityGroupSelectorTerms!": SELECTOR_TERMS,
        "instanceStorePolicy": str,
        "blockDeviceMappings": [
            {"deviceName!": str, "ebs!": {"volumeSize!": str, "volumeType": str, "encrypted": bool}}
        ],
        "kubelet": {
            field: KUBELET[field]
            for field in ("maxPods", "kubeReserved", "systemReserved", "evictionHard", "evictionSoft", "evictionSoftGracePeriod")
        },
    },
}

# knative/serving, config/core/300-resources/service.yaml; of the container what the example uses.
KNATIVE_SERVICE = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": {"name!": str, "namespace!": str},
    "spec!": {
        "template!": {
            "metadata!": {"name!": str, "annotations!": dict},
            "spec!": {
                "containerConcurrency": int,
                "timeoutSeconds": int,
                "runtimeClassName": str,
                "nodeSelector": dict,
                "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
                "containers!": [
                    {
                        "name!": str,
                        "image!": str,
                        "ports": [{"name": str, "containerPort": int}],
                        "readinessProbe": {"httpGet": {"path": str, "port": int}},
                        "resources!": {"requests": dict, "limits!": dict},
                    }
                ],
            },
        },
        "traffic!": [{"revisionName": str, "latestRevision": bool, "percent": int, "tag": str}],
    },
}
# knative.dev/docs/serving/autoscaling and knative.dev/docs/serving/revisions/revision-annotations.
KNATIVE_ANNOTATIONS = {
    "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
    "autoscaling.knative.dev/initial-scale": r"\d+",
    "autoscaling.knative.dev/max-scale": r"\d+",
    "autoscaling.knative.dev/metric": "concurrency|rps",
    "autoscaling.knative.dev/min-scale": r"\d+",
    "autoscaling.knative.dev/scale-down-delay": r"\d+[smh]",
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period": r"\d+[smh]",
    "autoscaling.knative.dev/target": r"\d+",
    "autoscaling.knative.dev/target-utilization-percentage": r"\d+",
    "autoscaling.knative.dev/window": r"\d+[smh]",
    "serving.knative.dev/progress-deadline": r"\d+[smh]",
}
# knative/serving, config/core/configmaps/features.yaml at 03608505: the flag of each field of a pod.
KNATIVE_FLAGS = {
    "affinity": "kubernetes.podspec-affinity",
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "tolerations": "kubernetes.podspec-tolerations",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "schedulerName": "kubernetes.podspec-schedulername",
}

# bottlerocket-os/bottlerocket-settings-sdk, settings-extensions/kubernetes/src/lib.rs at 2363566c: names with
# hyphens. The maps' keys are checked as the kubelet's.
BOTTLEROCKET = {
    "settings!": {
        "kubernetes!": {
            "max-pods": int,
            "node-labels": dict,
            "node-taints": dict,
            "kube-reserved": dict,
            "system-reserved": dict,
            "eviction-hard": dict,
            "eviction-soft": dict,
            "eviction-soft-grace-period": dict,
            "eviction-max-pod-grace-period": int,
            "cpu-manager-policy": str,
            "topology-manager-policy": str,
        }
    }
}

# docs.k3s.io/cli/agent, docs.rke2.io/reference/linux_agent_config: the names of flags without their hyphens before.
K3S = {"default-runtime": str, "node-label": [str], "node-taint": [str], "kubelet-arg!": [str]}

# By apiVersion and kind.
KINDS = {
    "kubelet.config.k8s.io/v1beta1 KubeletConfiguration": KUBELET_FILE,
    "kubeadm.k8s.io/v1beta4 JoinConfiguration": KUBEADM_JOIN,
    "node.eks.aws/v1alpha1 NodeConfig": NODE_CONFIG,
    "machineconfiguration.openshift.io/v1 KubeletConfig": OPENSHIFT_KUBELET,
    "karpenter.sh/v1 NodePool": NODE_POOL,
    "karpenter.k8s.aws/v1 EC2NodeClass": EC2_NODE_CLASS,
    "serving.knative.dev/v1 Service": KNATIVE_SERVICE,
}
# Those that a registry has a schema of.
WITH_SCHEMA = {"karpenter.sh/v1 NodePool", "karpenter.k8s.aws/v1 EC2NodeClass", "serving.knative.dev/v1 Service"}

UNITS = {"": 1, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(value):
    """The number that a quantity of Kubernetes is, or None."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(value))
    if not found or found.group(2) not in UNITS:
        return None
    return float(found.group(1)) * UNITS[found.group(2)]


def kubelet_mistakes(config, place):
    """What the kubelet refuses or ignores beyond the types of its fields
    (pkg/kubelet/apis/config/validation/validation.go and pkg/kubelet/eviction/helpers.go)."""
    for field in ("kubeReserved", "systemReserved"):
        for name, value in config.get(field, {}).items():
            if name not in RESERVABLE:
                yield "%s.%s: %s cannot be reserved" % (place, field, name)
            if not isinstance(value, str) or quantity(value) is None:
                yield "%s.%s.%s is no quantity as text: %r" % (place, field, name, value)
    for field in ("evictionHard", "evictionSoft"):
        for name, value in config.get(field, {}).items():
            if name not in SIGNALS:
                yield "%s.%s: there is no signal %s" % (place, field, name)
            if not re.fullmatch(r"\d+%", str(value)) and quantity(value) is None:
                yield "%s.%s.%s is neither a quantity nor a percentage" % (place, field, name)
    if config.get("evictionSoft", {}).keys() != config.get("evictionSoftGracePeriod", {}).keys():
        yield "%s: each of evictionSoft needs its grace period" % place
    low, high = config.get("imageGCLowThresholdPercent", 0), config.get("imageGCHighThresholdPercent", 100)
    if not 0 <= low < high <= 100:
        yield "%s: the thresholds of image garbage collection are %s and %s" % (place, low, high)
    if not set(config.get("enforceNodeAllocatable", ["pods"])) <= {"pods"}:
        yield "%s: what is reserved is enforced by cgroups that are not named" % place
    if config.get("cpuManagerPolicy", "none") not in ("none", "static"):
        yield "%s: there is no such cpuManagerPolicy" % place
    if config.get("topologyManagerPolicy", "none") not in ("none", "best-effort", "restricted", "single-numa-node"):
        yield "%s: there is no such topologyManagerPolicy" % place
    reserved = [quantity(config.get(field, {}).get("cpu", "0")) or 0 for field in ("kubeReserved", "systemReserved")]
    if config.get("cpuManagerPolicy") == "static" and not sum(reserved):
        yield "%s: the static CPU manager needs a reserved CPU" % place
