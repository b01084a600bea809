"""Value sets of the chart: those that it takes, with what has to come of them, and those that it refuses."""

from pathlib import Path

import yaml

CONFIG = """\
version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 10
"""
MIG_CONFIG = "version: v1\nflags:\n  migStrategy: mixed\n"
MPS_CONFIG = "version: v1\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n"
CDI_CONFIG = "version: v1\nflags:\n  failOnInitError: true\n  plugin:\n    deviceListStrategy: [envvar, cdi-cri]\n"


class Set:
    """Values, and what the rendered objects have to say."""

    def __init__(
        self,
        values,
        env=None,
        without=(),
        host=None,
        adds=None,
        kinds=(),
        notes=(),
        more=None,
        agent=None,
        rights=None,
        mps=False,
    ):
        self.values = values
        # Variables that the container has, and names that it does not have.
        self.env = env or {}
        self.without = without
        # Mount path: path on the node, or None where nothing is mounted.
        self.host = host or {}
        # Capabilities that an unprivileged container adds; None: it is privileged.
        self.adds = adds
        self.kinds = kinds
        # Parts of NOTES.
        self.notes = notes
        # Arguments of the node agent; None: there is none, and it has no rights.
        self.agent = agent
        # Its rights, as "verb resource" and, in one namespace, "verb resource in NAMESPACE".
        self.rights = rights or set()
        # A check of the DaemonSet's pod template.
        self.more = more or (lambda pod: True)
        # Whether there is a DaemonSet of MPS control daemons.
        self.mps = mps


def container(pod):
    return pod["spec"]["containers"][0]


def by_label(*more):
    """Arguments of the node agent that follows the label."""
    name = "--config-name-file=/run/gpu-node-agent/config-name"
    return [name, "--node-label=nvidia.com/device-plugin.config", "--config-file-srcdir=/available-configs", *more]


FALLBACKS = "--fallback-strategies=named,single"
WATCH = {"watch nodes"}
LABELS = {"get nodes", "patch nodes"}


def defaults_of_nvidia():
    """All values of NVIDIA's chart, as it has them, but for the image."""
    file = Path(__file__).resolve().parents[2] / "src" / "cli" / "migrate" / "tests" / "values-default.yaml"
    values = yaml.safe_load(file.read_text())
    del values["image"]["repository"]
    return values


# What NVIDIA's README and values.yaml document, by what they are for.
OF_NVIDIA = {
    "all defaults of NVIDIA's": Set(
        defaults_of_nvidia(), env={"FAIL_ON_INIT_ERROR": "false"}, without=["MIG_STRATEGY", "MPS_ROOT"]
    ),
    "nothing": Set({}, env={"FAIL_ON_INIT_ERROR": "false", "NODE_NAME": "spec.nodeName"}, without=["CONFIG_FILE", "MPS_ROOT"]),
    "cpu manager and resources": Set(
        {
            "compatWithCPUManager": True,
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "512Mi"}},
        },
        env={"PASS_DEVICE_SPECS": "true"},
        more=lambda pod: container(pod)["resources"]["limits"] == {"memory": "512Mi"},
    ),
    "mig mixed": Set({"migStrategy": "mixed"}, env={"MIG_STRATEGY": "mixed", "NVIDIA_MIG_MONITOR_DEVICES": "all"}),
    "mig single": Set({"migStrategy": "single"}, env={"MIG_STRATEGY": "single"}),
    "config from a file": Set(
        {"config": {"map": {"config": CONFIG}}},
        env={"CONFIG_FILE": "/available-configs/config", "CONFIG_DIR": "/available-configs", "STATUS_SOCKET_GID": "65532"},
        without=["MPS_ROOT", "NVIDIA_MIG_MONITOR_DEVICES"],
        kinds=["ConfigMap"],
        notes=["kubectl label node NODE nvidia.com/device-plugin.config=KEY"],
        agent=by_label(FALLBACKS),
        rights=WATCH,
        more=lambda pod: pod["spec"]["securityContext"] == {"supplementalGroups": [65532]},
    ),
    "two configs and a default": Set(
        {"config": {"default": "config0", "map": {"config0": CONFIG, "config1": MIG_CONFIG}}},
        # What the other one needs, which a label may choose, is there too.
        env={"CONFIG_FILE": "/available-configs/config0", "NVIDIA_MIG_MONITOR_DEVICES": "all"},
        kinds=["ConfigMap"],
        notes=['Every node uses the config file "config0", unless a label'],
        agent=by_label("--default-config=config0", FALLBACKS),
        rights=WATCH,
    ),
    "a config called default": Set(
        {"config": {"map": {"default": MIG_CONFIG, "other": CONFIG}}},
        env={"CONFIG_FILE": "/available-configs/default", "NVIDIA_MIG_MONITOR_DEVICES": "all"},
        agent=by_label(FALLBACKS),
        rights=WATCH,
    ),
    "the empty fallback": Set(
        {"config": {"fallbackStrategies": ["empty"], "map": {"a": CONFIG, "b": CONFIG}}},
        without=["CONFIG_FILE"],
        notes=["of config.fallbackStrategies, unless a label"],
        agent=by_label("--fallback-strategies=empty"),
        rights=WATCH,
    ),
    "another's configmap": Set(
        {"config": {"name": "nvidia-plugin-configs"}},
        env={"CONFIG_DIR": "/available-configs", "MPS_ROOT": "/run/nvidia/mps"},
        # Its keys are known on the nodes alone, where the agent chooses.
        without=["CONFIG_FILE", "FAIL_ON_INIT_ERROR"],
        host={
            "/mps": "/run/nvidia/mps",
            "/var/run/cdi": "/var/run/cdi",
            "/var/lib/gpu-cdi-hook": "/var/lib/gpu-cdi-hook",
        },
        notes=["of config.fallbackStrategies, unless a label", "set mps.enabled=true"],
        agent=by_label(FALLBACKS),
        rights=WATCH,
    ),
    "another's configmap and a default": Set(
        {"config": {"name": "nvidia-plugin-configs", "default": "config0"}},
        env={"CONFIG_FILE": "/available-configs/config0"},
        agent=by_label("--default-config=config0", FALLBACKS),
        rights=WATCH,
    ),
    "gfd": Set(
        {"gfd": {"enabled": True}},
        notes=["Its GPU Feature Discovery is not needed"],
        agent=["--labels=node", "--labels-conflict=yield"],
        rights=LABELS,
        kinds=["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "Job"],
    ),
    "gfd and its keys": Set(
        {"gfd": {"enabled": True, "noTimestamp": True, "sleepInterval": "30s", "securityContext": {}}},
        agent=["--labels=node", "--labels-conflict=yield", "--no-timestamp", "--sleep-interval=30s"],
        rights=LABELS,
        notes=["gfd.securityContext: the labels are written by the node agent"],
    ),
    "gfd and the keys of older charts": Set(
        {"gfd": {"enabled": True}, "noTimestamp": True, "sleepInterval": 30},
        agent=["--labels=node", "--labels-conflict=yield", "--no-timestamp", "--sleep-interval=30s"],
        rights=LABELS,
    ),
    "dead keys without gfd": Set(
        {"noTimestamp": True, "sleepInterval": 30}, notes=["noTimestamp: it is about", "sleepInterval: it is about"]
    ),
    "nfd": Set(
        {"nfd": {"enabled": True, "master": {"config": {"extraLabelNs": ["nvidia.com"]}}}},
        notes=["nfd.*: this chart has no Node Feature Discovery"],
    ),
    "volume mounts": Set({"deviceListStrategy": "volume-mounts"}, env={"DEVICE_LIST_STRATEGY": "volume-mounts"}),
    "index": Set({"deviceIDStrategy": "index"}, env={"DEVICE_ID_STRATEGY": "index"}),
    "a runtime class": Set(
        {"runtimeClassName": "nvidia"}, more=lambda pod: pod["spec"]["runtimeClassName"] == "nvidia"
    ),
    "cdi": Set(
        {
            "deviceListStrategy": "cdi-cri",
            "nvidiaDriverRoot": "/run/nvidia/driver",
            "nvidiaDevRoot": "/",
            "cdi": {"nvidiaHookPath": "/usr/local/nvidia/toolkit/nvidia-cdi-hook", "featureFlags": "disable-nvsandboxutils"},
        },
        env={
            "DEVICE_LIST_STRATEGY": "cdi-cri",
            "NVIDIA_DRIVER_ROOT": "/run/nvidia/driver",
            "DRIVER_ROOT_CTR_PATH": "/driver-root/run/nvidia/driver",
            "NVIDIA_DEV_ROOT": "/",
            "NVIDIA_CDI_HOOK_PATH": "/usr/local/nvidia/toolkit/nvidia-cdi-hook",
            "CDI_FEATURE_FLAGS": "disable-nvsandboxutils",
        },
        without=["CDI_SPEC_DIR", "CDI_HOOK_MODE", "CDI_HOOK_DIR"],
        host={
            "/driver-root": "/",
            "/var/run/cdi": "/var/run/cdi",
            "/var/lib/gpu-cdi-hook": "/var/lib/gpu-cdi-hook",
            "/cgroup": "/sys/fs/cgroup",
        },
    ),
    "cdi with the plugin's own hooks": Set(
        {"deviceListStrategy": "cdi-cri", "cdi": {"hookMode": "self", "hookDir": "/opt/hook"}},
        env={"CDI_HOOK_MODE": "self", "CDI_HOOK_DIR": "/opt/hook", "CGROUP_ROOT": "/cgroup"},
        host={"/opt/hook": "/opt/hook", "/cgroup": "/sys/fs/cgroup"},
    ),
    "cdi with the host's hooks": Set(
        {"deviceListStrategy": "cdi-cri", "cdi": {"hookMode": "host"}},
        env={"CDI_HOOK_MODE": "host"},
        without=["CDI_HOOK_DIR", "CGROUP_ROOT"],
        more=lambda pod: "cgroup" not in str(pod["spec"]["volumes"]),
    ),
    "gpudirect": Set(
        {"gdrcopyEnabled": True, "gdsEnabled": True, "mofedEnabled": False},
        env={"GDRCOPY_ENABLED": "true", "GDS_ENABLED": "true", "MOFED_ENABLED": "false"},
    ),
    "fail on init error": Set({"failOnInitError": True}, env={"FAIL_ON_INIT_ERROR": "true"}),
    "a boolean by --set-string": Set({"failOnInitError": "false"}, env={"FAIL_ON_INIT_ERROR": "false"}),
    "discovery": Set(
        {"deviceDiscoveryStrategy": "nvml"},
        env={"DEVICE_DISCOVERY_STRATEGY": "nvml"},
        notes=["deviceDiscoveryStrategy: GPUs are always found through NVML"],
    ),
    "mps": Set(
        {"config": {"map": {"default": MPS_CONFIG}}, "mps": {"root": "/run/mps", "enableHostPID": False}},
        env={"MPS_ROOT": "/run/mps", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
        host={"/mps": "/run/mps", "/dev/shm": "/run/mps/shm"},
        agent=by_label(FALLBACKS),
        rights=WATCH,
        mps=True,
    ),
    "mps, daemons of another's": Set(
        {"config": {"map": {"default": MPS_CONFIG}}, "mps": {"enabled": False}},
        env={"MPS_ROOT": "/run/nvidia/mps"},
        agent=by_label(FALLBACKS),
        rights=WATCH,
    ),
    "mps by another's configmap": Set(
        {"config": {"name": "nvidia-plugin-configs", "default": "config0"}, "mps": {"enabled": True}},
        host={"/mps": "/run/nvidia/mps"},
        agent=by_label("--default-config=config0", FALLBACKS),
        rights=WATCH,
        mps=True,
    ),
    "names": Set(
        {"nameOverride": "plugin", "fullnameOverride": "my-plugin", "namespaceOverride": "gpus", "selectorLabelsOverride": {"app": "x"}},
        more=lambda pod: pod["metadata"]["labels"] == {"app": "x"},
    ),
    "a component label": Set(
        {"componentSelectorLabels": {"enabled": True}},
        more=lambda pod: pod["metadata"]["labels"]["app.kubernetes.io/component"] == "device-plugin",
    ),
    "no affinity": Set({"affinity": None}, more=lambda pod: "affinity" not in pod["spec"]),
    "an affinity of one's own": Set(
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu-device-plugin", "operator": "DoesNotExist"}]}]}}}},
        more=lambda pod: "DoesNotExist" in str(pod["spec"]["affinity"]) and "10de" not in str(pod["spec"]["affinity"]),
    ),
    "scheduling": Set(
        {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
            "priorityClassName": "",
            "updateStrategy": {"type": "OnDelete"},
        },
        more=lambda pod: pod["spec"]["nodeSelector"]["pool"] == "gpu" and "priorityClassName" not in pod["spec"],
    ),
    "an image from a registry": Set(
        {"image": {"repository": "registry.example.com/gpu-device-plugin", "tag": "0.1.0", "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "pull"}]},
        more=lambda pod: container(pod)["image"] == "registry.example.com/gpu-device-plugin:0.1.0",
    ),
    "contexts": Set(
        {"podSecurityContext": {"runAsUser": 0}, "securityContext": {"privileged": True}, "podAnnotations": {"a": "b"}},
        more=lambda pod: container(pod)["securityContext"] == {"privileged": True} and pod["metadata"]["annotations"]["a"] == "b",
    ),
    "a context without privileges": Set(
        {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        host={"/dev": None, "/driver-root": None},
        more=lambda pod: container(pod)["securityContext"] == {"capabilities": {"add": ["SYS_ADMIN"]}},
    ),
    "a surge": Set({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}),
    "the host's network": Set(
        {"devicePlugin": {"enableHostNetwork": True}},
        more=lambda pod: pod["spec"]["hostNetwork"] is True,
        notes=["Whoever reaches port 19400 of the node"],
    ),
    "variables of newer charts": Set(
        {
            "devicePlugin": {
                "resources": {"limits": {"memory": "64Mi"}},
                "containers": {"main": {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]}},
            },
            "nvidiaDriverCapabilities": "all",
            "logVerbosity": 4,
            "configManager": {"resources": {}},
        },
        env={"NVIDIA_VISIBLE_DEVICES": "void", "NVIDIA_DRIVER_CAPABILITIES": "all"},
        more=lambda pod: container(pod)["resources"] == {"limits": {"memory": "64Mi"}},
        notes=["logVerbosity", "configManager"],
    ),
}

OWN = {
    "least privilege": Set(
        {"privileged": False, "runtimeClassName": "nvidia"},
        adds=[],
        host={"/dev": None, "/driver-root": None},
        more=lambda pod: container(pod)["securityContext"]["allowPrivilegeEscalation"] is False,
    ),
    "least privilege with mig": Set({"privileged": False, "migStrategy": "mixed"}, adds=["SYS_ADMIN"]),
    "least privilege with mig in the file": Set(
        {"privileged": False, "config": {"map": {"default": MIG_CONFIG}}}, adds=["SYS_ADMIN"], agent=by_label(FALLBACKS), rights=WATCH
    ),
    "least privilege with mig in a file that a label may choose": Set(
        {"privileged": False, "config": {"map": {"default": CONFIG, "mig": MIG_CONFIG}}}, adds=["SYS_ADMIN"], agent=by_label(FALLBACKS), rights=WATCH
    ),
    "without a configuration by label": Set(
        {"privileged": False, "config": {"map": {"default": CONFIG, "mig": MIG_CONFIG}}, "nodeAgent": {"configByLabel": False}},
        adds=[],
        env={"CONFIG_FILE": "/available-configs/default"},
        without=["CONFIG_DIR", "STATUS_SOCKET_GID"],
        notes=["the node label nvidia.com/device-plugin.config: nodeAgent.configByLabel is false"],
    ),
    "without a configuration by label, another's configmap": Set(
        {"config": {"name": "x"}, "nodeAgent": {"configByLabel": False}},
        env={"CONFIG_FILE": "/available-configs/default"},
        notes=["config.fallbackStrategies, where `helm template` renders"],
    ),
    "all functions of the node agent": Set(
        {
            "nodeAgent": {
                "labels": "node",
                "labelsConflict": "take",
                "nodeCondition": "example.com/Gpu",
                "events": True,
                "configLabel": "example.com/gpu-config",
                "user": 1000,
                "extraArgs": ["--verbose"],
            },
            "config": {"map": {"default": CONFIG}},
            "podSecurityContext": {"supplementalGroups": [7]},
            "networkPolicy": {"enabled": True},
        },
        env={"STATUS_SOCKET_GID": "1000"},
        agent=["--labels=node", "--labels-conflict=take", "--node-condition=example.com/Gpu", "--events", by_label()[0], "--node-label=example.com/gpu-config", by_label()[2], FALLBACKS, "--verbose"],
        rights=LABELS | WATCH | {"patch nodes/status", "create events.events.k8s.io in default", "patch events.events.k8s.io in default"},
        kinds=["ValidatingAdmissionPolicy", "Job", "NetworkPolicy"],
        more=lambda pod: pod["spec"]["securityContext"] == {"supplementalGroups": [7, 1000]}
        and pod["spec"]["containers"][1]["securityContext"]["runAsUser"] == 1000,
    ),
    "labels off, as YAML reads it": Set({"gfd": {"enabled": True}, "nodeAgent": {"labels": False}}),
    "a condition alone": Set(
        {"nodeAgent": {"nodeCondition": True}}, agent=["--node-condition=GPUUnhealthy"], rights={"get nodes", "patch nodes/status"}
    ),
    "events alone": Set(
        {"nodeAgent": {"events": True}},
        agent=["--events"],
        rights={"create events.events.k8s.io in default", "patch events.events.k8s.io in default"},
    ),
    "a release by label": Set(
        {"nodeAgent": {"releaseByLabel": True}},
        env={"RELEASE_FILE": "/run/gpu-node-agent/release"},
        without=["CONFIG_DIR"],
        agent=["--release-file=/run/gpu-node-agent/release"],
        rights=WATCH,
    ),
    "a summary alone": Set({"nodeAgent": {"summary": True}}, agent=["--node-summary"], rights=LABELS, kinds=["Job"]),
    "a taint alone": Set(
        {"nodeAgent": {"taint": True}},
        agent=["--node-taint=nvidia.com/gpu-unhealthy"],
        rights=LABELS,
        more=lambda pod: {"key": "nvidia.com/gpu-unhealthy", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"],
    ),
    "events about pods": Set(
        {"nodeAgent": {"events": True, "podEvents": True, "taint": "example.com/none"}},
        agent=["--node-taint=example.com/none", "--events", "--pod-events"],
        rights=LABELS | {"get pods", "create events.events.k8s.io", "patch events.events.k8s.io"},
    ),
    "labels for node feature discovery": Set(
        {"nodeAgent": {"labels": "nodefeature"}},
        agent=["--labels=nodefeature", "--labels-conflict=yield"],
        rights={"%s nodefeatures.nfd.k8s-sigs.io in gpus" % verb for verb in ("get", "create", "patch")},
    ),
    "labels on request": Set(
        {"nodeAgent": {"labels": "node", "extraLabels": ["healthy-count", "sharing"]}},
        agent=["--labels=node", "--labels-conflict=yield", "--extra-labels=healthy-count,sharing"],
        rights=LABELS,
    ),
    "least privilege with volume mounts": Set(
        {"privileged": False, "deviceListStrategy": ["envvar", "volume-mounts"]},
        adds=["SYS_ADMIN"],
        env={"DEVICE_LIST_STRATEGY": "envvar,volume-mounts"},
    ),
    "least privilege with a driver's container": Set(
        {"privileged": False, "nvidiaDriverRoot": "/run/nvidia/driver"},
        adds=[],
        host={"/driver-root": "/run/nvidia/driver"},
        without=["DRIVER_ROOT_CTR_PATH"],
    ),
    "cdi in the file": Set(
        {"config": {"map": {"c": CDI_CONFIG}}, "cdi": {"specDir": "/etc/cdi"}},
        env={"CDI_SPEC_DIR": "/etc/cdi"},
        without=["FAIL_ON_INIT_ERROR"],
        host={"/etc/cdi": "/etc/cdi"},
        agent=by_label(FALLBACKS),
        rights=WATCH,
    ),
    "monitoring": Set(
        {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
            "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
        },
        kinds=["PodMonitor", "PrometheusRule", "NetworkPolicy", "ConfigMap"],
    ),
    "a policy that lets in nobody": Set({"networkPolicy": {"enabled": True}}, kinds=["NetworkPolicy"]),
    "without http": Set(
        {"http": {"enabled": False}},
        env={"HTTP_ADDRESS": ""},
        more=lambda pod: "livenessProbe" not in container(pod) and "ports" not in container(pod),
    ),
    "another port and probes": Set(
        {"http": {"port": 9400}, "livenessProbe": None, "readinessProbe": {"periodSeconds": 10}},
        env={"HTTP_ADDRESS": ":9400"},
        more=lambda pod: "livenessProbe" not in container(pod)
        and container(pod)["readinessProbe"]["periodSeconds"] == 10
        and container(pod)["ports"][0]["containerPort"] == 9400,
    ),
    "another kubelet": Set(
        {"kubelet": {"devicePluginsDir": "/k/device-plugins", "podResourcesDir": "/k/pod-resources"}},
        host={"/var/lib/kubelet/device-plugins": "/k/device-plugins", "/var/lib/kubelet/pod-resources": "/k/pod-resources"},
    ),
    "without podresources": Set(
        {"kubelet": {"podResourcesDir": ""}},
        env={"POD_RESOURCES_SOCKET": ""},
        host={"/var/lib/kubelet/pod-resources": None},
    ),
    "state and quarantine": Set(
        {"state": {"hostPath": "/srv/state"}, "quarantine": {"hostPath": "/srv/quarantine"}},
        env={"QUARANTINE_DIR": "/quarantine"},
        host={"/var/lib/gpu-device-plugin": "/srv/state", "/quarantine": "/srv/quarantine"},
    ),
    "no state": Set({"state": {"hostPath": ""}}, host={"/var/lib/gpu-device-plugin": None}),
    "extra": Set(
        {
            "extraEnv": [{"name": "DP_DISABLE_HEALTHCHECKS", "value": "94"}, {"name": "FAIL_ON_INIT_ERROR", "value": "true"}],
            "extraVolumes": [{"name": "x", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
        },
        env={"DP_DISABLE_HEALTHCHECKS": "94", "FAIL_ON_INIT_ERROR": "true"},
        more=lambda pod: container(pod)["volumeMounts"][-1] == {"name": "x", "mountPath": "/x"},
    ),
    "gke": Set(
        {
            "nvidiaDriverRoot": "/home/kubernetes/bin/nvidia",
            "deviceListStrategy": "cdi-cri",
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "cloud.google.com/gke-accelerator", "operator": "Exists"}]}]}}},
        },
        env={"DRIVER_ROOT_CTR_PATH": "/driver-root/home/kubernetes/bin/nvidia"},
        more=lambda pod: "nvidia.com/gpu.present" not in str(pod["spec"]["affinity"]),
    ),
    "openshift": Set({"openshift": {"enabled": True}}, kinds=["RoleBinding", "ServiceAccount"]),
    "openshift without privilege": Set(
        {"openshift": {"enabled": True}, "privileged": False},
        adds=[],
        kinds=["Role", "RoleBinding", "SecurityContextConstraints", "ServiceAccount"],
        rights={"use securitycontextconstraints.security.openshift.io in gpus"},
    ),
    "openshift without privilege, mig, host network": Set(
        {"openshift": {"enabled": True}, "privileged": False, "migStrategy": "mixed", "devicePlugin": {"enableHostNetwork": True}},
        adds=["SYS_ADMIN"],
        kinds=["Role", "RoleBinding", "SecurityContextConstraints", "ServiceAccount"],
        rights={"use securitycontextconstraints.security.openshift.io in gpus"},
    ),
    "openshift, an scc that is there": Set(
        {"openshift": {"enabled": True, "scc": "ours"}, "privileged": False}, adds=[], kinds=["RoleBinding", "ServiceAccount"]
    ),
    "an account that is there": Set(
        {"serviceAccount": {"create": False, "name": "there"}}, more=lambda pod: pod["spec"]["serviceAccountName"] == "there"
    ),
}

# Arguments of the node agent in the cluster, values, and the functions whose writing an upgrade removes, with what their
# Job may do; None: there is no Job.
EVERYTHING = ["--labels=node", "--labels-conflict=yield", "--node-condition=GPUUnhealthy", "--node-taint=a.b/c", "--node-summary", "--events"]
LISTED = LABELS | {"list nodes"}
TURNED_OFF = {
    "nothing was on": (None, {}, None, None),
    "nothing is turned off": (EVERYTHING, {"nodeAgent": {"labels": "node", "nodeCondition": True, "taint": "a.b/c", "summary": True}}, None, None),
    "all is turned off": (
        EVERYTHING,
        {},
        ["--functions=labels,condition,taint,summary", "--node-taint=a.b/c"],
        LISTED | {"patch nodes/status"},
    ),
    "the plugin too": (
        ["--node-summary"],
        {"devicePlugin": {"enabled": False}, "nodeAgent": {"summary": True}},
        ["--functions=summary"],
        LISTED,
    ),
    "the condition": (
        EVERYTHING,
        {"nodeAgent": {"labels": "node", "taint": "a.b/c", "summary": True}},
        ["--functions=condition"],
        {"list nodes", "patch nodes/status"},
    ),
    "another type and another key": (
        EVERYTHING,
        {"nodeAgent": {"labels": "node", "nodeCondition": "Other", "taint": True, "summary": True}},
        ["--functions=condition,taint", "--node-taint=a.b/c"],
        LISTED | {"patch nodes/status"},
    ),
    "labels of another form": (
        ["--labels=nodefeature"],
        {"gfd": {"enabled": True}},
        ["--functions=nodefeature"],
        {"list nodes", "get nodefeatures.nfd.k8s-sigs.io", "delete nodefeatures.nfd.k8s-sigs.io"},
    ),
    "what is not cleaned up": (EVERYTHING, {"nodeAgent": {"cleanup": False}}, None, None),
    "functions that leave nothing": (["--events", "--pod-events", "--release-file=/r"], {}, None, None),
}

# Values, and what the refusal says.
BROKEN = {
    "an unknown key": ({"migStrategie": "none"}, "migStrategie"),
    "an unknown key below": ({"http": {"ports": 1}}, "ports"),
    "a namespace": ({"namespace": "x"}, "namespace"),
    "an unknown word": ({"migStrategy": "both"}, "'none', 'single', 'mixed'"),
    "an unknown strategy": ({"deviceListStrategy": "cdi"}, "deviceListStrategy"),
    "an unknown strategy in a list": ({"deviceListStrategy": ["envvar", "cdi"]}, "deviceListStrategy"),
    "an unknown hook mode": ({"cdi": {"hookMode": "own"}}, "hookMode"),
    "a hook directory that is the root": ({"cdi": {"hookDir": "/"}}, "hookDir"),
    "a text for a boolean": ({"gdsEnabled": "yes"}, "gdsEnabled"),
    "a text for a port": ({"http": {"port": "19400"}}, "port"),
    "a port that is none": ({"http": {"port": 0}}, "port"),
    "a relative path": ({"nvidiaDriverRoot": "run/nvidia"}, "nvidiaDriverRoot"),
    "no kubelet's directory": ({"kubelet": {"devicePluginsDir": ""}}, "devicePluginsDir"),
    "a typing error in resources": ({"resources": {"limit": {"memory": "1Gi"}}}, "limit"),
    "a typing error in a toleration": ({"tolerations": [{"key": "a", "opperator": "Exists"}]}, "opperator"),
    "a typing error in the affinity": ({"affinity": {"nodeAfinity": {}}}, "nodeAfinity"),
    "a typing error in the security context": ({"securityContext": {"priviledged": True}}, "priviledged"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "an update strategy": ({"updateStrategy": {"type": "Recreate"}}, "RollingUpdate"),
    "a config that is no text": ({"config": {"map": {"a": {"version": "v1"}}}}, "/config/map/a"),
    "a config that is no yaml": ({"config": {"map": {"a": "version: [v1"}}}, "config.map.a is no config file"),
    "a fallback": ({"config": {"fallbackStrategies": ["nameless"]}}, "fallbackStrategies"),
    "name and map": ({"config": {"name": "x", "map": {"a": "version: v1"}}}, "Only one of config.name"),
    "a default that is not there": ({"config": {"default": "c", "map": {"a": "version: v1"}}}, "the ConfigMap has: a"),
    "no default": ({"config": {"map": {"a": "version: v1", "b": "version: v1"}}}, "set config.default to one of the keys (a, b)"),
    "no image": ({"image": {"repository": ""}}, "repository"),
    "NVIDIA's image": ({"image": {"repository": "nvcr.io/nvidia/k8s-device-plugin"}}, "which is NVIDIA's plugin"),
    "a variable twice": ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "A is there twice"),
    "a variable without a name": ({"extraEnv": [{"value": "1"}]}, "name"),
    "a number for a variable": ({"extraEnv": [{"name": "A", "value": 1}]}, "extraEnv"),
    "a monitor without a port": ({"http": {"enabled": False}, "podMonitor": {"enabled": True}}, "http.enabled is false"),
    "a probe": ({"livenessProbe": {"period": 5}}, "period"),
    "a group without its object": ({"mps": None}, "mps"),
    "a label on request that is none": ({"nodeAgent": {"extraLabels": ["health"]}}, "extraLabels"),
    "labels in a file": ({"nodeAgent": {"labels": "file"}}, "labels"),
    "the user root": ({"nodeAgent": {"user": 0}}, "user"),
    "a label that is none": ({"nodeAgent": {"configLabel": "a/b/c"}}, "configLabel"),
    "a label and nothing to choose": ({"nodeAgent": {"configByLabel": True}}, "there is nothing to choose from"),
    "rights for the default account": (
        {"nodeAgent": {"events": True}, "serviceAccount": {"create": False}},
        "given to a ServiceAccount of its own",
    ),
}

# Mistakes in the chart itself: a file, what it says and what the mistake makes of it.
PLANTED = {
    "a field that is none": ("daemonset.yaml", "hostPath:\n            path: {{ .Values.kubelet", "hostPaht:\n            path: {{ .Values.kubelet"),
    "a text for a boolean": ("_helpers.tpl", "privileged: true\n", 'privileged: "true"\n'),
    "a number for a variable": ("_helpers.tpl", '(list "PASS_DEVICE_SPECS" "true")', '(list "PASS_DEVICE_SPECS" 1)'),
    "a selector that selects nothing": ("daemonset.yaml", "      labels:\n        {{- include \"gpu-device-plugin.selectorLabels\" . | nindent 8 }}", "      labels: {}"),
    "a mount without its volume": ("daemonset.yaml", "        - name: dev\n          hostPath:", "        - name: dve\n          hostPath:"),
    "a template that does not end": ("daemonset.yaml", "{{- end }}\n", ""),
    "a value that is not there": ("daemonset.yaml", ".Values.state.hostPath }}\n          hostPath", ".Values.status.hostPath }}\n          hostPath"),
    "an api that is not there": ("networkpolicy.yaml", "networking.k8s.io/v1", "networking.k8s.io/v9"),
    "a monitor of no port": ("monitoring.yaml", "- port: http\n", "- port: metrics\n"),
    "an scc that does not admit the pod": ("openshift.yaml", 'allowedCapabilities: ["SYS_ADMIN"]', "allowedCapabilities: []"),
    "an scc without a seccomp profile": ("openshift.yaml", 'seccompProfiles: ["runtime/default"]', "seccompProfiles: []"),
    "an scc with a field that is none": ("openshift.yaml", "allowHostPID: false", "allowHostPid: false"),
    "a token for the plugin": ("daemonset.yaml", "            - name: state\n", "            - name: api-token\n              mountPath: /token\n            - name: state\n"),
    "an agent with capabilities": ("_agent.tpl", '      drop: ["ALL"]', '      drop: ["KILL"]'),
    "a right too many": ("_agent.tpl", '(list "") "resources" (list "nodes") "verbs" $verbs', '(list "") "resources" (list "nodes") "verbs" (append $verbs "delete")'),
    "a policy that is none": ("agent-policy.yaml", "validationActions", "validationAction"),
    "all capabilities kept": ("_helpers.tpl", '  drop: ["ALL"]', '  drop: ["KILL"]'),
}
