"""What is reserved on a GPU node, in the forms of different systems, and the arithmetic of docs/reservations.md."""

import email
import re
import shlex
import tomllib
from pathlib import Path

import yaml

from published import KUBELET_FLAGS, SIGNALS, quantity

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "reservations.md"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
MANIFEST = ROOT / "manifests" / "gpu-device-plugin.yaml"
VALUES = ROOT / "manifests" / "helm" / "gpu-device-plugin" / "values.yaml"
MEBI = 2**20
# The node that the examples are for: CPUs, memory in GiB, pods.
NODE = (192, 2048, 110)
# What nodeadm reserves for the kubelet and the container runtime: of the memory 255 MiB and 11 MiB a pod, of the CPUs 6 %
# of the first, 1 % of the second, 0.5 % of the next two and 0.25 % of the others (awslabs/amazon-eks-ami,
# nodeadm/internal/kubelet/config.go, getCPUMillicoresToReserve and GetMemoryMebibytesToReserve).
SHARES = [(1, 60), (1, 10), (2, 5), (None, 2.5)]


def kube_reserved(cpus, pods):
    """Millicores and MiB."""
    left, millicores = cpus, 0
    for count, share in SHARES:
        here = left if count is None else min(left, count)
        millicores += here * share
        left -= here
    return int(millicores), 255 + 11 * pods


def pairs(text):
    """Of `cpu=1,memory=2Gi` or `memory.available<2Gi` what belongs to what."""
    return dict(re.split("[=<]", part, maxsplit=1) for part in text.split(",") if part)


def of_flags(flags):
    """Reservations in a kubelet's flags, each without its hyphens; and those that it does not have."""
    named = dict(flag.lstrip("-").split("=", 1) for flag in flags)
    fields = {"kube-reserved": "kubeReserved", "system-reserved": "systemReserved", "eviction-hard": "evictionHard"}
    config = {field: pairs(named[flag]) for flag, field in fields.items() if flag in named}
    if "max-pods" in named:
        config["maxPods"] = int(named["max-pods"])
    return config, sorted(named.keys() - KUBELET_FLAGS)


def in_mime(text):
    """The NodeConfig in user data of several parts."""
    parts = [part for part in email.message_from_string(text).walk() if not part.is_multipart()]
    if [part.get_content_type() for part in parts] != ["application/node.eks.aws"]:
        raise ValueError("it has the parts %s" % [part.get_content_type() for part in parts])
    return yaml.safe_load(parts[0].get_payload())


def in_shell(text):
    """The words of the call of bootstrap.sh."""
    call = text[text.index("/etc/eks/bootstrap.sh") :].replace("\\\n", "")
    return shlex.split(call)


def in_toml(text):
    kubernetes = tomllib.loads(text)["settings"]["kubernetes"]
    names = {"kube-reserved": "kubeReserved", "system-reserved": "systemReserved", "eviction-hard": "evictionHard", "max-pods": "maxPods"}
    return {field: kubernetes[name] for name, field in names.items() if name in kubernetes}


def config_in(name, text):
    """The kubelet's configuration that a file of examples/reservations has, and flags that there are not."""
    if name.endswith(".toml"):
        return in_toml(text), []
    if name.endswith(".mime"):
        return in_mime(text)["spec"]["kubelet"]["config"], []
    if name.endswith(".sh"):
        words = in_shell(text)
        return of_flags(words[words.index("--kubelet-extra-args") + 1].split())
    for value in yaml.safe_load_all(text):
        if "kubelet-arg" in value:
            return of_flags(value["kubelet-arg"])
        spec = value.get("spec", value)
        for config in (spec.get("kubeletConfig"), spec.get("kubelet", {}).get("config", spec.get("kubelet"))):
            if config:
                return config, []
        if value.get("kind") == "KubeletConfiguration":
            return value, []
    return None, []


def reserved(config, resource):
    """For kubelet and system together."""
    both = (config.get(field, {}).get(resource, "0") for field in ("kubeReserved", "systemReserved"))
    return sum(quantity(value) for value in both)


def mistakes(name, text, model):
    """Where a file reserves something else than the first one, kubelet.yaml, for the same node."""
    config, unknown = config_in(name, text)
    yield from ("the kubelet has no flag --%s" % flag for flag in unknown)
    if config is None:
        return
    of_nodeadm = "kubeReserved" not in config and name.endswith(".mime")
    for resource in ("cpu", "memory", "ephemeral-storage"):
        ours, theirs = reserved(config, resource), reserved(model, resource)
        if of_nodeadm:
            theirs = quantity(model["systemReserved"][resource])
        if abs(ours - theirs) > 1e-9:
            yield "%s: %s are reserved, and by kubelet.yaml %s" % (resource, ours, theirs)
    for signal, value in config.get("evictionHard", {}).items():
        if signal not in SIGNALS or model["evictionHard"].get(signal) != value:
            yield "evictionHard: %s is %s, and by kubelet.yaml %s" % (signal, value, model["evictionHard"].get(signal))
    if not {"memory.available", "nodefs.available", "nodefs.inodesFree"} <= config.get("evictionHard", {}).keys():
        yield "evictionHard replaces the kubelet's defaults, and leaves out one of them"
    if not of_nodeadm and config.get("maxPods") != model["maxPods"]:
        yield "maxPods is %s, and by kubelet.yaml %s" % (config.get("maxPods"), model["maxPods"])


def formula(model):
    """Whether kubelet.yaml reserves for kubelet and runtime what the formula says."""
    millicores, mebibytes = kube_reserved(NODE[0], NODE[2])
    stated = model["kubeReserved"]
    if stated["cpu"] != "%dm" % millicores or stated["memory"] != "%dMi" % mebibytes or model["maxPods"] != NODE[2]:
        yield "kubeReserved is %s, and by the formula %dm and %dMi" % (stated, millicores, mebibytes)


def footprint():
    """The memory as measured, in MB: the plugin's resident on a simulated node with few devices, in another build with
    few and with 2,048, and on a real GPU; the agent's."""
    text = BENCHMARKS.read_text()
    few = re.search(r"Memory, fresh: resident, anonymous \| ([\d.]+) MB", text).group(1)
    row = r"Memory, fresh: resident, anonymous \| ([\d.]+) MB,.*\| ([\d.]+) MB, [\d.]+ MB \|$"
    other, many = re.search(row, text.partition("## Many devices")[2], re.MULTILINE).groups()
    real = re.search(r"the plugin has (\d+) MB resident", text).group(1)
    agent = re.search(r"Memory: resident, anonymous \| ([\d.]+) MB", text.partition("## The node agent")[2]).group(1)
    return [float(figure) for figure in (few, other, many, real, agent)]


def idle():
    """The most processor time of the idle plugin, in microseconds a second, as measured."""
    return float(re.search(r"^\| Idle: wake-ups, processor time \| [^|]* a second, (?:[\d.]+ to )?([\d.]+) us a second \|", BENCHMARKS.read_text(), re.MULTILINE).group(1))


def requests():
    """What is requested for the plugin by the manifest and for the agent by the chart, as (CPU, MiB, limit in MiB)."""
    daemonset = next(yaml.safe_load_all(MANIFEST.read_text()))
    plugin = daemonset["spec"]["template"]["spec"]["containers"][0]["resources"]
    agent = yaml.safe_load(VALUES.read_text())["nodeAgent"]["resources"]
    return [(of["requests"]["cpu"], *(int(quantity(of[which]["memory"]) / MEBI) for which in ("requests", "limits"))) for of in (plugin, agent)]


def shares(row):
    """What the requests are of what is allocatable, in percent: CPUs and memory, of the plugin and with the agent."""
    cpu, memory = quantity(row[8]), quantity(row[9]) / MEBI
    (plugin_cpu, plugin, _), (agent_cpu, agent, _) = requests()
    both = quantity(plugin_cpu) + quantity(agent_cpu)
    return tuple("%.1f" % (100 * part) for part in (quantity(plugin_cpu) / cpu, plugin / memory, both / cpu, (plugin + agent) / memory))


def document(model, text=None):
    """Where docs/reservations.md does not say what the arithmetic gives."""
    text = DOCUMENT.read_text() if text is None else text
    rows = re.findall(r"^\| (\d+) CPUs, (\d+) GiB, (\d+) pods \| (\S+), (\S+) \| (\S+), (\S+) \| (\S+) \| (\S+), (\S+) \|$", text, re.MULTILINE)
    if not any(tuple(map(int, row[:3])) == NODE for row in rows) or len(rows) < 3:
        yield "the table has not the examples' node, or fewer than three: %s" % rows
    for row in rows:
        cpus, gibibytes, pods = map(int, row[:3])
        millicores, mebibytes = kube_reserved(cpus, pods)
        if row[3:5] != ("%dm" % millicores, "%dMi" % mebibytes):
            yield "%s: kubeReserved is %dm, %dMi" % (row[:3], millicores, mebibytes)
        system_cpu, system_memory, eviction = quantity(row[5]), quantity(row[6]), quantity(row[7])
        left_cpu = round((cpus - millicores / 1000 - system_cpu) * 1000)
        left_memory = int(gibibytes * 1024 - mebibytes - (system_memory + eviction) / MEBI)
        if row[8:] != ("%dm" % left_cpu, "%dMi" % left_memory):
            yield "%s: allocatable is %dm, %dMi" % (row[:3], left_cpu, left_memory)
        if (cpus, gibibytes, pods) == NODE:
            stated = (model["systemReserved"]["cpu"], model["systemReserved"]["memory"], model["evictionHard"]["memory.available"])
            if row[5:8] != stated:
                yield "%s: kubelet.yaml has %s" % (row[:3], stated)
    few, other, many, real, agent = footprint()
    (cpu, request, limit), (agent_cpu, agent_request, agent_limit) = requests()
    for stated in (
        "%g MB resident" % few,
        "had %g MB there, had %g MB with" % (other, many),
        "%g MB with" % real,
        "The agent has %g MB" % agent,
        "`%s` and `%dMi`, and may have `%dMi`" % (cpu, request, limit),
        "requests `%s` and `%dMi` more, and may have `%dMi`" % (agent_cpu, agent_request, agent_limit),
        "the plugin's requests are %s %% of the CPUs and %s %% of the memory, with the agent %s %% and %s %%" % shares(rows[0]),
    ):
        # A line may end anywhere in it.
        if stated not in " ".join(text.split()):
            yield "it does not say %s" % stated
    idle_share = float(re.search(r"Idle the plugin uses less than ([\d.]+) % of one core", " ".join(text.split())).group(1))
    if not idle() / 1e4 < idle_share <= 10 * idle() / 1e4:
        yield "%g us a second idle are not less than %g %%, or much less" % (idle(), idle_share)
    # The request covers what was measured on a real GPU, and the limit twice that.
    if request * MEBI < real * 1e6 or limit * MEBI < 2 * real * 1e6 or request * MEBI < many * 1e6:
        yield "the manifest requests %d MiB and allows %d, and %g MB were measured" % (request, limit, real)
    if agent_request * MEBI < agent * 1e6:
        yield "the chart requests %d MiB for the agent, and %g MB were measured" % (agent_request, agent)
