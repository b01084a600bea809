#!/usr/bin/env python3
"""Checks manifests/examples: each file is explained in two lines and listed; Kubernetes objects are of their schemas,
custom resources of those that a registry or the published fields give; values render; configurations are the plugin's;
requests, quotas and reservations add up. Examples with a mistake have to be refused.

    python3 tests/manifests/check_examples.py --plugin target/debug/gpu-device-plugin --schemas target/ci-npm
"""

import argparse
import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import gpu_requests
import published
import reservations
from check_chart import CHART, render
from example_mistakes import PLANTED
from objects import VERSIONS, against_schemas, load, mismatches
from objects import mistakes as objects_mistakes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "manifests" / "examples"
# Of a newer Kubernetes than some of VERSIONS: the file, and a version that refuses it.
NEWER = {"unhealthy.yaml": "1.30"}
# Names of resources that the plugin offers.
OFFERED = re.compile(r"nvidia\.com/(gpu(\.shared)?|mig-\dg\.\d+gb(\.shared)?)")


class Tools:
    """Programs that are asked, each question once."""

    def __init__(self, plugin, schemas):
        self.plugin, self.schemas = plugin, schemas
        # Methods, so that each object has answers of its own.
        self.of_schema = functools.cache(self._of_schema)
        self.of_plugin = functools.cache(self._of_plugin)

    def _of_schema(self, text):
        """What a published schema says of a custom resource."""
        asked = subprocess.run(["node", "validate.mjs"], cwd=self.schemas, input="[%s]" % text, capture_output=True, text=True, check=True)
        return json.loads(asked.stdout)[0]

    def _of_plugin(self, text):
        """What `config check` says of a ConfigMap or of values."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            asked = subprocess.run([self.plugin, "config", "check", "--strict", file.name], capture_output=True, text=True)
        return "" if asked.returncode == 0 else asked.stdout + asked.stderr


@functools.cache
def rendered(text):
    try:
        return "", render(CHART, yaml.safe_load(text), namespace="gpu-device-plugin")[0]
    except Exception as error:
        return str(error), []


def files():
    """The examples by name, as text; README.md is what lists them."""
    paths = (path for path in sorted(EXAMPLES.rglob("*")) if path.is_file() and path.name != "README.md")
    return {path.relative_to(EXAMPLES).as_posix(): path.read_text() for path in paths}


def explanation(name, text):
    """Two lines of comment, before anything that is not a script's or a mail's first lines."""
    lines = text.splitlines()
    begins = next((at for at, line in enumerate(lines) if line.startswith("# ")), None)
    before = lines[:begins] if begins is not None else lines
    if begins is None or any(not re.match(r"#!|--//|[A-Z][\w-]+: |$", line) for line in before):
        yield "it does not begin with what it is for"
        return
    after = [line.startswith("#") for line in lines[begins : begins + 3]]
    if after != [True, True, False]:
        yield "what it is for is not said in two lines"


def custom(value, tools):
    """What is wrong with a kind that Kubernetes' schemas do not have."""
    kind = "%s %s" % (value.get("apiVersion"), value.get("kind"))
    yield from mismatches(value, published.KINDS[kind], value["kind"])
    if kind in published.WITH_SCHEMA:
        yield from tools.of_schema(json.dumps(value, sort_keys=True))


def kubernetes(name, values):
    """What Kubernetes' schemas say, in all versions that have the fields."""
    refuses = NEWER.get(name)
    if refuses is None:
        yield from objects_mistakes(values)
        return
    for value in values:
        told = list(against_schemas(value))
        newer = [what for what in told if int(what.split(":")[0].rpartition(".")[2]) > int(refuses.rpartition(".")[2])]
        yield from newer
    if all(refuses not in what for value in values for what in against_schemas(value)):
        yield "Kubernetes %s knows all of it" % refuses


def gpus(values):
    """Requests that the API server admits, for resources that the plugin offers."""
    for value in values:
        made = gpu_requests.pod_of(value)
        if made is None:
            continue
        pod, _ = made
        yield from gpu_requests.mistakes(pod)
        wanted = gpu_requests.total(pod)
        if not wanted:
            yield "%s asks for no GPU" % value["metadata"]["name"]
        yield from ("no %s is offered" % name for name in wanted if not OFFERED.fullmatch(name))


def knative(value, flags):
    """What Knative checks when a Service is made, and what it would not do."""
    spec, name = value["spec"], value["metadata"]["name"]
    template = spec["template"]
    revision = template["metadata"]["name"]
    for key, text in template["metadata"]["annotations"].items():
        form = published.KNATIVE_ANNOTATIONS.get(key)
        if form is None or not isinstance(text, str) or not re.fullmatch(form, text):
            yield "the annotation %s: %r" % (key, text)
    if sum(target.get("percent", 0) for target in spec["traffic"]) != 100:
        yield "the percentages of its traffic are not 100"
    named = [target.get("revisionName") for target in spec["traffic"]]
    if revision not in named or any(not str(other).startswith(name + "-") for other in [revision, *named]):
        yield "its revisions are %s, and the template makes %s" % (named, revision)
    if template["spec"]["containerConcurrency"] < 1:
        yield "containerConcurrency sets no limit"
    if template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] != "0":
        yield "it does not scale to zero"
    for field in template["spec"].keys() & published.KNATIVE_FLAGS.keys():
        if flags.get(published.KNATIVE_FLAGS[field]) != "enabled":
            yield "Knative refuses %s without %s" % (field, published.KNATIVE_FLAGS[field])


def of_team(texts):
    """The quota, its limits, and what of the examples a team can start under them."""
    objects = {value["kind"]: value for value in load(texts["quota.yaml"])}
    quota, limits = objects["ResourceQuota"], objects["LimitRange"]
    yield from gpu_requests.quota_mistakes(quota)
    yield from gpu_requests.arithmetic(quota, limits)
    for name in ("cuda-pod.yaml", "job-two-gpus.yaml", "mig.yaml", "time-slicing.yaml"):
        for value in load(texts[name]):
            pod, times = gpu_requests.pod_of(value)
            used = {of: number * (times - 1) for of, number in gpu_requests.total(pod).items()}
            refusals = [*gpu_requests.refused_by_quota(quota, used, pod), *gpu_requests.refused_by_limits(limits, pod)]
            yield from ("%s does not start: %s" % (name, what) for what in refusals)
    if not any("default" in limit or "defaultRequest" in limit for limit in limits["spec"]["limits"]):
        return
    yield "the limits give a GPU to who asks for none"


def together(texts):
    """What one example says of another."""
    for sharing in ("time-slicing", "mps", "mig"):
        config = yaml.safe_load(texts[sharing + ".values.yaml"])
        asked = {name for value in load(texts[sharing + ".yaml"]) for name in gpu_requests.total(gpu_requests.pod_of(value)[0])}
        shared = "renameByDefault" in str(config)
        if asked != ({"nvidia.com/gpu.shared"} if shared else {"nvidia.com/mig-1g.10gb"}):
            yield "%s: its pods ask for %s" % (sharing, asked)
    # Made in this order: a pod of a priority class that is not there yet is refused.
    priority, pod = load(texts["taints.yaml"])
    if pod["spec"]["priorityClassName"] != priority["metadata"]["name"]:
        yield "taints: the pod is of another priority class"
    pod = pod["spec"]
    taint = re.search(r"`kubectl taint nodes NODE (\w+)=(\w+):(\w+)`", texts["taints.yaml"])
    tolerated = [(of.get("key"), of.get("value"), of["effect"]) for of in pod["tolerations"]]
    plugin = yaml.safe_load(texts["taints.values.yaml"])["tolerations"]
    if taint.groups() not in tolerated or not any(of.get("key") == taint.group(1) for of in plugin):
        yield "taints: the pod or the plugin does not tolerate %s" % (taint.groups(),)
    configs = load(texts["two-configs.yaml"])[0]
    chosen = yaml.safe_load(texts["two-configs.values.yaml"])["config"]
    label = re.search(r"`kubectl label node NODE nvidia\.com/device-plugin\.config=(\w+)`", texts["two-configs.values.yaml"])
    if chosen["name"] != configs["metadata"]["name"] or {chosen["default"], label.group(1)} != configs["data"].keys():
        yield "two-configs: the values and the label do not choose between %s" % sorted(configs["data"])
    event = load(texts["unhealthy.yaml"])[1]
    source = "".join(path.read_text() for crate in ("device", "node-agent") for path in (ROOT / "crates" / crate / "src").rglob("*.rs"))
    for said in (event["reason"], event["action"], event["reportingController"], *re.split(r"GPU 7: Xid 79 \(|\); ", event["note"])):
        if said not in source:
            yield "unhealthy: the agent does not say %r" % said


def listed(texts):
    """README.md lists each file once."""
    links = re.findall(r"\]\(([^)#:]+)\)", (EXAMPLES / "README.md").read_text())
    for name in texts:
        if links.count(name) != 1:
            yield "README.md lists %s %d times" % (name, links.count(name))


def single(name, text, tools):
    """What is wrong with one file by itself."""
    yield from explanation(name, text)
    if name.endswith(".values.yaml"):
        error, objects = rendered(text)
        yield from [error] if error else objects_mistakes(objects)
        if "map:" in text and tools.of_plugin(text):
            yield tools.of_plugin(text)
        return
    if name.startswith("reservations/"):
        config, _ = reservations.config_in(name, text)
        if config is not None:
            yield from published.kubelet_mistakes(config, "kubelet")
    if name.endswith((".sh", ".toml", ".mime")):
        yield from other_form(name, text, tools)
        return
    values = load(text)
    if values and all("apiVersion" not in value for value in values):
        yield from mismatches(values[0], published.K3S, "k3s")
        return
    ours = [value for value in values if "%s %s" % (value["apiVersion"], value["kind"]) in published.KINDS]
    for value in ours:
        yield from custom(value, tools)
    yield from kubernetes(name, [value for value in values if value not in ours])
    yield from gpus(values)
    if name == "two-configs.yaml" and tools.of_plugin(text):
        yield tools.of_plugin(text)


def other_form(name, text, tools):
    if name.endswith(".toml"):
        yield from mismatches(reservations.tomllib.loads(text), published.BOTTLEROCKET, "toml")
    elif name.endswith(".mime"):
        yield from custom(reservations.in_mime(text), tools)
    else:
        said = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True).stderr
        unknown = [word for word in reservations.in_shell(text) if word.startswith("--") and " " not in word and word not in published.BOOTSTRAP_FLAGS]
        yield from [said] if said else ["bootstrap.sh has no flag %s" % word for word in unknown]


def wrong(texts, tools):
    """What is wrong with all examples. A file that cannot be read is a mistake too."""
    for name, text in texts.items():
        try:
            yield from ("%s: %s" % (name, what) for what in single(name, text, tools))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
            yield "%s: %r" % (name, error)
    try:
        service = load(texts["knative.yaml"])[0]
        flags = load(texts["knative-features.yaml"])[0]["data"]
        model = yaml.safe_load(texts["reservations/kubelet.yaml"])
        yield from ("knative.yaml: %s" % what for what in knative(service, flags))
        yield from ("knative-features.yaml: there is no %s" % flag for flag in flags if flag not in published.KNATIVE_FLAGS.values())
        yield from of_team(texts)
        yield from together(texts)
        yield from ("kubelet.yaml: %s" % what for what in reservations.formula(model))
        for name, text in texts.items():
            if name.startswith("reservations/"):
                yield from ("%s: %s" % (name, what) for what in reservations.mistakes(name, text, model))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        yield "together: %r" % error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--schemas", type=Path, required=True)
    args = parser.parse_args()
    tools, texts = Tools(args.plugin, args.schemas), files()
    model = yaml.safe_load(texts["reservations/kubelet.yaml"])
    document = reservations.DOCUMENT.read_text()
    found = [*listed(texts), *wrong(texts, tools)]
    found += ["docs/reservations.md: %s" % what for what in reservations.document(model)]
    for name, right, mistake in PLANTED:
        text = document if name == "docs/reservations.md" else texts[name]
        assert right in text, "%s does not have %r" % (name, right)
        broken = text.replace(right, mistake, 1)
        refused = reservations.document(model, broken) if text is document else wrong({**texts, name: broken}, tools)
        if not any(refused):
            found.append("%s with %r for %r passed" % (name, mistake, right))
    for what in found:
        print("examples: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("%d examples hold, against %s and published schemas; %d with a mistake were refused" % (len(texts), ", ".join(VERSIONS), len(PLANTED)))


if __name__ == "__main__":
    main()
