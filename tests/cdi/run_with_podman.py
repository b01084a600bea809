#!/usr/bin/env python3
"""Has a real container runtime, podman with runc, resolve the names of the plugin's specifications.

    python3 tests/cdi/run_with_podman.py --plugin target/debug/gpu-device-plugin \\
        --nvml-library target/debug/libfake_nvml.so

It needs root: device nodes are made by mknod. For a simulated driver root the plugin writes its
specification, and containers with a device of it get its nodes with their numbers and modes, the
driver's libraries read only, and the variables; others get none of it. The image is a statically
linked busybox.
"""

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

VENDOR = "k8s.device-plugin.nvidia.com"
IMAGE = "localhost/cdi-check:1"
# Set in the process that has a mount namespace of its own.
ALONE = "CDI_CHECK_ALONE"


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

    def run(self, *devices, command):
        return self(
            "run", "--rm", "--network=none", "--security-opt=seccomp=unconfined",
            *self.ulimits, *("--device=%s" % device for device in devices), IMAGE, "/bin/sh", "-c", command,
            check=False,
        )


def make_image(podman, directory):
    """An image of busybox alone."""
    root = directory / "image"
    (root / "bin").mkdir(parents=True)
    (root / "usr/lib64").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or fail("no busybox"), root / "bin/busybox")
    for name in ["sh", "ls", "stat", "cat", "touch", "env", "grep", "readlink"]:
        (root / "bin" / name).symlink_to("busybox")
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    podman("import", str(archive), IMAGE)


def make_driver(root):
    """A driver's installation with device nodes, real ones of harmless devices."""
    libraries = root / "usr/lib64"
    libraries.mkdir(parents=True, exist_ok=True)
    version = "580.95.05"
    for library in ["libcuda", "libnvidia-ml"]:
        (libraries / ("%s.so.%s" % (library, version))).write_text(library)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    smi = root / "usr/bin/nvidia-smi"
    smi.write_text("#!/bin/sh\necho a program of the driver\n")
    smi.chmod(0o755)
    dev = root / "dev"
    dev.mkdir(exist_ok=True)
    # Numbers of /dev/null and /dev/zero, so that a container that opens one does no harm.
    for name, minor, mode in [("nvidiactl", 3, 0o666), ("nvidia-uvm", 5, 0o666), ("nvidia0", 3, 0o660), ("nvidia1", 5, 0o666)]:
        path = dev / name
        path.unlink(missing_ok=True)
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(1, minor))
        path.chmod(mode)
    return version


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
    driver, specifications = scratch / "driver", scratch / "specifications"
    version = make_driver(driver)
    state = scratch / "state.json"
    podman = Podman(scratch)
    make_image(podman, scratch)
    gpus = [
        {"uuid": "GPU-11111111-2222-4333-8444-00000000000%d" % n, "pci_bus_id": "00000000:1%d:00.0" % n, "minor": n}
        for n in range(2)
    ]
    state.write_text(json.dumps({"driver": {"version": version}, "gpus": gpus}))
    environment = {"PATH": os.environ["PATH"], "FAKE_NVML_STATE": str(state)}
    command = [
        arguments.plugin, "cdi", "generate", "--output", specifications,
        "--nvml-library", arguments.nvml_library.resolve(), "--driver-root-ctr-path", driver,
        "--driver-root", driver, "--sysfs-root", scratch, "--proc-root", scratch,
    ]
    specifications.mkdir()
    # An older podman looks in this place alone; this is a mount namespace of our own.
    os.makedirs("/var/run/cdi", exist_ok=True)
    subprocess.run(["mount", "--bind", specifications, "/var/run/cdi"], check=True)
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if made.returncode != 0:
        fail("cdi generate: %s" % made.stderr)
    names = json.loads((specifications / ("%s-gpu.json" % VENDOR)).read_text())
    names = ["%s=%s" % (names["kind"], device["name"]) for device in names["devices"]]
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
        "/dev/nvidia0 1,3 660", "/dev/nvidiactl 1,3 666", "/dev/nvidia-uvm 1,5 666", "libcuda",
        "Read-only file system", "nosuid,nodev", "a program of the driver", "NVIDIA_VISIBLE_DEVICES=void",
    ]:
        if expected not in text:
            fail("a container with %s lacks %r" % (names[0], expected))
    if "nvidia1" in text:
        fail("a container with %s has the other GPU" % names[0])
    both = podman.run(*names, command="ls /dev").stdout.split()
    if not {"nvidia0", "nvidia1", "nvidiactl"} <= set(both):
        fail("a container with both GPUs has %s" % both)
    none = podman.run(command="ls /dev /usr/lib64").stdout
    if "nvidia" in none or "libcuda" in none:
        fail("a container without a device has %s" % none)
    unknown = podman.run("%s/gpu=GPU-none" % VENDOR, command="true")
    if unknown.returncode == 0 or "unresolvable" not in unknown.stderr:
        fail("a name that is in no file was resolved: %s" % unknown.stderr)
    print("podman %s: names are resolved, and one that is in no file is not" % podman("version", "--format={{.Client.Version}}").stdout.strip())


main()
