#!/usr/bin/env python3
"""Renders the Helm chart with Helm's own library, for every value set of value_sets.py, and validates what comes of
it. Values that are wrong and charts with a mistake have to be refused.

    python3 tests/manifests/check_chart.py            checks
    python3 tests/manifests/check_chart.py --write    copies the rules and the dashboard into the chart
"""

import argparse
import itertools
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import helm_python as helm
import yaml

from objects import VERSIONS, mistakes
from value_sets import BROKEN, OF_NVIDIA, OWN, PLANTED, TURNED_OFF, container

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "manifests" / "helm" / "gpu-device-plugin"
COPIES = {"rules.yaml": ROOT / "manifests/monitoring/rules.yaml", "dashboard.json": ROOT / "manifests/monitoring/dashboard.json"}
RELEASE, NAMESPACE = "gdp", "gpus"
# What Helm says of a chart without an icon, by severity.
KNOWN = {"icon is recommended"}


def render(chart, values, namespace=NAMESPACE):
    """The objects by file, and the notes."""
    with helm.Chart.load(chart) as loaded:
        files = loaded.render(values, name=RELEASE, namespace=namespace)
    notes = "".join(text for name, text in files.items() if name.endswith("NOTES.txt"))
    texts = (text for name, text in files.items() if not name.endswith((".txt", ".tpl")))
    return [value for text in texts for value in yaml.safe_load_all(text) if value], notes


def is_mps(value):
    """Whether it is that of the MPS control daemons."""
    return value["metadata"]["name"].endswith("-mps")


def daemonset(objects):
    found = [value for value in objects if value["kind"] == "DaemonSet" and not is_mps(value)]
    return found[0] if len(found) == 1 else None


def rights(objects, account):
    """What the roles allow that are bound to a service account."""
    found = set()
    roles = {(value["kind"], value["metadata"].get("namespace"), value["metadata"]["name"]): value for value in objects if "rules" in value}
    for value in objects:
        if not value["kind"].endswith("RoleBinding") or value["subjects"][0]["name"] != account:
            continue
        namespace = value["metadata"].get("namespace")
        role = roles.get((value["roleRef"]["kind"], namespace, value["roleRef"]["name"]))
        for rule in role["rules"] if role else []:
            for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]):
                name = "%s %s" % (verb, ".".join(filter(None, (resource, group))))
                found.add("%s in %s" % (name, namespace) if namespace else name)
    return found


def wrong(chart, expected):
    """What is wrong with what the chart makes of a value set."""
    report = helm.lint(chart, expected.values, strict=True, namespace=NAMESPACE)
    yield from report["errors"]
    yield from (said["error"] for said in report["messages"] if said["error"] not in KNOWN)
    objects, notes = render(chart, expected.values)
    yield from mistakes(objects)
    found = daemonset(objects)
    if not found:
        yield "there is not one DaemonSet"
        return
    pod = found["spec"]["template"]
    main = container(pod)
    env = {entry["name"]: entry.get("value", entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")) for entry in main["env"]}
    for name, value in expected.env.items():
        if env.get(name) != value:
            yield "%s is %r, not %r" % (name, env.get(name), value)
    yield from ("%s is %r" % (name, env[name]) for name in expected.without if name in env)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]].get("hostPath", {}).get("path") for mount in main["volumeMounts"] if mount["name"] in volumes}
    for path, source in expected.host.items():
        if mounted.get(path) != source:
            yield "%s is mounted from %r, not %r" % (path, mounted.get(path), source)
    if expected.adds is not None:
        context = main["securityContext"]
        if context["capabilities"] != {"drop": ["ALL"], **({"add": expected.adds} if expected.adds else {})}:
            yield "the capabilities are %s" % context["capabilities"]
        if "privileged" in context or context["seccompProfile"] != {"type": "RuntimeDefault"} or not context["readOnlyRootFilesystem"]:
            yield "the security context is %s" % context
    agents = [each.get("args") for each in pod["spec"]["containers"] if each["name"] == "node-agent"]
    if agents != ([] if expected.agent is None else [expected.agent]):
        yield "the node agent's arguments are %s, not %s" % (agents, expected.agent)
    if rights(objects, pod["spec"]["serviceAccountName"]) != expected.rights:
        yield "the rights are %s, not %s" % (sorted(rights(objects, pod["spec"]["serviceAccountName"])), sorted(expected.rights))
    kinds = [value["kind"] for value in objects]
    yield from ("there is no %s" % kind for kind in expected.kinds if kind not in kinds)
    yield from ("NOTES do not say %r" % part for part in expected.notes if part not in notes)
    if "{{" in notes or "<no value>" in notes or "%!" in notes:
        yield "NOTES have what was not rendered: %s" % notes
    yield from wrong_mps(objects, found, expected.mps)
    if not expected.more(pod):
        yield "what is special about it is not so"


def wrong_mps(objects, plugin, expected):
    """What is wrong with the DaemonSet of the MPS control daemons; `expected`: whether it has to be there."""
    daemonsets = [value for value in objects if value["kind"] == "DaemonSet" and is_mps(value)]
    if bool(daemonsets) != expected:
        yield "there are %d DaemonSets of MPS control daemons" % len(daemonsets)
    for value in daemonsets:
        labels = value["spec"]["template"]["metadata"]["labels"]
        if plugin["spec"]["selector"]["matchLabels"].items() <= labels.items():
            yield "the plugin's selector matches the pods of MPS"
        root = {volume["name"]: volume["hostPath"]["path"] for volume in value["spec"]["template"]["spec"]["volumes"]}["mps-root"]
        env = {entry["name"]: entry.get("value") for entry in container(plugin["spec"]["template"])["env"]}
        if env.get("MPS_ROOT") != root:
            yield "the daemons are in %s, and the plugin's MPS_ROOT is %s" % (root, env.get("MPS_ROOT"))


def wrong_after_upgrade(scratch):
    """What is wrong with the Jobs after an upgrade, where a cluster has a DaemonSet with an agent of these arguments."""
    chart = scratch / "upgrade" / CHART.name
    shutil.copytree(CHART, chart)
    template = chart / "templates" / "_agent.tpl"
    # Helm asks no cluster here.
    text, found = re.subn(r'lookup "apps/v1" "DaemonSet" \(.*?\) \(.*?\)', '.Files.Get "files/before.yaml" | fromYaml', template.read_text())
    assert found == 1
    template.write_text(text)
    for name, (before, values, args, allowed) in TURNED_OFF.items():
        containers = [{"name": "gpu-device-plugin"}, *([{"name": "node-agent", "args": before}] if before else [])]
        there = {"spec": {"template": {"spec": {"containers": containers}}}} if before else {}
        (chart / "files" / "before.yaml").write_text(yaml.safe_dump(there))
        objects, _ = render(chart, values)
        yield from ("%s: %s" % (name, what) for what in mistakes(objects))
        hooked = [value for value in objects if value["metadata"].get("annotations", {}).get("helm.sh/hook") == "post-upgrade"]
        jobs = [value for value in hooked if value["kind"] == "Job"]
        said = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs]
        if said != ([["cleanup", "--all-nodes", *args]] if args else []):
            yield "%s: the Jobs have the arguments %s" % (name, said)
        if bool(hooked) != bool(args) or (jobs and rights(hooked, jobs[0]["spec"]["template"]["spec"]["serviceAccountName"]) != allowed):
            yield "%s: the rights are not %s: %s" % (name, allowed, hooked)


def refusal(chart, values):
    """What Helm says of values that it does not take."""
    try:
        render(chart, values)
    except helm.HelmError as error:
        return str(error)
    return None


def is_refused(chart, sets):
    """Whether any value set shows that a chart is not right."""
    for expected in sets:
        try:
            found = list(wrong(chart, expected))
        except (helm.HelmError, KeyError) as error:
            found = [error]
        if found:
            return found[0]
    return None


def same_as_the_manifest():
    """The chart's defaults and the manifest that needs no Helm start the same container."""
    manifest = yaml.safe_load((ROOT / "manifests/gpu-device-plugin.yaml").read_text())
    ours = daemonset(render(CHART, {})[0])
    for name, get in {
        "volumes": lambda spec: spec["volumes"],
        "volumeMounts": lambda spec: spec["containers"][0]["volumeMounts"],
        "the affinity": lambda spec: spec["affinity"],
        "the tolerations": lambda spec: sorted(str(sorted(each.items())) for each in spec["tolerations"]),
        **{
            key: lambda spec, key=key: spec["containers"][0][key]
            for key in ("image", "ports", "livenessProbe", "readinessProbe", "startupProbe", "securityContext", "resources", "terminationMessagePath", "terminationMessagePolicy")
        },
        **{key: lambda spec, key=key: spec[key] for key in ("priorityClassName", "nodeSelector", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds")},
    }.items():
        here, there = get(ours["spec"]["template"]["spec"]), get(manifest["spec"]["template"]["spec"])
        if here != there:
            yield "%s: the chart has %s, the manifest %s" % (name, here, there)
    if ours["spec"]["updateStrategy"] != manifest["spec"]["updateStrategy"]:
        yield "the update strategies differ"


def files_of_the_chart():
    """The chart is of this version, and has the rules and the dashboard that are there."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    version = workspace["package"]["version"]
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    if meta["version"] != version or meta["appVersion"] != version:
        yield "Chart.yaml is of %s, and Cargo.toml of %s" % (meta["version"], version)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    if values["image"]["repository"] != workspace["metadata"]["project"]["image"]:
        yield "values.yaml names another image than Cargo.toml"
    for name, source in COPIES.items():
        if (CHART / "files" / name).read_bytes() != source.read_bytes():
            yield "files/%s is not manifests/monitoring/%s: python3 tests/manifests/check_chart.py --write" % (name, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.write:
        for name, source in COPIES.items():
            shutil.copyfile(source, CHART / "files" / name)
        return
    print("Helm %s" % helm.helm_sdk_version())
    found = [*files_of_the_chart(), *same_as_the_manifest()]
    sets = {**OF_NVIDIA, **OWN}
    for name, expected in sets.items():
        found += ["%s: %s" % (name, what) for what in wrong(CHART, expected)]
    for name, (values, says) in BROKEN.items():
        said = refusal(CHART, values)
        if said is None or says not in said:
            found.append("%s: the values pass, or the refusal does not say %r: %s" % (name, says, said))
    if "default" not in (refusal_in_default() or ""):
        found.append("the namespace default passes")
    if render(CHART, {"devicePlugin": {"enabled": False}})[0]:
        found.append("devicePlugin.enabled=false leaves objects")
    with tempfile.TemporaryDirectory() as scratch:
        found += ["after an upgrade, %s" % what for what in wrong_after_upgrade(Path(scratch))]
        for name, (file, right, mistake) in PLANTED.items():
            chart = Path(scratch) / re.sub(r"\W", "-", name) / CHART.name
            shutil.copytree(CHART, chart)
            template = chart / "templates" / file
            text = template.read_text()
            assert right in text, "the mistake %r changes nothing" % name
            template.write_text(text.replace(right, mistake, 1))
            if not is_refused(chart, sets.values()):
                found.append("a chart with %s passed" % name)
    for what in found:
        print("chart: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print(
        "%d value sets rendered, linted and validated against %s; %d wrong ones and %d broken charts were refused; %d upgrades"
        % (len(sets), ", ".join(VERSIONS), len(BROKEN), len(PLANTED), len(TURNED_OFF))
    )


def refusal_in_default():
    try:
        render(CHART, {}, namespace="default")
    except helm.HelmError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
