"""What happens on a node, as a Prometheus sees it: the real plugin's metrics before, during and after it.

Each scenario runs the plugin on a simulated node and returns phases, one after the other, each with what /metrics said
and for how many minutes. Where a simulated node cannot do what is to be seen, as time, a phase says how it changes what
was said."""

import dataclasses
import re
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from simulated import Node, until

QUICK = "version: v1\nhealth: {pollInterval: 500ms, callDeadline: 1s, missedCalls: 1, suspicion: 500ms, relapses: 100}\n"
JOB = "gpu-device-plugin"
# As podmonitor.yaml and servicemonitor.yaml label a node.
LABELS = {"job": JOB, "node": "a", "instance": "a"}


@dataclasses.dataclass
class Phase:
    """What /metrics says for so many minutes; nothing: it cannot be scraped."""

    text: str
    minutes: int
    labels: dict = dataclasses.field(default_factory=lambda: dict(LABELS))
    # By a metric's name: its value at each minute of the phase, from the one that was said.
    change: dict = dataclasses.field(default_factory=dict)
    # Whether there is a target at all.
    target: bool = True


@dataclasses.dataclass
class Scenario:
    """Phases, in the second of which something is wrong, and the alerts that have to fire for it."""

    run: callable
    alerts: tuple
    # How many minutes after the time that the alerts wait they are looked at.
    slack: int = 1


def metrics(node):
    return node.get("/metrics")[1]


def showing(node, *parts):
    """The metrics, once a line has all of these parts."""

    def look():
        text = metrics(node)
        return text if any(all(part in line for part in parts) for line in text.splitlines()) else None

    return until("a metric with %s" % " and ".join(parts), look)


def without_problems(node):
    """The metrics, once no GPU has a problem and the driver has none."""

    def look():
        text = metrics(node)
        return None if "problem_since" in text else text

    return until("no problem", look)


def problem(node, reason):
    return showing(node, "problem_since", 'reason="%s"' % reason)


def registered(node):
    return showing(node, "kubelet_registered{", "} 1")


def held(node, count):
    """A pod that holds devices."""
    node.command("allocate %d" % count)
    node.said(r"(pod-0 is admitted)")
    until("the pod is known", lambda: "gpu_device_plugin_allocated_devices{" in metrics(node))


def configured(args, *flags, config=QUICK, profile="h100x8"):
    """A simulated node whose plugin has a config file, which the test may rewrite: `node.config`."""
    folder = tempfile.TemporaryDirectory(prefix="alerts", dir="/tmp")
    file = Path(folder.name) / "config.yaml"
    file.write_text(config)
    node = Node(args, "--config-file", file, *flags, profile=profile)
    node.config, node.folder = file, folder
    return node


def on(*flags, profile="h100x8", config=QUICK, before=None, during=None, after=None, minutes=(10, 30, 20)):
    """A scenario of three steps on one node, each of which returns what /metrics says then."""

    def run(args):
        with configured(args, *flags, config=config, profile=profile) as node:
            registered(node)
            phases = [Phase((before or metrics)(node), minutes[0]), Phase(during(node), minutes[1])]
            if after:
                phases.append(Phase(after(node), minutes[2]))
        return phases

    return run


def with_pods(node):
    held(node, 2)
    return metrics(node)


def xid(gpu, number, reason="xid"):
    def happens(node):
        node.command("xid %d %d" % (gpu, number))
        return problem(node, reason)

    return happens


def restored(*gpus):
    """GPUs are as new: lost ones need a new initialisation, which the plugin does by itself when it is asked twice."""

    def happens(node):
        for gpu in gpus:
            node.command("restore %d" % gpu)
        return without_problems(node)

    return happens


def edited(change, *parts):
    def happens(node):
        node.edit(change)
        return showing(node, *parts)

    return happens


def each_gpu(**fields):
    return lambda state: [gpu.update(fields) for gpu in state["gpus"]]


def one_gpu(index, **fields):
    return lambda state: state["gpus"][index].update(fields)


def well(change):
    """The state is changed back, and no problem is left."""

    def happens(node):
        node.edit(change)
        return without_problems(node)

    return happens


def quarantined(node):
    """Every GPU, each by its own file."""
    folder = node.root / "quarantine"
    for gpu in node.status()["gpus"]:
        (folder / gpu["uuid"]).write_text("dcgm: memory test failed\n")
    until("all are Unhealthy", lambda: not any(gpu["healthy"] for gpu in node.status()["gpus"]))
    return metrics(node)


def flapping(args):
    """A GPU fails and recovers four times, two minutes each time."""
    with configured(args) as node:
        registered(node)
        phases = [Phase(metrics(node), 10)]
        for _ in range(4):
            node.edit(one_gpu(3, recovery_action=1))
            phases.append(Phase(problem(node, "recovery_action"), 1))
            node.edit(one_gpu(3, recovery_action=0))
            node.until_healthy(3, True)
            phases.append(Phase(metrics(node), 2))
        phases[-1].minutes = 60
    return phases


def relapsing(args):
    """A GPU fails and recovers until the plugin keeps it Unhealthy."""
    with configured(args, config=QUICK.replace("relapses: 100", "relapses: 3")) as node:
        registered(node)
        phases = [Phase(metrics(node), 10)]
        for _ in range(3):
            node.edit(one_gpu(3, recovery_action=1))
            phases.append(Phase(problem(node, "recovery_action"), 1))
            node.edit(one_gpu(3, recovery_action=0))
            node.until_healthy(3, True)
            phases.append(Phase(metrics(node), 2))
        node.edit(one_gpu(3, recovery_action=1))
        phases.append(Phase(problem(node, "relapses"), 30))
    return phases


def degraded_and_failed(node):
    """A GPU with a contained error and a row that waits, for which the driver asks for a reset then."""
    node.command("xid 5 94")
    problem(node, "contained_error")
    node.edit(one_gpu(5, remapped_rows={"pending": True}, recovery_action=1))
    showing(node, "row_remap_pending{", "} 1")
    return problem(node, "recovery_action")


def missing(node):
    """A GPU that NVML no longer lists after the driver was loaded again."""
    node.edit(lambda state: (one_gpu(7, present=False)(state), state["driver"].update(loaded=False)))
    showing(node, "nvml_up 0")
    node.edit(lambda state: state["driver"].update(loaded=True))
    showing(node, "nvml_up 1")
    until("the others are back", lambda: [gpu["healthy"] for gpu in node.status()["gpus"]].count(False) == 1)
    return problem(node, "not_enumerated")


def failing_calls(run):
    """The same, with calls of NVML that fail all the time."""

    def again(args):
        phases = run(args)
        growing = {"gpu_device_plugin_nvml_errors_total": lambda value, minute, _: value + 6 * minute}
        assert "nvml_errors_total{" in phases[1].text, phases[1].text
        phases[1].change = growing
        return phases

    return again


def driver_gone_in_trouble(args):
    """The driver is unloaded on a node with a degraded GPU and one too few, while a call does not return."""
    with configured(args, "--expected-gpus", "9") as node:
        before = registered(node)
        node.command("xid 5 94")
        problem(node, "contained_error")
        node.edit(lambda state: state["driver"].update(loaded=False))
        during = showing(node, "nvml_up 0")
    assert 'effect="degraded"' in during, during
    return [Phase(before, 10), Phase(during.replace("unanswered_calls 0", "unanswered_calls 1"), 40)]


def hanging_from_the_start(args):
    """As that, on a node whose plugin has no devices yet."""
    phases = driver_gone_in_trouble(args)
    lines = phases[1].text.splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("gpu_device_plugin_device_healthy{"))
    return [Phase("", 0), Phase(text, 40)]


def reloaded(node):
    node.config.write_text(QUICK + "sharing: yes\n")
    return showing(node, "config_last_reload_successful 0")


def corrected(node):
    node.config.write_text(QUICK + "# corrected\n")
    return showing(node, "config_last_reload_successful 1")


def refused(args):
    """The kubelet asks for a device that there is not, which takes a kubelet with ideas of its own."""
    with configured(args) as node:
        before = registered(node)
        text = metrics(node)
    one = text.replace('allocations_total{resource="nvidia.com/gpu",result="refused"} 0',
                       'allocations_total{resource="nvidia.com/gpu",result="refused"} 1')
    assert one != text, "refused allocations are not counted from the start"
    return [Phase(before, 20), Phase(one, 40)]


def slow(args):
    """A time that no simulated node takes: two of three calls are longer than a second."""
    with configured(args) as node:
        registered(node)
        held(node, 1)
        text = metrics(node)

    def bucket(value, minute, labels):
        fast = 'le="+Inf"' not in labels and 'method="Allocate"' in labels and float(_bound(labels)) <= 1
        return 10 * minute if fast else 30 * minute

    return [Phase(text, 10), Phase(text, 30, change={"gpu_device_plugin_rpc_duration_seconds_bucket": bucket})]


def _bound(labels):
    return labels.partition('le="')[2].partition('"')[0]


def errors(args, *flags):
    """A call that says nothing of the health of a GPU fails at each enumeration, for an hour."""
    with configured(args, *flags) as node:
        before = registered(node)
        node.edit(one_gpu(2, rules=[{"call": "nvmlDeviceGetName", "answer": 999}]))
        text = showing(node, "nvml_errors_total{", "nvmlDeviceGetName")
        text = showing(node, 'findings{kind="facts_missing"} 1')
        assert "problem_since" not in text, text
    growing = {"gpu_device_plugin_nvml_errors_total": lambda value, minute, _: value + 6 * minute}
    return [Phase(before, 10), Phase(text, 60, change=growing)]


def down(args):
    with configured(args) as node:
        text = registered(node)
    return [Phase(text, 10), Phase("", 20), Phase(text, 20)]


def absent(args):
    with configured(args) as node:
        text = registered(node)
    return [Phase(text, 10), Phase("", 40, target=False), Phase(text, 20)]


def unlisted(args):
    """The bus has a GPU that NVML did not list when the plugin started."""
    with configured(args) as node:
        text = registered(node)
    more = text.replace('gpus{stage="bus"} 8', 'gpus{stage="bus"} 9')
    assert more != text, "the bus is not counted"
    return [Phase(text, 10), Phase(more, 30), Phase(text, 20)]


def other_job(run):
    """The same node, found by the annotations of its pod."""

    def again(args):
        phases = run(args)
        for phase in phases:
            phase.labels = {"job": "kubernetes-pods", "instance": "10.0.0.1:19400"}
        return phases

    return again


def restarting(args):
    """The same process begins again and again, nine minutes after the other."""
    with configured(args) as node:
        text = registered(node)
    begun = {"process_start_time_seconds": lambda value, minute, _: value + 540 * (minute // 9)}
    return [Phase(text, 10), Phase(text, 50, change=begun)]


def without_kubelet(args):
    """The kubelet is away for long, which a simulated one is for a moment."""
    with configured(args, "--mig-strategy", "mixed", profile="h100x8_mig_mixed") as node:
        text = registered(node)
    gone = text.replace('kubelet_registered{resource="nvidia.com/gpu"} 1', 'kubelet_registered{resource="nvidia.com/gpu"} 0')
    lines = [line[:-1] + "0" if line.startswith("gpu_device_plugin_kubelet_registered{") else line for line in text.splitlines()]
    assert gone != text
    return [Phase(text, 10), Phase("\n".join(lines) + "\n", 20), Phase(text, 20)]


def second_plugin(node):
    """Somebody listens at the socket of NVIDIA's plugin."""
    node.other = socket.socket(socket.AF_UNIX)
    node.other.bind(str(node.root / "kubelet" / "nvidia-gpu.sock"))
    node.other.listen()
    return showing(node, 'findings{kind="other_plugin"} 1')


def its_end(node):
    node.other.close()
    (node.root / "kubelet" / "nvidia-gpu.sock").unlink()
    return showing(node, 'findings{kind="other_plugin"} 0')


def renamed(pods, withheld):
    """Pods hold so many GPUs, and sharing is switched on under another name: so many of its ids wait for them."""

    def run(args):
        with configured(args) as node:
            registered(node)
            held(node, pods)
            before = metrics(node)
            shared = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n"
            node.config.write_text(QUICK + shared)
            showing(node, 'kubelet_registered{resource="nvidia.com/gpu.shared"} 1')
            during = showing(node, 'devices{resource="nvidia.com/gpu.shared",health="unhealthy"} %d' % withheld)
        return [Phase(before, 10), Phase(during, 60)]

    return run


def mps_alone(args):
    """The only GPU is shared by MPS without a daemon."""
    config = QUICK + "sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n"
    with configured(args, "--mps-root", "/run/nvidia/mps", config=config, profile="h200x1") as node:
        during = showing(node, 'reason="awaits_mps"')
    return [Phase("", 5, target=False), Phase(during, 30)]


def mps(args):
    """Two resources, of which one is shared by MPS without a daemon."""
    config = QUICK + "flags: {plugin: {customResources: true}}\n"
    config += 'resources: {gpus: [{pattern: "*A100*", name: nvidia.com/a100}]}\n'
    config += "sharing: {mps: {resources: [{name: nvidia.com/a100, replicas: 4}]}}\n"
    with configured(args, "--mps-root", "/run/nvidia/mps", config=config, profile="mixed_models") as node:
        during = showing(node, 'reason="awaits_mps"')
    return [Phase("", 5, target=False), Phase(during, 30)]


def without_gpus(args):
    """A node that never had a GPU, whose plugin may wait for a driver. simnode's nodes have GPUs."""
    with tempfile.TemporaryDirectory(prefix="alerts", dir="/tmp") as folder:
        folder = Path(folder)
        (folder / "sys/bus/pci/devices").mkdir(parents=True)
        flags = {"sysfs-root": folder / "sys", "nvml-library": folder / "none", "kubelet-socket": folder / "kubelet.sock",
                 "state-dir": folder / "state", "quarantine-dir": "", "pod-resources-socket": "",
                 "http-address": "127.0.0.1:0", "fail-on-init-error": "false"}
        command = [args.plugin, *("--%s=%s" % flag for flag in flags.items())]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as plugin:
            try:
                address = next(found.group(1) for found in (re.search(r"over HTTP.*address=(\S+)", line) for line in plugin.stderr) if found)

                def look():
                    with urllib.request.urlopen("http://%s/metrics" % address) as answer:
                        text = answer.read().decode()
                    return text if "plugin_ready 1" in text and "problem_since" in text else None

                text = until("the plugin is ready without NVML", look)
            finally:
                plugin.terminate()
    assert 'gpus{stage="bus"} 0' in text and "nvml_up 0" in text, text
    return [Phase(text, 60)]


def released(args):
    """NVML is released for the reset of a GPU, for longer than an alert waits."""
    with configured(args) as node:
        before = registered(node)
        program = [node.program, "release", "--for", "1h", "--state-dir", node.root / "state"]
        subprocess.run(program, check=True, capture_output=True)
        during = showing(node, "nvml_up 0")
    return [Phase(before, 10), Phase(during, 60), Phase(before, 10)]


def quiet_day(args):
    """A day without trouble: pods, an application that fails, a kubelet that restarts, a change of the configuration,
    a driver that is upgraded, MIG devices that are made, a GPU that is reset."""
    phases = []
    with configured(args, "--mig-strategy", "mixed") as node:
        phases.append(Phase(registered(node), 120))
        held(node, 2)
        phases.append(Phase(metrics(node), 120))
        node.command("xid 1 13")
        phases.append(Phase(showing(node, 'xid="13"'), 60))
        node.command("restart-kubelet")
        node.said(r"(registered again)")
        phases.append(Phase(registered(node), 120))
        node.config.write_text(QUICK + "flags: {plugin: {passDeviceSpecs: true}}\n")
        phases.append(Phase(showing(node, 'config_reloads_total{result="applied"} 1'), 120))
        node.edit(lambda state: state["driver"].update(loaded=False))
        phases.append(Phase(showing(node, "nvml_up 0"), 3))
        node.edit(lambda state: state["driver"].update(loaded=True))
        showing(node, "nvml_up 1")
        phases.append(Phase(without_problems(node), 120))
        node.edit(one_gpu(4, mig={"enabled": True, "devices": []}))
        phases.append(Phase(showing(node, 'findings{kind="no_mig_devices"} 1'), 8))
        node.edit(one_gpu(4, mig={"enabled": False, "devices": []}))
        phases.append(Phase(showing(node, 'findings{kind="no_mig_devices"} 0'), 120))
    # An upgrade of the plugin: a moment without it, and counters from 0.
    phases.append(Phase("", 2))
    with configured(args) as node:
        phases.append(Phase(registered(node), 600))
    return phases


XID_79 = on(before=with_pods, during=xid(1, 79), minutes=(10, 30, 0))

SCENARIOS = {
    "a quiet day": Scenario(quiet_day, ()),
    "a node without GPUs": Scenario(without_gpus, ()),
    "NVML is released for an hour": Scenario(released, ()),
    "sharing is renamed under running pods": Scenario(renamed(2, 8), ()),
    "sharing is renamed under pods that hold every GPU": Scenario(renamed(8, 32), ()),
    "a GPU falls off the bus": Scenario(XID_79, ("GpuUnhealthy",)),
    "a GPU falls off the bus, of another job": Scenario(other_job(XID_79), ("GpuUnhealthy",)),
    "a GPU fails that is cut into seven MIG devices": Scenario(
        on("--mig-strategy", "single", profile="h100x8_mig_single", before=with_pods, during=xid(0, 48),
           after=restored(0)),
        ("GpuUnhealthy",),
    ),
    "the only GPU falls off the bus": Scenario(
        on(profile="h200x1", before=lambda node: (held(node, 1), metrics(node))[1], during=xid(0, 79)),
        ("GpuNodeWithoutHealthyGpu",),
    ),
    "the driver is gone": Scenario(
        on(before=with_pods, during=edited(lambda state: state["driver"].update(loaded=False), "nvml_up 0"),
           after=well(lambda state: state["driver"].update(loaded=True))),
        ("GpuNvmlDown",),
    ),
    "all GPUs are in quarantine": Scenario(
        on(during=quarantined), ("GpuNodeWithoutHealthyGpu",) + ("GpuUnhealthy",) * 8
    ),
    "the fabric manager is gone": Scenario(
        on(before=with_pods, during=edited(each_gpu(fabric={"state": 1}), "devices{", 'unhealthy"} 8'),
           after=well(each_gpu(fabric={"state": 3}))),
        ("GpuNodeWithoutHealthyGpu",) + ("GpuUnhealthy",) * 8,
    ),
    "a GPU relapses": Scenario(relapsing, ("GpuUnhealthy",), slack=15),
    "a GPU fails that was degraded": Scenario(
        on(during=degraded_and_failed, minutes=(10, 90, 0)), ("GpuUnhealthy",), slack=65
    ),
    # Whether a call fails while the driver is away is left to chance; it is not to count.
    "a GPU is missing": Scenario(
        on(config=QUICK.replace("missedCalls: 1", "missedCalls: 100"), during=missing), ("GpuUnhealthy",), slack=20
    ),
    "a GPU is lost, and calls about it fail": Scenario(
        failing_calls(on(during=lambda node: (node.command("lose 1"), problem(node, "lost"))[1], minutes=(10, 60, 0))),
        ("GpuUnhealthy",),
        slack=45,
    ),
    "a GPU fails on a node with a finding": Scenario(
        on(profile="h100x8_mig_mixed", during=xid(5, 79), minutes=(0, 60, 0)), ("GpuUnhealthy",), slack=40
    ),
    "the only GPU has no spare rows": Scenario(
        on(profile="h200x1", during=edited(one_gpu(0, remapped_rows={"failure": True}), "row_remap_failed{", "} 1")),
        ("GpuNodeWithoutHealthyGpu",),
    ),
    "a call about the only GPU hangs": Scenario(
        on(profile="h200x1",
           during=edited(one_gpu(0, rules=[{"call": "nvmlDeviceGetMemoryInfo", "hang": True}]),
                         "problem_since", "nvml_unresponsive")),
        ("GpuNodeWithoutHealthyGpu",),
        slack=10,
    ),
    "MPS does not answer about the only GPU": Scenario(mps_alone, ("GpuNodeWithoutHealthyGpu",), slack=10),
    "the driver is gone on a node in trouble": Scenario(driver_gone_in_trouble, ("GpuNvmlDown",), slack=20),
    "the driver hangs from the start": Scenario(hanging_from_the_start, ("GpuNvmlDown",), slack=10),
    "calls fail on a node with fewer GPUs than expected": Scenario(
        # The number is wrong from the start.
        lambda args: [Phase("", 0), *errors(args, "--expected-gpus", "9")[1:]], ("GpuCountsDiffer",), slack=30
    ),
    "a GPU flaps": Scenario(flapping, ("GpuFlapping",), slack=12),
    "a memory error is contained": Scenario(
        on(before=with_pods, during=xid(5, 94, "contained_error")), ("GpuDegraded",)
    ),
    "the fabric is slow": Scenario(
        on(during=edited(each_gpu(fabric={"state": 3, "health_mask": 1}), "problem_since", "fabric_bandwidth"),
           after=well(each_gpu(fabric={"state": 3}))),
        ("GpuDegraded",),
    ),
    "a row waits to be remapped": Scenario(
        on(before=with_pods, during=edited(one_gpu(0, remapped_rows={"pending": True}), "row_remap_pending{", "} 1"),
           after=well(one_gpu(0, remapped_rows={})), minutes=(10, 90, 20)),
        ("GpuRowRemapPending",),
    ),
    "a row could not be remapped": Scenario(
        on(before=with_pods, during=edited(one_gpu(0, remapped_rows={"failure": True}), "row_remap_failed{", "} 1")),
        ("GpuRowRemapFailed",),
    ),
    "a call hangs": Scenario(
        on(before=with_pods,
           during=edited(one_gpu(2, rules=[{"call": "nvmlDeviceGetMemoryInfo", "hang": True}]),
                         "problem_since", "nvml_unresponsive"),
           after=well(one_gpu(2, rules=[]))),
        ("GpuNvmlCallHangs",),
    ),
    "a call fails that says nothing of health": Scenario(errors, ("GpuNvmlErrors",), slack=3),
    "MPS does not answer": Scenario(mps, ("GpuMpsNotAnswering",)),
    "fewer GPUs than expected": Scenario(on("--expected-gpus", "9", during=metrics, minutes=(0, 30, 0)), ("GpuCountsDiffer",)),
    "a GPU on the bus that NVML does not list": Scenario(unlisted, ("GpuCountsDiffer",)),
    "a GPU without MIG devices": Scenario(
        on("--mig-strategy", "mixed", profile="h100x8_mig_mixed",
           during=edited(one_gpu(4, mig={"enabled": True, "devices": []}), 'findings{kind="no_mig_devices"} 1'),
           minutes=(10, 60, 0)),
        ("GpuCountsDiffer",),
        slack=30,
    ),
    "MIG mode that is not looked at": Scenario(
        on(profile="h100x8_mig_mixed", during=metrics, minutes=(0, 60, 0)), ("GpuLayoutFinding",)
    ),
    "another plugin serves the resource": Scenario(
        on(during=second_plugin, after=its_end, minutes=(10, 60, 20)), ("GpuOtherDevicePlugin",)
    ),
    "the kubelet is gone": Scenario(without_kubelet, ("GpuKubeletRegistrationLost",)),
    "an allocation is refused": Scenario(refused, ("GpuAllocationsFailing",)),
    "allocations are slow": Scenario(slow, ("GpuAllocationsSlow",), slack=5),
    "a configuration has mistakes": Scenario(on(during=reloaded, after=corrected), ("GpuConfigReloadRefused",)),
    "the plugin does not answer": Scenario(down, ("GpuDevicePluginDown",)),
    "the plugin does not answer, of another job": Scenario(other_job(down), ("GpuDevicePluginDown",)),
    "the plugin was removed": Scenario(absent, ("GpuDevicePluginAbsent",)),
    "the plugin keeps restarting": Scenario(restarting, ("GpuDevicePluginRestarting",), slack=45),
    "the plugin keeps restarting, of another job": Scenario(other_job(restarting), ("GpuDevicePluginRestarting",), slack=45),
}
