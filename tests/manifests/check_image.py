#!/usr/bin/env python3
"""Looks at the image: its configuration, its files and their licences, and that it has nothing else.

    python3 tests/manifests/check_image.py --config FILE --image DIRECTORY [--release]

With --release, its programs are those of a release, and the size of the whole is looked at.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Beside the programs: glibc's and gcc's libraries, licences, and what names the only user.
FILES = [
    r"usr/bin/(gpu|nvidia)-device-plugin",
    r"usr/bin/(gpu-node-agent|config-manager)",
    r"usr/bin/(mps-control-daemon|mount-shm)",
    r"usr/bin/gpu-cdi-hook",
    *(r"usr/lib/[a-z0-9_]+-linux-gnu/lib%s\.so\.\d" % name for name in ("c", "m", "dl", "rt", "pthread", "gcc_s")),
    r"(usr/lib|usr/lib64)/ld-linux[a-z0-9.-]*",
    r"usr/share/doc/(libc6|libgcc-s1)/copyright",
    r"usr/share/doc/gpu-device-plugin/(LICENSE|THIRD-PARTY)",
    r"usr/share/common-licenses/(GPL-3|LGPL-2.1)",
    r"etc/(debian_version|passwd|group)",
]
# The programs, of which the plugin can be alone.
PLUGIN, PROGRAMS = "usr/bin/gpu-device-plugin", re.compile(r"usr/bin/(?!nvidia-)[a-z-]+")
# Of all but the programs.
MOST_BESIDE = 5_000_000
# Of a release, unpacked: with the plugin alone, and with all programs.
MOST_ALONE, MOST_IN_ALL = 15_000_000, 25_000_000
ENV = {"PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "MALLOC_ARENA_MAX"}


def configuration(config):
    project = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    for name, text in {"version": project["version"], "source": project["repository"], "licenses": project["license"]}.items():
        if labels.get(name) != text:
            yield "the label %s is %r" % (name, labels.get(name))
    for name in ("title", "description", "revision"):
        if not labels.get(name):
            yield "there is no label %s" % name
    if {variable.split("=")[0] for variable in config["Env"]} != ENV:
        yield "its environment is %s" % config["Env"]
    if config["Entrypoint"] != ["/usr/bin/gpu-device-plugin"]:
        yield "it starts %s" % config["Entrypoint"]


def files(image):
    there = [path.relative_to(image).as_posix() for path in image.rglob("*") if not path.is_dir() or path.is_symlink()]
    for name in there:
        # Links such as /bin, and below them what was seen already.
        if name in ("bin", "lib", "lib64") or name.startswith(("bin/", "lib/", "lib64/")):
            continue
        if not any(re.fullmatch(pattern, name) for pattern in FILES):
            yield "it has the file %s" % name
    # NVML names more libraries than the plugin.
    for pattern in FILES:
        if not any(re.fullmatch(pattern, name) for name in there):
            yield "it has no file %s" % pattern
    third = (image / "usr/share/doc/gpu-device-plugin/THIRD-PARTY").read_text()
    for crate in ("clap", "hyper", "kube", "rustls", "serde", "tokio", "tonic"):
        if not re.search(r"^(.*, )?%s \d" % crate, third, re.MULTILINE):
            yield "THIRD-PARTY does not have the licence of %s" % crate


def size(image, is_release):
    """What it takes on a node's disk: the links of it are not counted twice."""
    files = {path.relative_to(image).as_posix(): path.lstat().st_size for path in image.rglob("*") if path.is_symlink() or path.is_file()}
    files = {name: size for name, size in files.items() if not name.startswith(("bin/", "lib/", "lib64/"))}
    programs = {name: size for name, size in files.items() if PROGRAMS.fullmatch(name)}
    total, beside = sum(files.values()), sum(files.values()) - sum(programs.values())
    print("%d bytes: %s, %d beside the programs" % (total, ", ".join("%s %d" % (name.rsplit("/", 1)[-1], size) for name, size in programs.items()), beside))
    if beside > MOST_BESIDE:
        yield "%d bytes beside the programs are more than %d" % (beside, MOST_BESIDE)
    if not is_release:
        return
    alone = beside + programs[PLUGIN]
    if alone > MOST_ALONE:
        yield "%d bytes with the plugin alone are more than %d" % (alone, MOST_ALONE)
    if total > MOST_IN_ALL:
        yield "%d bytes with all programs are more than %d" % (total, MOST_IN_ALL)


def starts(image):
    """Nothing but what is in the image is needed to start it."""
    for program, says in (("nvidia-device-plugin", "commit:"), ("gpu-node-agent", "gpu-node-agent"), ("config-manager", "gpu-node-agent")):
        version = subprocess.run(["chroot", image, "/usr/bin/" + program, "--version"], capture_output=True, text=True)
        if version.returncode or says not in version.stdout:
            yield "%s does not start: %s" % (program, version.stderr)
    for name, text in {"mps-control-daemon": "Start and supervise", "mount-shm": "Mount the shared memory"}.items():
        told = subprocess.run(["chroot", image, "/usr/bin/%s" % name, "--help"], capture_output=True, text=True)
        if told.returncode or text not in told.stdout:
            yield "%s does not start: %s" % (name, told.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--release", action="store_true")
    args = parser.parse_args()
    config = json.loads(args.config.read_text())["OCIv1"]["config"]
    found = [*configuration(config), *files(args.image), *size(args.image, args.release), *starts(args.image)]
    for what in found:
        print("image: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("the image has the programs, their libraries and licences, and nothing else")


if __name__ == "__main__":
    main()
