#!/usr/bin/env python3
"""Has a real container runtime, podman with runc, resolve the names of the plugin's specifications.

    python3 tests/cdi/run_with_podman.py --plugin target/debug/gpu-device-plugin \\
        --nvml-library target/debug/libfake_nvml.so

It needs root: device nodes are made by mknod. For a simulated driver root the plugin writes its
specification, once by `cdi generate` and once as it serves, and containers with a device of it get
its nodes with their numbers and modes, the driver's libraries read only, and the variables; others
get none of it. One of the GPUs is partitioned, and a container with a MIG device has its capabilities
and no others. The driver is upgraded while a container runs: that one keeps what it has, and the
next one gets the new driver. The plugin sees the driver root at another path than the host. The image
is a statically linked busybox.
"""

import argparse
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VENDOR = "k8s.device-plugin.nvidia.com"
IMAGE = "localhost/cdi-check:1"
# Set in the process that has a mount namespace of its own.
ALONE = "CDI_CHECK_ALONE"
SPECIFICATION = "%s-gpu.json" % VENDOR
OLD, NEW = "580.95.05", "590.44.01"
# Long enough that only a failure takes it, on a machine that does much else.
PATIENCE = 120


def fail(text):
    sys.exit("error: %s" % text)


class Podman:
    """podman with everything that it keeps in one directory."""

    # podman would raise them, which not every machine allows.
    ulimits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]

    def __init__(self, directory):
        self.base = [
            "podman",
            "--root=%s" % (directory / "storage"),
            "--runroot=%s" % (directory / "run"),
            "--tmpdir=%s" % (directory / "tmp"),
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
            "--runtime=runc",
        ]

    def __call__(self, *arguments, check=True):
        done = subprocess.run(
            [*self.base, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            fail("podman %s: %s" % (" ".join(arguments), done.stderr.strip()[-600:]))
        return done

    def options(self, devices):
        return [
            "--network=none", "--security-opt=seccomp=unconfined",
            *self.ulimits, *("--device=%s" % device for device in devices), IMAGE,
        ]

    def run(self, *devices, command):
        return self("run", "--rm", *self.options(devices), "/bin/sh", "-c", command, check=False)

    @contextlib.contextmanager
    def running(self, name, *devices):
        """A container that stays; what is run in it is given by the name."""
        self("run", "--detach", "--name=%s" % name, *self.options(devices), "/bin/sleep", "3600")
        try:
            yield lambda command: self("exec", name, "/bin/sh", "-c", command).stdout
        finally:
            self("rm", "--force", "--time=0", name)


def make_image(podman, directory):
    """An image of busybox alone."""
    root = directory / "image"
    (root / "bin").mkdir(parents=True)
    (root / "usr/lib64").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or fail("no busybox"), root / "bin/busybox")
    for name in ["sh", "ls", "stat", "cat", "touch", "env", "grep", "readlink", "sleep"]:
        (root / "bin" / name).symlink_to("busybox")
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    podman("import", str(archive), IMAGE)


def install_libraries(root, version):
    """The driver's libraries; an upgrade removes those of before and makes new ones."""
    libraries = root / "usr/lib64"
    libraries.mkdir(parents=True, exist_ok=True)
    for old in libraries.iterdir():
        old.unlink()
    for library in ["libcuda", "libnvidia-ml"]:
        (libraries / ("%s.so.%s" % (library, version))).write_text("%s of %s" % (library, version))


def make_driver(root):
    """A driver's installation with device nodes, real ones of harmless devices."""
    install_libraries(root, OLD)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    smi = root / "usr/bin/nvidia-smi"
    smi.write_text("#!/bin/sh\necho a program of the driver\n")
    smi.chmod(0o755)
    dev = root / "dev"
    dev.mkdir(exist_ok=True)
    # Numbers of /dev/null and /dev/zero, so that a container that opens one does no harm.
    nodes = [("nvidiactl", 3, 0o666), ("nvidia-uvm", 5, 0o666), ("nvidia0", 3, 0o660), ("nvidia1", 5, 0o666), ("nvidia2", 5, 0o666)]
    nodes += [("nvidia-caps/nvidia-cap%d" % number, 3, 0o444) for number in (1, 66, 67, 75, 76)]
    (dev / "nvidia-caps").mkdir()
    for name, minor, mode in nodes:
        path = dev / name
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(1, minor))
        path.chmod(mode)


class Node:
    """A simulated node with two whole GPUs and a partitioned one, and the plugin on it."""

    def __init__(self, arguments, scratch):
        self.plugin, self.scratch, self.state = arguments.plugin.resolve(), scratch, scratch / "state.json"
        self.driver, self.specifications = scratch / "driver", scratch / "specifications"
        self.log = scratch / "log"
        # Where the driver root is in the plugin's container.
        inside, proc = scratch / "driver-root", scratch / "proc"
        for directory in (self.driver, inside, self.specifications):
            directory.mkdir()
        # An older podman looks for specifications in this place alone; this is a mount namespace of our own.
        os.makedirs("/var/run/cdi", exist_ok=True)
        self.mounts = [(self.driver, inside), (self.specifications, "/var/run/cdi")]
        make_driver(self.driver)
        caps = proc / "driver/nvidia-caps/mig-minors"
        caps.parent.mkdir(parents=True)
        caps.write_text("config 1\n" + "".join(
            "gpu2/gi%d/access %d\ngpu2/gi%d/ci0/access %d\n" % (instance, first, instance, first + 1) for instance, first in [(7, 66), (8, 75)]
        ))
        self.set_driver(version=OLD)
        self.environment = {
            "PATH": os.environ["PATH"], "FAKE_NVML_STATE": str(self.state),
            "NVIDIA_DRIVER_ROOT": str(self.driver), "DEVICE_LIST_STRATEGY": "cdi-cri", "MIG_STRATEGY": "mixed",
        }
        self.flags = [
            "--nvml-library", arguments.nvml_library.resolve(), "--driver-root-ctr-path", inside,
            "--sysfs-root", scratch, "--proc-root", proc, "--cdi-spec-dir", self.specifications,
        ]

    def __enter__(self):
        for source, at in self.mounts:
            subprocess.run(["mount", "--bind", source, at], check=True)
        return self

    def __exit__(self, *_):
        for _, at in self.mounts:
            subprocess.run(["umount", at], check=True)

    def set_driver(self, **driver):
        gpus = [
            {"uuid": "GPU-11111111-2222-4333-8444-00000000000%d" % n, "pci_bus_id": "00000000:1%d:00.0" % n, "minor": n}
            for n in range(3)
        ]
        gpus[2]["mig"] = {
            "enabled": True,
            "devices": [
                {"uuid": "MIG-11111111-2222-4333-8444-0000000000%02d" % instance, "gpu_instance": instance, "compute_instance": 0}
                for instance in (7, 8)
            ],
        }
        following = self.state.with_suffix(".next")
        following.write_text(json.dumps({"driver": driver, "gpus": gpus}))
        following.rename(self.state)

    def generate(self):
        command = [self.plugin, "cdi", "generate", "--output", self.specifications, *self.flags]
        made = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if made.returncode != 0:
            fail("cdi generate: %s" % made.stderr)

    @contextlib.contextmanager
    def serving(self):
        """The plugin serves, with a socket that no kubelet has."""
        command = [
            self.plugin, *self.flags, "--kubelet-socket", self.scratch / "kubelet/kubelet.sock",
            "--state-dir", self.scratch / "state", "--http-address", "", "--pod-resources-socket", "",
            "--config-file", "",
        ]
        (self.scratch / "kubelet").mkdir()
        environment = {**self.environment, "HEALTH_POLL_INTERVAL": "200ms"}
        with open(self.log, "w") as to:
            process = subprocess.Popen(command, env=environment, stdout=to, stderr=to)
        try:
            yield
            if process.poll() is not None:
                fail("the plugin has ended")
        except BaseException:
            print(self.log.read_text())
            raise
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)

    def specification(self):
        try:
            return json.loads((self.specifications / SPECIFICATION).read_text())
        except FileNotFoundError:
            return {"devices": [], "kind": "", "containerEdits": {}}

    def names(self):
        specification = self.specification()
        return ["%s=%s" % (specification["kind"], device["name"]) for device in specification["devices"]]

    def libraries(self):
        return {mount["hostPath"] for mount in self.specification()["containerEdits"].get("mounts", [])}

    def upgrade(self):
        """As an administrator does: the driver is unloaded, its files are replaced, the new one is loaded."""
        self.set_driver(version=OLD, loaded=False)
        until("the plugin sees the driver go", lambda: "driver_not_loaded" in self.log.read_text())
        install_libraries(self.driver, NEW)
        self.set_driver(version=NEW, loaded=True, generation=1)


def until(what, look):
    end = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > end:
            fail("not within %d s: %s" % (PATIENCE, what))
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser()
    for name in ["--plugin", "--nvml-library"]:
        parser.add_argument(name, required=True, type=Path)
    arguments = parser.parse_args()
    if ALONE not in os.environ:
        os.environ[ALONE] = "yes"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="cdi-") as scratch:
        check(arguments, Path(scratch))


def check(arguments, scratch):
    podman = Podman(scratch)
    make_image(podman, scratch)
    with Node(arguments, scratch) as node:
        node.generate()
        resolved(podman, node)
        (node.specifications / SPECIFICATION).unlink()
        with node.serving():
            until("the specification is written", lambda: len(node.names()) == 4)
            resolved(podman, node)
            upgraded(podman, node)
    version = podman("version", "--format={{.Client.Version}}").stdout.strip()
    print("podman %s: names are resolved, over an upgrade of the driver too, and one that is in no file is not" % version)


def resolved(podman, node):
    """Containers get what the specification says, and nothing without a name."""
    names = node.names()
    look = "; ".join([
        "stat -c '%n %t,%T %a' /dev/nvidia*",
        "cat /usr/lib64/libcuda.so.1",
        "touch /usr/lib64/libcuda.so.1 2>&1",
        "grep libcuda.so.1 /proc/mounts",
        "/usr/bin/nvidia-smi",
        "env",
    ])
    one = podman.run(names[0], command=look)
    text = one.stdout + one.stderr
    print(text)
    for expected in [
        "/dev/nvidia0 1,3 660", "/dev/nvidiactl 1,3 666", "/dev/nvidia-uvm 1,5 666", "libcuda of %s" % OLD,
        "Read-only file system", "nosuid,nodev", "a program of the driver", "NVIDIA_VISIBLE_DEVICES=void",
    ]:
        if expected not in text:
            fail("a container with %s lacks %r" % (names[0], expected))
    if "nvidia1" in text or "nvidia-cap" in text:
        fail("a container with %s has another GPU" % names[0])
    both = podman.run(*names[:2], command="ls /dev").stdout.split()
    if not {"nvidia0", "nvidia1", "nvidiactl"} <= set(both) or "nvidia2" in both:
        fail("a container with two GPUs has %s" % both)
    part = podman.run(names[2], command="ls /dev; ls /dev/nvidia-caps; stat -c '%n %a' /dev/nvidia-caps/*").stdout
    if not {"nvidia2", "nvidia-cap66", "nvidia-cap67"} <= set(part.split()) or "/dev/nvidia-caps/nvidia-cap66 444" not in part:
        fail("a container with %s has %s" % (names[2], part))
    if {"nvidia0", "nvidia-cap1", "nvidia-cap75", "nvidia-cap76"} & set(part.split()):
        fail("a container with %s has what is another's: %s" % (names[2], part))
    none = podman.run(command="ls /dev /usr/lib64").stdout
    if "nvidia" in none or "libcuda" in none:
        fail("a container without a device has %s" % none)
    unknown = podman.run("%s/gpu=GPU-none" % VENDOR, command="true")
    if unknown.returncode == 0 or "unresolvable" not in unknown.stderr:
        fail("a name that is in no file was resolved: %s" % unknown.stderr)


def upgraded(podman, node):
    """A container keeps its GPU over an upgrade of the driver, and the next one has the new driver."""
    name = node.names()[0]
    look = "cat /usr/lib64/libcuda.so.1; ls /dev/nvidia0; touch /usr/lib64/libcuda.so.1 2>&1 || true"
    with podman.running("old", name) as run:
        before = run(look)
        if "libcuda of %s" % OLD not in before:
            fail("a container with %s has %s" % (name, before))
        node.upgrade()
        new = {str(node.driver / "usr/lib64" / ("libcuda.so.%s" % NEW)), str(node.driver / "usr/lib64" / ("libnvidia-ml.so.%s" % NEW))}
        until("the specification has the new driver's libraries", lambda: new <= node.libraries())
        if any(OLD in path for path in node.libraries()):
            fail("the specification has libraries of both drivers: %s" % node.libraries())
        after = run(look)
        if after != before:
            fail("a container that runs had %s and has %s" % (before, after))
        following = podman.run(name, command=look)
        if "libcuda of %s" % NEW not in following.stdout:
            fail("the next container has %s" % (following.stdout + following.stderr))


if __name__ == "__main__":
    main()
