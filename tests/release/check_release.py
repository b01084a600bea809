#!/usr/bin/env python3
"""Checks the files of a release: their sums, what the archive has, that Helm takes the chart, that buildah takes the images,
and that the bill of materials is of CycloneDX's schema and names what is in the executables.

    python3 tests/release/check_release.py --files target/release-files
    python3 tests/release/check_release.py --files target/release-files --without-image
"""

import argparse
import fnmatch
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import helm_python as helm
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# What the archive has below its directory, executables and their modes first.
IN_ARCHIVE = {
    "bin/gpu-cdi-hook": 0o755,
    "bin/gpu-device-plugin": 0o755,
    "bin/gpu-node-agent": 0o755,
    "lib/systemd/system/gpu-device-plugin.service": 0o644,
    "share/bash-completion/completions/gpu-cdi-hook": 0o644,
    "share/bash-completion/completions/gpu-device-plugin": 0o644,
    "share/bash-completion/completions/gpu-node-agent": 0o644,
    "share/doc/gpu-device-plugin/CHANGELOG.md": 0o644,
    "share/doc/gpu-device-plugin/LICENSE": 0o644,
    "share/doc/gpu-device-plugin/README.md": 0o644,
    "share/fish/vendor_completions.d/gpu-cdi-hook.fish": 0o644,
    "share/fish/vendor_completions.d/gpu-device-plugin.fish": 0o644,
    "share/fish/vendor_completions.d/gpu-node-agent.fish": 0o644,
    "share/man/man1/gpu-cdi-hook-update-ldcache.1": 0o644,
    "share/man/man1/gpu-cdi-hook.1": 0o644,
    "share/man/man1/gpu-device-plugin-doctor.1": 0o644,
    "share/man/man1/gpu-device-plugin.1": 0o644,
    "share/man/man1/gpu-node-agent-labels.1": 0o644,
    "share/man/man1/gpu-node-agent.1": 0o644,
    "share/zsh/site-functions/_gpu-cdi-hook": 0o644,
    "share/zsh/site-functions/_gpu-device-plugin": 0o644,
    "share/zsh/site-functions/_gpu-node-agent": 0o644,
}
# What the archive for laptops has below its directory.
IN_KUBECTL_GPU = {"kubectl-gpu": 0o755, "kubectl_complete-gpu": 0o755, "LICENSE": 0o644}


def one(directory, pattern):
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        sys.exit("release: there is not one %s: %s" % (pattern, found))
    return found[0]


def sums(directory):
    """Files that have no sum, or another one."""
    text = one(directory, "SHA256SUMS-*").read_text()
    stated = dict(reversed(line.split("  ", 1)) for line in text.splitlines())
    there = {path.name for path in directory.iterdir()} - {one(directory, "SHA256SUMS-*").name, "RELEASE_NOTES.md"}
    if stated.keys() != there:
        yield "sums are of %s, and there are %s" % (sorted(stated), sorted(there))
    for name in stated.keys() & there:
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != stated[name]:
            yield "%s has another sum" % name


def archive(path, inside, programs):
    """What is missing in an archive, or differs from build to build; and whether its programs run."""
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar.getmembers()}
        stem = path.name.removesuffix(".tar.gz")
        for name, mode in inside.items():
            member = members.get("%s/%s" % (stem, name))
            if member is None or member.mode != mode:
                yield "%s: %s is not there, or of another mode" % (path.name, name)
        if any(member.uid or member.gid or member.uname or member.gname for member in members.values()):
            yield "%s: something belongs to somebody" % path.name
        if len({member.mtime for member in members.values()}) != 1 or list(members) != sorted(members):
            yield "%s: it is not sorted, or of several times" % path.name
        with tempfile.TemporaryDirectory() as scratch:
            tar.extractall(scratch, filter="data")
            version = re.search(r"-(\d+\.\d+\.\d+)-", path.name).group(1)
            for program in programs:
                said = subprocess.run([Path(scratch) / stem / program, "--version"], capture_output=True, text=True)
                if version not in said.stdout:
                    yield "%s --version says %r, %r" % (program, said.stdout, said.stderr)


def krew(manifest, archive):
    """What Krew could not install: values that are missing, another sum, files that are not in the archive."""
    text = manifest.read_text()
    value = yaml.safe_load(text)
    if re.search(r"VERSION|TRIPLE|PROCESSOR|SHA256", re.sub(r"^#.*", "", text, flags=re.MULTILINE)):
        yield "%s: it lacks a value" % manifest.name
    (platform,) = value["spec"]["platforms"]
    if platform["sha256"] != hashlib.sha256(archive.read_bytes()).hexdigest() or not platform["uri"].endswith("/" + archive.name):
        yield "%s: it is of another archive" % manifest.name
    with tarfile.open(archive) as tar:
        for file in platform["files"]:
            if not fnmatch.filter(tar.getnames(), file["from"]):
                yield "%s: %s is not in the archive" % (manifest.name, file["from"])


def chart(path):
    try:
        with helm.Chart.load(path) as loaded:
            files = loaded.render({}, name="gdp", namespace="gpus")
        if not any("kind: DaemonSet" in text for text in files.values()):
            yield "%s has no DaemonSet" % path.name
    except helm.HelmError as error:
        yield "%s: %s" % (path.name, error)


def images(directory):
    """What buildah says of the images, and images that would start something else."""
    archives = sorted(directory.glob("*.oci.tar"))
    if [path.name.endswith("-operator.oci.tar") for path in archives] != [True, False]:
        yield "the images are %s" % [path.name for path in archives]
    for path in archives:
        with tempfile.TemporaryDirectory() as scratch:
            buildah = ["buildah", "--storage-driver", "vfs", "--root", scratch + "/root", "--runroot", scratch + "/run"]
            pulled = subprocess.run([*buildah, "pull", "--quiet", "oci-archive:%s" % path], capture_output=True, text=True)
            if pulled.returncode:
                yield "%s: %s" % (path.name, pulled.stderr.strip())
                continue
            told = subprocess.run([*buildah, "inspect", "--type", "image", pulled.stdout.strip()], capture_output=True, text=True, check=True)
            config = json.loads(told.stdout)["OCIv1"]
            if config["config"]["Entrypoint"] != ["/usr/bin/gpu-device-plugin"]:
                yield "%s starts %s" % (path.name, config["config"]["Entrypoint"])
            subprocess.run([*buildah, "rmi", "--all"], capture_output=True, check=True)


def bill(path, with_image):
    text = path.read_text()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        yield "%s: %s" % (path.name, str(error)[:500])
    value = json.loads(text)
    refs = {component["bom-ref"] for component in value["components"]}
    names = {component["name"] for component in value["components"]}
    if len(refs) != len(value["components"]):
        yield "%s: a component is there twice" % path.name
    for dependency in value["dependencies"]:
        if not {dependency["ref"], *dependency["dependsOn"]} <= refs:
            yield "%s: %s depends on what is not there" % (path.name, dependency["ref"])
    # In both executables, in one of them, in the image; and what only builds and tests.
    inside = {"tokio", "nvml-wrapper", "kube", *(["libc6"] if with_image else [])}
    if not inside <= names or names & {"criterion", "proptest", "protox", "syn"}:
        yield "%s: it has what is not in the executables, or lacks something" % path.name


def planted(directory, with_image):
    """What passes though it is broken: a file of other bytes, one more file, and a bill of another form."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "files"
        shutil.copytree(directory, copy)
        text = one(copy, "*.cdx.json").read_text()
        for right, mistake in (('"bomFormat": "CycloneDX"', '"bomFormat": "SPDX"'), ('"name": "kube"', '"name": "cube"'), ('"type": "library"', '"type": "book"')):
            assert right in text, "the bill does not have %s" % right
            one(copy, "*.cdx.json").write_text(text.replace(right, mistake, 1))
            if not list(bill(one(copy, "*.cdx.json"), with_image)):
                yield "a bill with %s passed" % mistake
        if not list(sums(copy)):
            yield "a file of other bytes passed"
        one(copy, "*.cdx.json").write_text(text)
        (copy / "another").write_text("")
        if not list(sums(copy)):
            yield "a file without a sum passed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--without-image", action="store_true")
    args = parser.parse_args()
    directory = args.files
    found = [
        *sums(directory),
        *archive(one(directory, "gpu-device-plugin-*.tar.gz"), IN_ARCHIVE, [name for name in IN_ARCHIVE if name.startswith("bin/")]),
        *archive(one(directory, "kubectl-gpu-*.tar.gz"), IN_KUBECTL_GPU, ["kubectl-gpu"]),
        *krew(one(directory, "*.krew.yaml"), one(directory, "kubectl-gpu-*.tar.gz")),
        *chart(one(directory, "*.tgz")),
        *([] if args.without_image else images(directory)),
        *bill(one(directory, "*.cdx.json"), not args.without_image),
        *planted(directory, not args.without_image),
    ]
    for what in found:
        print("release: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    for path in sorted(directory.iterdir()):
        print("%10d  %s" % (path.stat().st_size, path.name))


if __name__ == "__main__":
    main()
