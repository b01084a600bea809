#!/usr/bin/env python3
"""Builds each overlay of manifests/overlays with kubectl's kustomize, and validates what comes of it; overlays with a
mistake have to be refused. Has systemd verify the unit.

    python3 tests/manifests/check_kustomize.py --kubectl kubectl
    python3 tests/manifests/check_kustomize.py --write              copies the manifest into the base
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from objects import VERSIONS, load, mistakes
from value_sets import container

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
MANIFEST = MANIFESTS / "gpu-device-plugin.yaml"
BASE = MANIFESTS / "base" / "gpu-device-plugin.yaml"
UNIT = MANIFESTS / "systemd" / "gpu-device-plugin.service"


def env(pod):
    return {entry["name"]: entry.get("value") for entry in container(pod)["env"]}


def paths(pod):
    return sorted(volume["hostPath"]["path"] for volume in pod["spec"]["volumes"] if "hostPath" in volume)


KUBELET = ["/var/lib/gpu-device-plugin", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources"]
# What each overlay changes: its kinds, and a check of the pod template.
OVERLAYS = {
    "by-label": (["DaemonSet"], lambda pod: pod["spec"]["nodeSelector"]["gpu-device-plugin"] == "true"),
    "cdi": (
        ["DaemonSet"],
        lambda pod: env(pod)["DEVICE_LIST_STRATEGY"] == "cdi-cri"
        and {"/var/run/cdi", "/var/lib/gpu-cdi-hook", "/sys/fs/cgroup"} <= set(paths(pod)),
    ),
    "least-privilege": (
        ["DaemonSet"],
        lambda pod: paths(pod) == KUBELET
        and pod["spec"]["runtimeClassName"] == "nvidia"
        and container(pod)["securityContext"]
        == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    ),
    "mig": (["DaemonSet"], lambda pod: env(pod)["MIG_STRATEGY"] == "mixed"),
    "mps": (
        ["ConfigMap", "DaemonSet", "DaemonSet"],
        lambda pod: env(pod)["MPS_ROOT"] == "/run/nvidia/mps" and "/run/nvidia/mps/shm" in paths(pod),
    ),
    "monitoring": (["ConfigMap", "DaemonSet", "PodMonitor", "PrometheusRule"], lambda pod: True),
    "node-agent": (
        [
            "ClusterRole",
            "ClusterRoleBinding",
            "ConfigMap",
            "DaemonSet",
            "Role",
            "RoleBinding",
            "ServiceAccount",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ],
        lambda pod: pod["spec"]["containers"][1]["name"] == "node-agent"
        and env(pod)["CONFIG_DIR"] == "/available-configs"
        and env(pod)["STATUS_SOCKET_GID"] == str(pod["spec"]["containers"][1]["securityContext"]["runAsGroup"]),
    ),
    "openshift": (
        ["DaemonSet", "Namespace", "RoleBinding", "ServiceAccount"],
        lambda pod: pod["spec"]["serviceAccountName"] == "gpu-device-plugin",
    ),
    "time-slicing": (["ConfigMap", "DaemonSet"], lambda pod: env(pod)["CONFIG_FILE"] == "/config/config.yaml"),
}
# An overlay, its file, what it says and what the mistake makes of it.
PLANTED = [
    ("least-privilege", "patch.yaml", "$patch: replace", "$patch: merge"),
    ("least-privilege", "patch.yaml", "- name: dev\n", "- name: dve\n"),
    ("mig", "patch.yaml", "value: mixed", "valeu: mixed"),
    ("time-slicing", "kustomization.yaml", "- config.yaml", "- configs.yaml"),
    ("cdi", "patch.yaml", "name: gpu-device-plugin\n          env", "name: plugin\n          env"),
    ("openshift", "scc.yaml", "kind: RoleBinding", "kind: RoleBindin"),
    ("by-label", "kustomization.yaml", "resources:", "resource:"),
    ("mps", "mps.yaml", "hostPID: true", "hostPid: true"),
    ("mps", "mps.yaml", "- name: mps-shm\n              mountPath", "- name: shm\n              mountPath"),
    ("node-agent", "patch.yaml", "value: /available-configs\n          volumeMounts:", "value: /available-configs\n          volumeMounts:\n            - name: api-token\n              mountPath: /token"),
    ("node-agent", "policy.yaml", "kind: ValidatingAdmissionPolicyBinding", "kind: ValidatingAdmissionPolicyBind"),
    ("node-agent", "rbac.yaml", "kind: ClusterRole\n", "kind: ClusterRoles\n"),
]


def build(kubectl, directory):
    built = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True)
    # A field that is out of date is a warning on stderr.
    if built.returncode or built.stderr:
        raise ValueError(built.stderr.strip() or "kubectl failed")
    return load(built.stdout)


def wrong(kubectl, manifests, name):
    kinds, check = OVERLAYS[name]
    try:
        objects = build(kubectl, manifests / "overlays" / name)
    except ValueError as error:
        yield str(error)
        return
    yield from mistakes(objects)
    if sorted(value["kind"] for value in objects) != kinds:
        yield "its kinds are %s" % sorted(value["kind"] for value in objects)
        return
    daemonsets = [value for value in objects if value["kind"] == "DaemonSet"]
    daemonset = next(value for value in daemonsets if value["metadata"]["name"] == "gpu-device-plugin")
    selectors = [str(value["spec"]["selector"]) for value in daemonsets]
    if len(set(selectors)) != len(selectors):
        yield "two DaemonSets select the same pods"
    # Objects of the cluster have none, and Events about Nodes are in a namespace of their own.
    namespaces = {value["metadata"].get("namespace") for value in objects if not value["metadata"]["name"].endswith("-events")}
    if len(namespaces - {None}) != 1:
        yield "its objects are in %s" % namespaces
    pod = daemonset["spec"]["template"]
    if len(pod["spec"]["containers"]) != (2 if name == "node-agent" else 1) or not check(pod):
        yield "what is special about it is not so"


def policies():
    """The policy of the overlay has the rules of the chart's."""
    text = (MANIFESTS / "helm/gpu-device-plugin/files/agent-policy.yaml").read_text()
    for name, value in {"$CONDITION": "GPUUnhealthy", "$TAINT": "", "$POD_EVENTS": "false"}.items():
        text = text.replace(name, value)
    chart = yaml.safe_load(text)
    overlay = load((MANIFESTS / "overlays/node-agent/policy.yaml").read_text())[0]["spec"]
    if {key: overlay[key] for key in chart} != chart:
        yield "overlays/node-agent/policy.yaml has other rules than the chart"


def unit():
    """What systemd says of the unit, and of one with a mistake."""
    with tempfile.TemporaryDirectory() as scratch:
        for text, right in (
            (UNIT.read_text(), True),
            (UNIT.read_text().replace("CapabilityBoundingSet=", "CapabilityBoundSet="), False),
            (UNIT.read_text().replace("ExecStart=/", "ExecStart=./"), False),
        ):
            file = Path(scratch) / UNIT.name
            # The program has to be there; it is not installed here.
            program = shutil.which("true")
            file.write_text(text.replace("/usr/local/bin/gpu-device-plugin", program))
            said = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
            told = [line for line in said.stderr.splitlines() if UNIT.name in line]
            if right and (said.returncode or told):
                yield "systemd: %s" % told
            if not right and not said.returncode and not told:
                yield "systemd takes a unit with a mistake"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubectl", type=Path, default=Path("kubectl"))
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.write:
        shutil.copyfile(MANIFEST, BASE)
        return
    found = list(unit())
    if BASE.read_bytes() != MANIFEST.read_bytes():
        found.append("base/gpu-device-plugin.yaml is not the manifest: python3 tests/manifests/check_kustomize.py --write")
    found += policies()
    there = {directory.name for directory in (MANIFESTS / "overlays").iterdir()}
    if there != OVERLAYS.keys():
        found.append("the overlays are %s" % sorted(there))
    for name in OVERLAYS:
        found += ["overlays/%s: %s" % (name, what) for what in wrong(args.kubectl, MANIFESTS, name)]
    for name, file, right, mistake in PLANTED:
        with tempfile.TemporaryDirectory() as scratch:
            manifests = Path(scratch) / "manifests"
            shutil.copytree(MANIFESTS, manifests)
            patch = manifests / "overlays" / name / file
            text = patch.read_text()
            assert right in text, "the mistake %r changes nothing" % mistake
            patch.write_text(text.replace(right, mistake, 1))
            if not list(wrong(args.kubectl, manifests, name)):
                found.append("overlays/%s with %r passed" % (name, mistake))
    for what in found:
        print("kustomize: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print(
        "%d overlays built and validated against %s, and the unit verified; %d broken ones were refused"
        % (len(OVERLAYS), ", ".join(VERSIONS), len(PLANTED))
    )


if __name__ == "__main__":
    main()
