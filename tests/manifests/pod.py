#!/usr/bin/env python3
"""Starts the container of a rendered pod on a simulated node: simnode runs this in place of the plugin. With --beside it
starts another container on the same node, from within the mount namespace of the first.

It takes from simnode's arguments where the node is, and from a file, which is the last argument, the pod and its image.
In a mount and a network namespace of its own it makes the container as a runtime would: the image's files under an
overlay, the volumes of the pod mounted where the pod says, a read-only root, the user, the capabilities, no_new_privs,
the seccomp profile that podman and CRI-O have by default, the environment and the command. Of a node's root there is
what the pod mounts, and nothing else. What is mounted on the node or in a container later appears in the other one where
the mount's propagation says so.

What it is not: there is no device cgroup, and the process has this machine's list of processes.
"""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

# prctl and mount, which Python does not have.
LIBC = ctypes.CDLL(None, use_errno=True)
# The driver's programs for MPS, and the capability by which NVIDIA's runtime brings each into a container.
MPS_PROGRAMS = {"nvidia-cuda-mps-control": "compute", "nvidia-smi": "utility"}
PROPAGATION = {"None": "--make-rprivate", "HostToContainer": "--make-rslave", "Bidirectional": "--make-rshared"}
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 23, 24, 38
SYS_ADMIN = 21
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
NVML = "libnvidia-ml.so.1"


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def bind(source, target, read_only=False, propagation="None"):
    """A directory or file of the node, at a path of the container."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount("--rbind", source, target)
    mount(PROPAGATION[propagation], target)
    if read_only:
        mount("-o", "remount,bind,ro", target)


class Node:
    """The simulated node, as a root directory that hostPath volumes are taken from."""

    def __init__(self, simulated, scratch):
        self.simulated = simulated
        self.root = scratch / "node"

    def make(self, spec):
        simulated = self.simulated
        self.root.mkdir()
        mount("-t", "tmpfs", "node", self.root)
        mount("--make-shared", self.root)
        if spec["mps_program"]:
            self.add_mps(spec)
        driver = self.root / spec.get("driver_root", "/").lstrip("/")
        for name in ("usr", "dev"):
            bind(simulated / "driver" / name, driver / name)
        if driver != self.root:
            bind(simulated / "driver" / "dev", self.root / "dev")
        for path, text in spec["node_files"].items():
            file = self.root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for path, name in spec["node_paths"].items():
            bind(simulated / name, self.root / path.lstrip("/"))
        # Where each node has the tree of its cgroups.
        (self.root / "sys/fs/cgroup").mkdir(parents=True)
        # The node's own files, next to the simulated device files that lead to them.
        for name, minor in (("null", 3), ("zero", 5), ("urandom", 9)):
            if not (simulated / "driver" / "dev" / name).exists():
                os.mknod(simulated / "driver" / "dev" / name, 0o20666, os.makedev(1, minor))
        state = simulated / "driver" / "usr" / "lib64" / "fake-nvml.json"
        value = json.loads(state.read_text())
        # As the driver: in the /dev of whoever calls.
        value["driver"]["dev_root"] = "/dev"
        state.write_text(json.dumps(value))

    def add_mps(self, spec):
        """The driver's programs for MPS, and what they find: all GPUs, and nothing that goes wrong."""
        for name in MPS_PROGRAMS:
            program = self.simulated / "driver" / "usr" / "bin" / name
            program.parent.mkdir(exist_ok=True)
            shutil.copy(spec["mps_program"], program)
        state = json.loads((self.simulated / "driver" / "usr" / "lib64" / "fake-nvml.json").read_text())
        gpus = [{"uuid": gpu["uuid"], "pci_bus_id": "%04d" % index} for index, gpu in enumerate(state["gpus"])]
        behaviour = self.root / spec["mps_behaviour"].lstrip("/")
        behaviour.parent.mkdir(parents=True)
        behaviour.write_text(json.dumps({"protocol": 2, "gpus": gpus}))

    def path(self, volume):
        """The directory that a volume stands for."""
        host = volume["hostPath"]
        path = self.root / host["path"].lstrip("/")
        # Without a type the kubelet looks at nothing, and the container runtime makes a directory.
        if host.get("type", "") in ("", "DirectoryOrCreate"):
            path.mkdir(parents=True, exist_ok=True)
        elif not path.is_dir():
            sys.exit("hostPath type check failed: %s is not a directory" % host["path"])
        return path


def sources(node, scratch, pod, spec):
    """The directory of each volume."""
    for volume in pod.get("volumes", []):
        name = volume["name"]
        if "hostPath" in volume:
            yield name, node.path(volume)
            continue
        path = scratch / "volumes" / name
        path.mkdir(parents=True)
        if "configMap" in volume:
            # As the kubelet lays them out: links by way of ..data, so that a change is one rename.
            data = path / "..2026_01_01"
            data.mkdir()
            (path / "..data").symlink_to(data.name)
            for key, text in spec["config_maps"][volume["configMap"]["name"]].items():
                (data / key).write_text(text)
                (data / key).chmod(volume["configMap"].get("defaultMode", 0o644))
                (path / key).symlink_to("..data/" + key)
        elif "emptyDir" not in volume and "projected" not in volume:
            sys.exit("no volume of this kind is known: %s" % volume)
        yield name, path


def make_root(node, scratch, container, volumes, spec):
    """The root directory of the container."""
    root = scratch / "root"
    for name in ("upper", "work", "root"):
        (scratch / name).mkdir()
    mount("-t", "overlay", "container", "-o", "lowerdir=%s,upperdir=%s,workdir=%s" % (spec["image"], scratch / "upper", scratch / "work"), root)
    mount("-t", "proc", "proc", root / "proc")
    if (node.simulated / "proc" / "driver").is_dir():
        mount("--rbind", node.simulated / "proc" / "driver", root / "proc" / "driver")
    bind(node.simulated / "sys", root / "sys", read_only=True)
    mount("-t", "tmpfs", "dev", root / "dev")
    for name in ("null", "zero", "urandom"):
        bind(Path("/dev") / name, root / "dev" / name)
    if spec["nvidia_runtime"]:
        nvidia_runtime(node, root, container)
    # A volume in another one comes after it.
    for entry in sorted(container["volumeMounts"], key=lambda entry: entry["mountPath"]):
        source = volumes[entry["name"]]
        if "subPath" in entry:
            source = (source / entry["subPath"]).resolve()
        target = root / entry["mountPath"].lstrip("/")
        bind(source, target, entry.get("readOnly", False), entry.get("mountPropagation", "None"))
    if container.get("terminationMessagePath"):
        message = root / container["terminationMessagePath"].lstrip("/")
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch()
    if container.get("securityContext", {}).get("readOnlyRootFilesystem"):
        mount("-o", "remount,ro", root)
    return root


def nvidia_runtime(node, root, container):
    """What the NVIDIA runtime brings into a container that asks for all GPUs."""
    env = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
    if env.get("NVIDIA_VISIBLE_DEVICES") != "all":
        return
    capabilities = env.get("NVIDIA_DRIVER_CAPABILITIES", "compute,utility").split(",")
    for name, capability in MPS_PROGRAMS.items():
        program = node.simulated / "driver" / "usr" / "bin" / name
        if program.exists() and {capability, "all"} & set(capabilities):
            bind(program, root / "usr" / "bin" / name)
    libraries = root / "usr" / "lib" / (os.uname().machine + "-linux-gnu")
    driver = node.simulated / "driver" / "usr" / "lib64"
    for name in (NVML, "fake-nvml.json"):
        bind(driver / name, libraries / name)
    for device in (node.simulated / "driver" / "dev").iterdir():
        if device.is_symlink():
            (root / "dev" / device.name).symlink_to("/dev/null")


def drop(context):
    """The capabilities and no_new_privs of a security context; of capabilities it knows ALL and SYS_ADMIN."""
    if context.get("privileged"):
        return
    capabilities = context.get("capabilities", {})
    kept = {"SYS_ADMIN": SYS_ADMIN}
    keep = {kept[name] for name in capabilities.get("add", [])}
    if capabilities.get("drop") != ["ALL"]:
        sys.exit("a container that is not privileged keeps capabilities: %s" % context)
    number = 0
    while LIBC.prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        if number not in keep and LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            sys.exit("cannot drop the capability %d" % number)
        number += 1
    if context.get("allowPrivilegeEscalation") is False:
        LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CTL_NNP = 3


def action(rule, name="action", number="errnoRet"):
    return {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000 | rule.get(number, 1)}[rule[name]]


def rules(profile, added):
    """The rules that hold for a container with these capabilities."""
    held = {"CAP_" + name for name in added}
    architecture = ARCHITECTURES[os.uname().machine]
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        if not held.issuperset(includes.get("caps", [])) or held.intersection(excludes.get("caps", [])):
            continue
        if architecture in includes.get("arches", [architecture]) and architecture not in excludes.get("arches", []):
            yield rule


def seccomp(context, spec):
    """Prepares the filter; what is returned puts it in force."""
    if context.get("privileged") or context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        return lambda: None
    profile = json.loads(Path(spec["seccomp"]).read_text())
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.seccomp_init(action(profile, "defaultAction", "defaultErrnoRet")))
    # no_new_privs is the pod's to say.
    library.seccomp_attr_set(handle, CTL_NNP, 0)
    for rule in rules(profile, context.get("capabilities", {}).get("add", [])):
        args = [Comparison(each["index"], OPERATORS[each["op"]], each["value"], each.get("valueTwo", 0)) for each in rule.get("args") or []]
        array = (Comparison * max(len(args), 1))(*args)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            # What this library does not know cannot be called by that name either.
            if number >= 0 and action(rule) != action(profile, "defaultAction", "defaultErrnoRet"):
                failed = library.seccomp_rule_add_array(handle, action(rule), number, len(args), array)
                assert not failed, "%s: %s" % (name, os.strerror(-failed))

    def load():
        failed = library.seccomp_load(handle)
        assert not failed, os.strerror(-failed)

    return load


def loopback():
    """The network namespace of a pod has at least this."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def environment(container, spec):
    env = dict(spec["image_env"])
    for entry in container.get("env", []):
        field = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        env[entry["name"]] = {"spec.nodeName": "node-1", None: entry.get("value", "")}[field]
    return env


def inside(simulated, spec):
    loopback()
    scratch = Path(spec["scratch"])
    mount("-t", "tmpfs", "scratch", scratch)
    node = Node(simulated, scratch)
    node.make(spec)
    # The node agent beside it has nobody to talk to here.
    start(node, scratch, spec["pod"]["spec"]["containers"][0], spec)


def beside(spec):
    scratch = Path(spec["scratch"])
    containers = spec["pod"]["spec"]["initContainers"] + spec["pod"]["spec"]["containers"]
    container = next(each for each in containers if each["name"] == spec["container"])
    place = scratch / spec["container"]
    place.mkdir()
    start(Node(Path(spec["simulated"]), scratch), place, container, spec)


def start(node, scratch, container, spec):
    """Makes the container and becomes its process."""
    pod = spec["pod"]["spec"]
    volumes = dict(sources(node, scratch, pod, spec))
    root = make_root(node, scratch, container, volumes, spec)
    env = environment(container, spec)
    Path(spec["report"]).write_text(json.dumps({"pid": os.getpid(), "env": env}))
    command = [*container.get("command", spec["entrypoint"]), *container.get("args", [])]
    context = container.get("securityContext", {})
    filter_calls = seccomp(context, spec)
    os.chroot(root)
    os.chdir("/")
    os.setgroups(pod.get("securityContext", {}).get("supplementalGroups", []))
    drop(context)
    user = context.get("runAsUser", pod.get("securityContext", {}).get("runAsUser", 0))
    if user:
        os.setgid(user)
        os.setuid(user)
    # Where simnode is killed there is nobody left to stop it.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    program = shutil.which(command[0], path=env["PATH"]) or command[0]
    filter_calls()
    os.execve(program, command, env)


def main():
    *arguments, file = sys.argv[1:]
    spec = json.loads(Path(file).read_text())
    if arguments == ["--beside"]:
        beside(spec)
    if arguments[:1] == ["--inside"]:
        inside(Path(arguments[1]), spec)
    socket_of_kubelet = Path(arguments[arguments.index("--kubelet-socket") + 1])
    simulated = socket_of_kubelet.parent.parent
    # In place of this process, so that simnode's signals come to the plugin.
    os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, __file__, "--inside", str(simulated), file])


if __name__ == "__main__":
    main()
