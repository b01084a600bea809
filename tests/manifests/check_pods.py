#!/usr/bin/env python3
"""Runs rendered pods on a simulated node: command, environment, files and mounts as rendered, until the plugin has
registered, its probes answer as they should, `check` says OK, and a container gets a GPU. Where it shares by MPS, the
pod of the MPS control daemons runs beside it, with the driver's programs played by fake-mps.

    python3 tests/manifests/check_pods.py --image DIRECTORY --config FILE --operator DIRECTORY

The directories are the files of the two images, without and with a shell, and FILE is their configuration, as
`buildah inspect --type image` prints it. It needs root, and a kernel that lets it make namespaces. The container is
made by pod.py, which says what it is not.
"""

import argparse
import contextlib
import io
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import yaml

import check_chart
import check_kustomize
import pod
from value_sets import CONFIG, MIG_CONFIG, MPS_CONFIG, container

sys.path.append(str(Path(__file__).resolve().parents[1] / "observe"))
import simulated  # noqa: E402
from simulated import until  # noqa: E402

HERE = Path(__file__).resolve().parent
KUBELET = "/var/lib/kubelet"
GPU = "nvidia.com/gpu"
# What a privileged container has: all that this process has.
ALL = int(re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text()).group(1), 16)
SYS_ADMIN = 1 << 21
MPS = {"config": {"map": {"default": MPS_CONFIG}}}
# Where fake-mps reads how it behaves, in each container that has the MPS root.
BEHAVIOUR = "/mps/.fake/behaviour.json"
PIPES = "env +CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe"


class Case:
    """A pod, where it runs, and what has to come of it."""

    def __init__(self, template, profile="h100x8", driver_root="/", kubelet=KUBELET, resource=GPU, count=8, caps=ALL, files=None, gets=r"env +NVIDIA_VISIBLE_DEVICES=\S+", config_maps=None, mps=None):
        self.pod, self.profile, self.driver_root, self.kubelet = template, profile, driver_root, kubelet
        self.resource, self.count, self.caps, self.gets = resource, count, caps, gets
        self.config_maps, self.files = config_maps or {}, files or {}
        # The pod of the MPS control daemons.
        self.mps = mps
        # What the doctor may warn of in the plugin's container.
        self.known = set()
        # What `helm test` runs on the node.
        self.test = None

    def mps_root(self):
        """The directory of the MPS control daemons on the node."""
        return next(volume for volume in self.mps["spec"]["volumes"] if volume["name"] == "mps-root")["hostPath"]["path"]


def chart(values, **more):
    """The pod of the chart with these values."""
    objects, _ = check_chart.render(check_chart.CHART, values)
    maps = {value["metadata"]["name"]: value["data"] for value in objects if value["kind"] == "ConfigMap"}
    case = Case(check_chart.daemonset(objects)["spec"]["template"], config_maps=maps, mps=of_mps(objects), **more)
    case.test = next((container(value) for value in objects if value["kind"] == "Pod"), None)
    return case


def overlay(kubectl, name, **more):
    objects = check_kustomize.build(kubectl, check_kustomize.MANIFESTS / "overlays" / name)
    maps = {value["metadata"]["name"]: value["data"] for value in objects if value["kind"] == "ConfigMap"}
    return Case(check_chart.daemonset(objects)["spec"]["template"], config_maps=maps, mps=of_mps(objects), **more)


def of_mps(objects):
    """The pod of the MPS control daemons, if there is one."""
    daemonsets = [value for value in objects if value["kind"] == "DaemonSet" and check_chart.is_mps(value)]
    return daemonsets[0]["spec"]["template"] if daemonsets else None


def operator():
    """The pod that the GPU Operator makes of ClusterPolicy.devicePlugin, without a config map."""
    daemonset, entrypoint, _ = yaml.safe_load_all((HERE / "operator.yaml").read_text())
    return Case(
        daemonset["spec"]["template"],
        config_maps={entrypoint["metadata"]["name"]: entrypoint["data"]},
        # What the validation of a driver's container leaves.
        files={"/run/nvidia/validations/driver-ready": "NVIDIA_DRIVER_ROOT=/run/nvidia/driver\nDRIVER_ROOT_CTR_PATH=/driver-root\n"},
        driver_root="/run/nvidia/driver",
        gets="/run/nvidia/driver/dev/nvidiactl",
    )


def operator_with_mps():
    """The same with a config map that shares by MPS, as the Operator's config-manager leaves it in the pod; and the pod of
    the control daemons."""
    case = operator()
    *_, daemons = yaml.safe_load_all((HERE / "operator.yaml").read_text())
    main = container(case.pod)
    main["env"].append({"name": "CONFIG_FILE", "value": "/config/config.yaml"})
    main["volumeMounts"].append({"name": "config", "mountPath": "/config"})
    case.pod["spec"]["volumes"].append({"name": "config", "configMap": {"name": "config"}})
    case.config_maps["config"] = {"config.yaml": MPS_CONFIG}
    case.mps, case.count, case.gets = daemons["spec"]["template"], 32, PIPES
    # The Operator mounts the MPS root without propagation, so that the plugin does not see what is mounted in it later.
    case.known = {"runtime.mps.shm"}
    return case


def cases(kubectl):
    """Value sets of the chart, and overlays."""
    plain = {"privileged": False, "runtimeClassName": "nvidia"}
    return {
        "defaults": chart({}),
        "least privilege": chart(plain, caps=0),
        "mig mixed": chart({"migStrategy": "mixed"}, profile="h100x8_mig_mixed", resource="nvidia.com/mig-1g.10gb", count=18),
        "least privilege, mig single": chart({**plain, "migStrategy": "single"}, profile="h100x8_mig_single", caps=SYS_ADMIN, count=56),
        "time-slicing": chart({"config": {"map": {"default": CONFIG}}}, count=80),
        "least privilege, time-slicing": chart({**plain, "config": {"map": {"a": CONFIG}}}, caps=0, count=80),
        "least privilege, mig for a label": chart({**plain, "config": {"map": {"a": CONFIG, "b": MIG_CONFIG}, "default": "a"}}, caps=SYS_ADMIN, count=80),
        "volume mounts by index": chart({"deviceListStrategy": "volume-mounts", "deviceIDStrategy": "index"}, gets="/var/run/nvidia-container-devices/0"),
        "the cpu manager": chart({"compatWithCPUManager": True}, gets="/dev/nvidiactl"),
        "a driver's container": chart({"nvidiaDriverRoot": "/run/nvidia/driver"}, driver_root="/run/nvidia/driver"),
        "least privilege, a driver's container": chart({**plain, "nvidiaDriverRoot": "/run/nvidia/driver"}, driver_root="/run/nvidia/driver", caps=0),
        "another kubelet's directory": chart({"kubelet": {"devicePluginsDir": "/k/device-plugins", "podResourcesDir": "/k/pod-resources"}, "quarantine": {"hostPath": "/srv/quarantine"}, "http": {"port": 9400}}, kubelet="/k"),
        "cdi": chart({"deviceListStrategy": "cdi-cri"}, gets=r"CDI +k8s\.device-plugin\.nvidia\.com/gpu=GPU-\S+"),
        "no state, no http": chart({"state": {"hostPath": ""}, "http": {"enabled": False}}),
        "overlay least-privilege": overlay(kubectl, "least-privilege", caps=0),
        "overlay node-agent": overlay(kubectl, "node-agent"),
        "overlay mig": overlay(kubectl, "mig", profile="h100x8_mig_mixed", resource="nvidia.com/mig-1g.10gb", count=18),
        "overlay time-slicing": overlay(kubectl, "time-slicing", count=32),
        "mps": chart(MPS, count=32, gets=PIPES),
        "mps, a driver's container": chart({**MPS, "nvidiaDriverRoot": "/run/nvidia/driver"}, driver_root="/run/nvidia/driver", count=32, gets=PIPES),
        "least privilege, mps in another root": chart({**plain, **MPS, "mps": {"root": "/run/mps"}}, caps=0, count=32, gets=PIPES),
        "overlay mps": overlay(kubectl, "mps", count=32, gets=PIPES),
    }


def with_propagation(template, value):
    """A pod whose containers mount the MPS root with this propagation."""
    containers = template["spec"].get("initContainers", []) + template["spec"]["containers"]
    for mount in (mount for each in containers for mount in each["volumeMounts"] if mount["name"] == "mps-root"):
        mount["mountPropagation"] = value


def planted():
    """Pods that must not be found right: each with the case that it claims to be."""
    plain = {"privileged": False, "runtimeClassName": "nvidia"}
    kept, hidden = chart(MPS, count=32, gets=PIPES), chart(MPS, count=32, gets=PIPES)
    with_propagation(kept.mps, "None")
    with_propagation(hidden.pod, "None")
    return {
        "shared memory that stays in its container": kept,
        "shared memory that the plugin does not see": hidden,
        "one that keeps its capabilities": chart({**plain, "securityContext": {"allowPrivilegeEscalation": False}}, caps=0),
        "one without a driver": chart({"privileged": False}, caps=0),
        "one with a directory that is not there": chart({"kubelet": {"devicePluginsDir": "/nowhere"}}),
        "one with fewer capabilities than it should have": chart({**plain, "securityContext": {"capabilities": {"drop": ["ALL"]}}}, caps=SYS_ADMIN),
    }


class Running(simulated.Node):
    """simnode with the pod in place of the plugin."""

    def __init__(self, args, case, image, scratch):
        self.case, self.report = case, scratch / "report.json"
        (scratch / "scratch").mkdir()
        spec = {
            "pod": case.pod,
            "image": str(image),
            "image_env": args.image_env,
            "entrypoint": args.entrypoint,
            "seccomp": str(args.seccomp),
            "scratch": str(scratch / "scratch"),
            "report": str(self.report),
            "driver_root": case.driver_root,
            "node_paths": {case.kubelet + "/device-plugins": "kubelet", case.kubelet + "/pod-resources": "pod-resources"},
            "node_files": case.files,
            "config_maps": case.config_maps,
            "nvidia_runtime": case.pod["spec"].get("runtimeClassName") == "nvidia",
            "mps_program": None,
        }
        if case.mps:
            spec["mps_program"], spec["mps_behaviour"] = str(args.mps_program), case.mps_root() + BEHAVIOUR.removeprefix("/mps")
            spec["image_env"] = {**args.image_env, "FAKE_MPS": BEHAVIOUR}
        self.spec = spec
        file = scratch / "spec.json"
        file.write_text(json.dumps(spec))
        command = [args.simnode, "--interactive", "--verbose", "--profile", case.profile, "--plugin", HERE / "pod.py", "--nvml-library", args.nvml_library, "--", file]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.fresh = [], queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        try:
            self.root = Path(self.said(r"The node lives in (\S+)\. Commands"))
            value = json.loads(self.report.read_text())
            self.pid, self.env = value["pid"], value["env"]
        except BaseException:
            self.fail()
            raise
        return self

    def enter(self, *namespaces, command, env=None):
        enter = ["nsenter", "--target", str(self.pid), *namespaces, "--", *command]
        return subprocess.run(enter, env=env, capture_output=True, text=True, timeout=simulated.PATIENCE)

    def run(self, *command):
        """As `kubectl exec` in the container."""
        return self.enter("--mount", "--net", "--root", "--wd", command=command, env=self.env)

    def run_test(self, main):
        """As the pod of `helm test`: its command, environment and capabilities, where the plugin's files are."""
        places = [os.open("/proc/%d/%s" % (self.pid, name), os.O_RDONLY) for name in ("ns/mnt", "ns/net", "root")]

        def enter():
            for place in places[:2]:
                assert pod.LIBC.setns(place, 0) == 0
            os.fchdir(places[2])
            os.chroot(".")
            pod.drop(main["securityContext"])

        env = {"PATH": "/usr/bin", **{entry["name"]: entry["value"] for entry in main["env"]}}
        program = "/usr/bin/" + main["command"][0]
        try:
            return subprocess.run([program, *main["command"][1:]], env=env, preexec_fn=enter, capture_output=True, text=True, timeout=simulated.PATIENCE)
        finally:
            for place in places:
                os.close(place)

    def after(self, command, pattern):
        """What a command of simnode has printed that matches: a number, if it is one."""
        begin = len(self.lines)
        self.command(command)
        found = until("%s: %s" % (command, pattern), lambda: re.search(pattern, "\n".join(self.lines[begin:])))
        return int(found.group(1)) if found.group(1).isdigit() else found.group(1)

    def allocatable(self):
        return self.after("list", r"%s: (\d+) of \d+ allocatable" % re.escape(self.case.resource))

    def kernel(self, key):
        """A line of /proc/PID/status."""
        return re.search(r"^%s:\s*(\S+)" % key, Path("/proc/%d/status" % self.pid).read_text(), re.MULTILINE).group(1)

    def probe(self, path):
        """The code of a probe, asked from the pod's own network namespace."""
        port = container(self.case.pod)["ports"][0]["containerPort"]
        ask = "import urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:%d%s', timeout=30).status)" % (port, path)
        return self.enter("--net", command=[sys.executable, "-c", ask]).stdout.strip()


class ControlDaemons:
    """The pod of the MPS control daemons, on the node of a pod that runs."""

    def __init__(self, node):
        self.node, self.lines, self.running = node, [], None

    def __enter__(self):
        try:
            for each in self.node.case.mps["spec"]["initContainers"]:
                assert self.start(each).wait(timeout=simulated.PATIENCE) == 0, "\n".join(self.lines)
            self.running = self.start(container(self.node.case.mps))
        except BaseException:
            print("\n".join(self.lines))
            raise
        return self

    def __exit__(self, kind, *_):
        if self.running.poll() is None:
            self.running.kill()
            self.running.wait()
        if kind is not None:
            print("What the pod of the MPS control daemons said:\n" + "\n".join(self.lines))

    def start(self, each):
        """One of its containers, as root of the node would see it."""
        node, pod_of_mps = self.node, self.node.case.mps
        file = node.report.with_name(each["name"] + ".json")
        nvidia = pod_of_mps["spec"].get("runtimeClassName") == "nvidia"
        more = {"pod": pod_of_mps, "container": each["name"], "simulated": str(node.root), "nvidia_runtime": nvidia, "report": str(file) + ".report"}
        file.write_text(json.dumps({**node.spec, **more}))
        enter = ["nsenter", "--target", str(node.pid), "--mount", "--net", "--", sys.executable, HERE / "pod.py", "--beside", file]
        process = subprocess.Popen([str(word) for word in enter], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=lambda: self.lines.extend(line.rstrip() for line in process.stdout), daemon=True).start()
        return process

    def on_node(self, *command):
        return self.node.enter("--mount", command=command)

    def path(self, name):
        """A path below the MPS root, as it is on the node."""
        return self.node.spec["scratch"] + "/node" + self.node.case.mps_root() + "/" + name

    def trace(self):
        """What the driver's programs were told, but for what only asks."""
        lines = self.on_node("cat", self.path(".fake/trace")).stdout.splitlines()
        return [line for line in lines if " get_" not in line and "--query" not in line and line != "no daemon"]

    def stop(self):
        self.running.terminate()
        return self.running.wait(timeout=simulated.PATIENCE)


def of_daemons(node, daemons):
    """What did not come of the pod of the MPS control daemons, once the plugin's devices are Healthy."""
    gpus = [gpu["uuid"] for gpu in json.loads(node.run("gpu-device-plugin", "status", "-o", "json").stdout)["gpus"]]
    trace = daemons.trace()
    started = "start -f CUDA_VISIBLE_DEVICES=%s CUDA_DEVICE_ORDER=PCI_BUS_ID" % ",".join(gpus)
    told = ["nvidia-smi -i %s -c EXCLUSIVE_PROCESS" % gpu for gpu in gpus] + [started]
    if trace[: len(told)] != told or trace[-1] != "command set_default_active_thread_percentage 25" or len(trace) != 2 * len(gpus) + 2:
        yield "the driver's programs were told %s" % trace
    if daemons.on_node("mountpoint", daemons.path("shm")).returncode:
        yield "the shared memory of clients is not mounted on the node"
    said = json.loads(node.run("gpu-device-plugin", "doctor", "-o", "json").stdout)
    findings = [finding for finding in said["findings"] if finding["id"].startswith("runtime.mps") and finding["id"] not in node.case.known]
    if not findings or any(finding["level"] != "ok" for finding in findings):
        yield "the doctor says of MPS: %s" % findings
    code = daemons.stop()
    if code:
        yield "the supervisor ended with %d" % code
    restored = ["nvidia-smi -i %s -c DEFAULT" % gpu for gpu in gpus]
    undone = daemons.trace()[len(trace) :]
    if undone[:2] != ["command quit", "exit"] or sorted(undone[2:]) != sorted(restored):
        yield "at its end the driver's programs were told %s" % undone
    until("no device is Healthy", lambda: node.allocatable() == 0)


def process(node, main):
    """What the kernel says of the process."""
    caps = int(node.kernel("CapEff"), 16)
    if caps != node.case.caps:
        yield "its capabilities are %x, not %x" % (caps, node.case.caps)
    context = main.get("securityContext", {})
    if (node.kernel("NoNewPrivs") == "1") != (context.get("allowPrivilegeEscalation") is False):
        yield "no_new_privs is %s" % node.kernel("NoNewPrivs")
    profile = context.get("seccompProfile", {}).get("type") == "RuntimeDefault" and not context.get("privileged")
    if (node.kernel("Seccomp") == "2") != profile:
        yield "its seccomp mode is %s" % node.kernel("Seccomp")
    root = next(line.split() for line in Path("/proc/%d/mountinfo" % node.pid).read_text().splitlines() if " - overlay " in line)
    if ("ro" in root[5].split(",") or "ro" in root[-1].split(",")) != context.get("readOnlyRootFilesystem", False):
        yield "its root is mounted %s" % root


def answers(node, main):
    """What the plugin says where a person, a probe or Helm's test asks."""
    for command in (["check"], ["status", "-o", "json"]):
        said = node.run("gpu-device-plugin", *command)
        if said.returncode:
            yield "%s says %d %r %r" % (command, said.returncode, said.stdout[:200], said.stderr[-300:])
    if node.case.test:
        said = node.run_test(node.case.test)
        if said.returncode:
            yield "helm test says %d %r %r" % (said.returncode, said.stdout[:200], said.stderr[-300:])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in main:
            path = main[probe]["httpGet"]["path"]
            until("%s is answered with 200" % probe, lambda path=path: node.probe(path) == "200")


def kubelet(node):
    """What the kubelet has of the plugin, and a container gets."""
    case = node.case
    until("%s: %d" % (case.resource, case.count), lambda: node.allocatable() == case.count)
    # One of them, or the reason why not.
    got = node.after("allocate 1 %s" % case.resource, r"(%s|UnexpectedAdmissionError.*)" % case.gets)
    if got.startswith("Unexpected"):
        yield "a container gets nothing: %s" % got


def differences(node):
    """What did not come of the pod as it should."""
    main = container(node.case.pod)
    yield from process(node, main)
    with ControlDaemons(node) if node.case.mps else contextlib.nullcontext() as daemons:
        # With MPS nothing is Healthy before.
        yield from kubelet(node)
        yield from answers(node, main)
        if daemons:
            yield from of_daemons(node, daemons)


def run(args, name, case, image):
    with tempfile.TemporaryDirectory(prefix="pod") as scratch, Running(args, case, image, Path(scratch)) as node:
        found = ["%s: %s" % (name, what) for what in differences(node)]
    # It left as a plugin should: simnode has said so by its exit code.
    print("%-40s %s" % (name, "OK" if not found else "wrong"), flush=True)
    return found


def passes(args, case, image):
    """Whether a planted pod is found right; what it said is of no interest."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return not run(args, "planted", case, image)
        except AssertionError:
            return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--operator", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--mps-program", type=Path, default=simulated.ROOT / "target" / "debug" / "fake-mps")
    parser.add_argument("--seccomp", type=Path, default=Path("/usr/share/containers/seccomp.json"))
    parser.add_argument("--kubectl", type=Path, default=Path("kubectl"))
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()
    config = json.loads(args.config.read_text())["OCIv1"]["config"]
    args.image_env = dict(variable.split("=", 1) for variable in config["Env"])
    args.entrypoint = config["Entrypoint"]
    found = []
    for name, case in cases(args.kubectl).items():
        if not args.only or name in args.only:
            found += run(args, name, case, args.image)
    for name, case in planted().items():
        if not args.only and passes(args, case, args.image):
            found.append("%s passed" % name)
    if not args.only or "operator" in args.only:
        found += run(args, "the GPU Operator's", operator(), args.operator)
        found += run(args, "the GPU Operator's, mps", operator_with_mps(), args.operator)
    for what in found:
        print("pods: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("the rendered pods register, and containers get GPUs; %d broken ones do not pass" % len(planted()))


if __name__ == "__main__":
    main()
