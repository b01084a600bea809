#!/usr/bin/env python3
"""Has a real container runtime, podman with runc, call the plugin's own hook program.

    python3 tests/cdi/hooks_with_podman.py --plugin target/debug/gpu-device-plugin \\
        --nvml-library target/debug/libfake_nvml.so --hook-program target/ci/gpu-cdi-hook

It needs root and a C compiler. In containers with a device of a simulated driver root the loader
finds libcuda by its SONAME, in an image of glibc and in none without the device; a variable of the
container changes nothing; an image that has links out of itself changes nothing outside. The copy
of the driver's parameters, for which no driver is here, is mounted in a directory, and the limits
of memory, for which no controller is here, are set in a fake tree of cgroups.
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

from run_with_podman import ALONE, OLD, VENDOR, Podman, fail, make_driver

PROBE = """
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) { puts(dlerror()); return 1; }
    int (*version)(void) = dlsym(library, "cuDriverVersion");
    printf("libcuda of driver %d\\n", version ? version() : 0);
    return 0;
}
"""
LIBCUDA = "int cuDriverVersion(void) { return 580; }"


def compile_c(source, path, *arguments):
    subprocess.run(["cc", "-x", "c", "-", "-o", path, *arguments], input=source, text=True, check=True)


def make_libraries(driver, version):
    """libcuda as the driver has it: its file has the version, and its SONAME is another name."""
    library = driver / "usr/lib64" / ("libcuda.so.%s" % version)
    compile_c(LIBCUDA, library, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")


def make_image(podman, directory, name, hostile=None):
    """An image of a program that asks the loader for libcuda, with glibc and no ldconfig."""
    root = directory / name
    (root / "bin").mkdir(parents=True)
    for made in ["usr/lib64", "etc", "lib64"]:
        (root / made).mkdir(parents=True)
    compile_c(PROBE, root / "bin/probe")
    needed = subprocess.run(["ldd", root / "bin/probe"], capture_output=True, text=True, check=True).stdout
    for word in needed.split():
        if word.startswith("/"):
            target = root / word[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
    shutil.copy(shutil.which("busybox") or fail("no busybox"), root / "bin/busybox")
    for tool in ["sh", "cat", "ls", "readlink"]:
        (root / "bin" / tool).symlink_to("busybox")
    if hostile:
        hostile(root)
    archive = directory / ("%s.tar" % name)
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    podman("import", str(archive), "localhost/%s:1" % name)
    return "localhost/%s:1" % name


def specify(arguments, scratch, driver, version):
    """Has the plugin install its program and write the specification that names it."""
    hooks = scratch / "hook"
    hooks.mkdir(mode=0o755)
    state, specifications = scratch / "state.json", scratch / "specifications"
    specifications.mkdir()
    gpu = {"uuid": "GPU-11111111-2222-4333-8444-000000000000", "pci_bus_id": "00000000:10:00.0", "minor": 0}
    state.write_text(json.dumps({"driver": {"version": version}, "gpus": [gpu]}))
    command = [
        arguments.plugin, "cdi", "generate", "--output", specifications,
        "--nvml-library", arguments.nvml_library.resolve(), "--driver-root-ctr-path", driver,
        "--driver-root", driver, "--sysfs-root", scratch, "--proc-root", scratch,
        "--cdi-hook-mode", "self", "--cdi-hook-dir", hooks,
        "--cdi-hook-program", arguments.hook_program.resolve(),
    ]
    environment = {"PATH": os.environ["PATH"], "FAKE_NVML_STATE": str(state)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if made.returncode != 0 or "hook" in made.stderr:
        fail("cdi generate: %s" % made.stderr)
    installed = list(hooks.iterdir())
    if len(installed) != 1 or stat.S_IMODE(installed[0].stat().st_mode) != 0o755:
        fail("the hook program is not installed: %s" % installed)
    text = (specifications / ("%s-gpu.json" % VENDOR)).read_text()
    if str(installed[0]) not in text:
        fail("the specification does not name %s" % installed[0])
    os.makedirs("/var/run/cdi", exist_ok=True)
    subprocess.run(["mount", "--bind", specifications, "/var/run/cdi"], check=True)
    return "%s/gpu=%s" % (VENDOR, gpu["uuid"])


def with_loader(podman, device, image):
    """The loader finds libcuda with the device, however often the container starts, and not without."""
    environment = ["--env=NVIDIA_GPU_MEMORY_LIMIT=1", "--env=LD_PRELOAD=", "--env=NVIDIA_CTK_DEBUG=true"]
    flags = ["--network=none", "--security-opt=seccomp=unconfined", *podman.ulimits, *environment]
    name = "probe"
    podman("create", "--name", name, *flags, "--device=%s" % device, image, "/bin/probe")
    for _ in range(2):
        found = podman("start", "--attach", name, check=False)
        if found.returncode != 0 or "libcuda of driver 580" not in found.stdout:
            fail("the loader does not find libcuda: %s%s" % (found.stdout, found.stderr))
        print(found.stdout.strip())
    podman("rm", name)
    without = podman("run", "--rm", *flags, image, "/bin/probe", check=False)
    if without.returncode == 0:
        fail("without the device the loader finds libcuda: the check cannot fail")
    look = "readlink /usr/lib64/libcuda.so; cat /etc/ld.so.conf.d/*.conf"
    made = podman("run", "--rm", *flags, "--device=%s" % device, image, "/bin/sh", "-c", look)
    if "libcuda.so.1" not in made.stdout or "/usr/lib64" not in made.stdout:
        fail("what the hooks made lacks: %s" % made.stdout)


def with_hostile_image(podman, device, scratch):
    """Links in an image lead nowhere outside of it, and the container does not start, or starts."""
    outside = scratch / "outside"
    outside.mkdir()
    (outside / "ld.so.cache").write_text("of the host")

    def links(root):
        shutil.rmtree(root / "etc")
        (root / "etc").symlink_to(outside)

    image = make_image(podman, scratch, "hostile", links)
    done = podman(
        "run", "--rm", "--network=none", "--security-opt=seccomp=unconfined", *podman.ulimits,
        "--device=%s" % device, image, "/bin/ls", "/", check=False,
    )
    print("an image whose /etc leads out: exit status %d" % done.returncode)
    if sorted(path.name for path in outside.iterdir()) != ["ld.so.cache"]:
        fail("a hook wrote outside of the image: %s" % list(outside.iterdir()))
    if (outside / "ld.so.cache").read_text() != "of the host":
        fail("a hook wrote to a file outside of the image")


def with_parameters(arguments, scratch):
    """The copy of the driver's parameters takes the file's place, and cannot be changed."""
    bundle = scratch / "bundle"
    params = bundle / "rootfs/proc/driver/nvidia/params"
    params.parent.mkdir(parents=True)
    (bundle / "rootfs/dev").mkdir()
    text = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n"
    params.write_text(text)
    (bundle / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}}))
    state = json.dumps({"ociVersion": "1.2.0", "bundle": str(bundle), "pid": os.getpid()})
    command = [arguments.hook_program.resolve(), "disable-device-node-modification"]
    for _ in range(2):
        subprocess.run(command, input=state, text=True, check=True)
        if params.read_text() != text.replace("Files: 1", "Files: 0"):
            fail("the parameters are %r" % params.read_text())
    try:
        params.write_text("changed")
        fail("the copy can be changed")
    except OSError as error:
        print("the copy of the parameters cannot be changed: %s" % error.strerror)
    if list((bundle / "rootfs/dev").iterdir()):
        fail("something is left in /dev")
    subprocess.run(["umount", params], check=True)
    if params.read_text() != text:
        fail("the file itself was changed, or it was mounted twice")


def with_memory_limits(arguments, scratch):
    """In a fake tree of cgroups the limit of the arguments is set, whatever the container's environment says."""
    tree, bundle = scratch / "cgroup", scratch / "limited"
    cgroup = tree / "kubepods.slice/cri-1.scope"
    cgroup.mkdir(parents=True)
    (bundle / "rootfs").mkdir(parents=True)
    for parent in [tree, cgroup.parent]:
        (parent / "cgroup.subtree_control").write_text("cpu memory\n")
    (tree / "dmem.capacity").write_text("nvidia/0000:10:00.0/vidmem 85899345920\n")
    (cgroup / "dmem.max").write_text("")
    environment = {"NVIDIA_GPU_MEMORY_LIMIT": "1", "NVIDIA_GPU_MEMORY_REQUEST": "1"}
    variables = ["%s=%s" % variable for variable in environment.items()]
    (bundle / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}, "process": {"env": variables}}))
    membership = scratch / "membership"
    membership.write_text("0::/kubepods.slice/cri-1.scope\n")
    with subprocess.Popen(["sleep", "600"]) as process:
        places = [(tree, "/sys/fs/cgroup"), (membership, "/proc/%d/cgroup" % process.pid)]
        for source, place in places:
            subprocess.run(["mount", "--bind", source, place], check=True)
        try:
            state = json.dumps({"ociVersion": "1.2.0", "bundle": str(bundle), "pid": process.pid})
            command = [arguments.hook_program.resolve(), "apply-cuda-memory-limits"]
            for limit in [[], ["--limit=00000000:10:00.0=%d" % (4 << 30)]]:
                subprocess.run([*command, *limit], input=state, text=True, env=environment, check=True)
                expected = "nvidia/0000:10:00.0/vidmem 4294967296\n" if limit else ""
                if (cgroup / "dmem.max").read_text() != expected:
                    fail("the limit is %r" % (cgroup / "dmem.max").read_text())
        finally:
            for _, place in places:
                subprocess.run(["umount", place], check=True)
            process.kill()
    for parent in [tree, cgroup.parent]:
        if "+dmem" not in (parent / "cgroup.subtree_control").read_text():
            fail("%s does not pass the controller on" % parent)
    print("a fake tree of cgroups has the limit of the arguments, and not that of the environment")


def main():
    parser = argparse.ArgumentParser()
    for name in ["--plugin", "--nvml-library", "--hook-program"]:
        parser.add_argument(name, required=True, type=Path)
    arguments = parser.parse_args()
    if ALONE not in os.environ:
        os.environ[ALONE] = "yes"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="hooks-") as directory:
        scratch = Path(directory)
        # As a directory of the host's has it that root alone may write to.
        scratch.chmod(0o755)
        with_parameters(arguments, scratch)
        with_memory_limits(arguments, scratch)
        driver = scratch / "driver"
        make_driver(driver)
        make_libraries(driver, OLD)
        podman = Podman(scratch)
        device = specify(arguments, scratch, driver, OLD)
        with_loader(podman, device, make_image(podman, scratch, "glibc"))
        with_hostile_image(podman, device, scratch)


if __name__ == "__main__":
    main()
