#!/usr/bin/env python3
"""Has `gpu-device-plugin migrate` read NVIDIA's documented values and manifests, and Helm render what it prints: the
objects are valid, and the container has the variables that NVIDIA's had.

    python3 tests/manifests/check_migrate.py --plugin target/debug/gpu-device-plugin
"""

import argparse
import subprocess
import sys
from pathlib import Path

import helm_python as helm
import yaml

import check_chart
from objects import load, mistakes
from value_sets import OF_NVIDIA, container

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ROOT / "src" / "cli" / "migrate" / "tests"
# What is set in another way: by the mounts of the chart, or by a config file of another path.
OTHERWISE = {"CONFIG_FILE", "DRIVER_ROOT_CTR_PATH", "MPS_ROOT"}


def migrated(plugin, text):
    done = subprocess.run([plugin, "migrate"], input=text, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise ValueError(done.stderr.strip())
    return yaml.safe_load(done.stdout)


def env(main):
    return {entry["name"]: entry["value"] for entry in main.get("env", []) if "value" in entry}


def plugins_env(text):
    """The variables of NVIDIA's plugin in manifests."""
    for value in load(text):
        for main in value.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []) if isinstance(value, dict) else []:
            if main.get("name") == "nvidia-device-plugin-ctr" and not main.get("args"):
                yield from env(main).items()


def rendered(plugin, text):
    """The container that comes of an input, and what is wrong."""
    try:
        objects, _ = check_chart.render(check_chart.CHART, migrated(plugin, text))
    except (ValueError, helm.HelmError) as error:
        return None, [str(error)]
    return container(check_chart.daemonset(objects)["spec"]["template"]), list(mistakes(objects))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", type=Path, required=True)
    args = parser.parse_args()
    found = []
    inputs = sorted(INPUTS.glob("*.yaml"))
    for file in inputs:
        text = file.read_text()
        main_container, wrong = rendered(args.plugin, text)
        found += ["%s: %s" % (file.name, what) for what in wrong]
        ours = env(main_container) if main_container else {}
        for name, value in plugins_env(text):
            if name not in OTHERWISE and ours.get(name) != value:
                found.append("%s: %s was %r, and is %r" % (file.name, name, value, ours.get(name)))
    # The same values give the same container with and without the migration, but for its privileges.
    for name, expected in OF_NVIDIA.items():
        if not expected.values:
            continue
        main_container, wrong = rendered(args.plugin, yaml.safe_dump(expected.values))
        found += ["%s: %s" % (name, what) for what in wrong]
        direct = container(check_chart.daemonset(check_chart.render(check_chart.CHART, expected.values)[0])["spec"]["template"])
        if main_container and {**env(direct), "DRIVER_ROOT_CTR_PATH": None} != {**env(main_container), "DRIVER_ROOT_CTR_PATH": None}:
            found.append("%s: the variables are %s, and were %s" % (name, env(main_container), env(direct)))
    for what in found:
        print("migrate: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("%d inputs and %d value sets were migrated and rendered" % (len(inputs), len(OF_NVIDIA) - 1))


if __name__ == "__main__":
    main()
