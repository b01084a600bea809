#!/usr/bin/env python3
"""Holds manifests/monitoring together: what no schema of Kubernetes knows.

    python3 tests/observe/manifests.py

The kinds of the Prometheus Operator have no schema in kubernetes-validate, so their fields are checked here against the
part of the published CRDs that the manifests use. The dashboard is checked for what Grafana needs, the rules for what
every alert has to have, and the documents for a heading for each alert and a row for each metric.
"""

import json
import re
import sys
from pathlib import Path

import yaml

import dashboard as board
from scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
DOCUMENT = ROOT / "docs" / "monitoring.md"

# Field: type, or the fields of an object; a list of one is a list of such. Required ones end with "!".
RELABELING = {
    "sourceLabels": [str],
    "targetLabel": str,
    "regex": str,
    "replacement": str,
    "action": str,
}
ENDPOINT = {
    "port!": str,
    "path": str,
    "interval": str,
    "scrapeTimeout": str,
    "honorLabels": bool,
    "relabelings": [RELABELING],
}
METADATA = {"name!": str, "namespace!": str, "labels!": dict}
SELECTOR = {"matchLabels!": dict}
KINDS = {
    "PodMonitor": {"selector!": SELECTOR, "jobLabel!": str, "podMetricsEndpoints!": [ENDPOINT]},
    "ServiceMonitor": {"selector!": SELECTOR, "jobLabel!": str, "endpoints!": [ENDPOINT]},
    "PrometheusRule": {
        "groups!": [
            {
                "name!": str,
                "rules!": [
                    {
                        "alert": str,
                        "record": str,
                        "expr!": str,
                        "for": str,
                        "labels": dict,
                        "annotations": dict,
                    }
                ],
            }
        ]
    },
}
ACTIONS = {"replace", "keep", "drop", "labeldrop", "labelkeep", "hashmod", "labelmap"}
SEVERITIES = {"critical", "warning", "info"}
PANELS = {"row", "stat", "timeseries", "state-timeline", "table"}
RUNBOOKS = "%s/blob/main/docs/monitoring.md"
METRIC = re.compile(r"\b(?:gpu_device_plugin|process|node(?:_[a-z]+)*:gpu_device_plugin)_[a-z_:0-9]*\b|\bup\b")


def mismatches(value, form, place):
    """Where a value is not of the form."""
    if isinstance(form, type):
        if not isinstance(value, form):
            yield "%s is no %s" % (place, form.__name__)
    elif isinstance(form, list):
        if not isinstance(value, list) or not value:
            yield "%s is no list with something in it" % place
            return
        for index, item in enumerate(value):
            yield from mismatches(item, form[0], "%s[%d]" % (place, index))
    elif not isinstance(value, dict):
        yield "%s is no object" % place
    else:
        fields = {name.rstrip("!"): inner for name, inner in form.items()}
        for name in value.keys() - fields.keys():
            yield "%s has the unknown field %s" % (place, name)
        for name in (name.rstrip("!") for name in form if name.endswith("!")):
            if name not in value:
                yield "%s lacks %s" % (place, name)
        for name in value.keys() & fields.keys():
            yield from mismatches(value[name], fields[name], "%s.%s" % (place, name))


def custom_resource(text, daemonset):
    """What is wrong with a resource of the Prometheus Operator."""
    resource = yaml.safe_load(text)
    kind = resource.get("kind")
    if resource.get("apiVersion") != "monitoring.coreos.com/v1" or kind not in KINDS:
        yield "%s of %s is not known" % (kind, resource.get("apiVersion"))
        return
    form = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": KINDS[kind]}
    wrong = list(mismatches(resource, form, kind))
    yield from wrong
    if wrong or kind == "PrometheusRule":
        return
    spec = resource["spec"]
    pod = daemonset["spec"]["template"]
    labels = pod["metadata"]["labels"]
    ports = [port["name"] for port in pod["spec"]["containers"][0].get("ports", [])]
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        yield "%s selects none of the DaemonSet's pods" % kind
    if labels.get(spec["jobLabel"]) != "gpu-device-plugin":
        yield "%s does not have the job that the rules know" % kind
    for endpoint in spec.get("podMetricsEndpoints", spec.get("endpoints", [])):
        if endpoint["port"] not in ports:
            yield "%s names the port %s, and the DaemonSet has %s" % (kind, endpoint["port"], ports)
        for relabeling in endpoint.get("relabelings", []):
            action = relabeling.get("action", "replace")
            if action not in ACTIONS or action == "replace" and "targetLabel" not in relabeling:
                yield "%s has a relabeling that does nothing: %s" % (kind, relabeling)


def service(document, daemonset):
    """The Service leads to the DaemonSet's port."""
    pod = daemonset["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])}
    port = document["spec"]["ports"][0]
    if ports.get(port["targetPort"]) != port["port"]:
        yield "the Service's port %s is none of the DaemonSet's: %s" % (port, ports)
    if document["metadata"]["annotations"]["prometheus.io/port"] != str(port["port"]):
        yield "the Service's annotation names another port than the Service"


def repository():
    """The address that Cargo.toml states."""
    return re.search(r'^repository = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)


def rules(groups, document, base):
    """Each alert has what a person needs who is woken by it; every runbook is at one address."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    }
    told = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", document, re.MULTILINE))
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    for rule in alerts:
        name, annotations = rule["alert"], rule.get("annotations", {})
        severity = rule.get("labels", {}).get("severity")
        if severity not in SEVERITIES or told.get(name) != severity:
            yield "%s is %s, and %s in the document" % (name, severity, told.get(name))
        for word in ("summary", "description", "runbook_url"):
            if not annotations.get(word):
                yield "%s has no %s" % (name, word)
        address, _, anchor = annotations.get("runbook_url", "").partition("#")
        if address != base or anchor not in headings or anchor != name.lower():
            yield "%s has a runbook that is not there: %s#%s" % (name, address, anchor)
    names = [rule["alert"] for rule in alerts]
    if len(set(names)) != len(names):
        yield "an alert's name is there twice: %s" % names
    for name in told.keys() - set(names):
        yield "the document has the alert %s, and the rules do not" % name


def moved(text, headings):
    """The one command of the document that gives the runbooks another address does."""
    command = next(line.strip("# ") for line in text.splitlines() if "sed -i" in line)
    pattern, replacement = re.search(r"s\|(.*?)\|(.*?)\|", command).groups()
    groups = yaml.safe_load(text.replace(pattern, replacement))["groups"]
    yield from rules(groups, headings, replacement)


def tested(groups):
    """Each alert has a scenario in which it fires; check_alerts.py runs them."""
    fires = {name for scenario in SCENARIOS.values() for name in scenario.alerts}
    for name in (rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule):
        if name not in fires:
            yield "%s fires in no scenario" % name


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries(dashboard):
    """Each panel's title and query, the annotations' included."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def dashboard(value):
    """What is wrong with the dashboard."""
    variables = [variable["name"] for variable in value["templating"]["list"]]
    if variables != ["datasource", "cluster", "node", "page_before", "page_after"]:
        yield "the dashboard has the variables %s" % variables
    if value.get("id") is not None or not value.get("uid") or not value.get("title"):
        yield "the dashboard wants a uid and a title, and no id"
    ids, places = set(), []
    if "repeat" in json.dumps(value):
        yield "the dashboard repeats panels, as many as there are nodes"
    for panel in panels(value):
        title = panel.get("title")
        if not title or panel.get("type") not in PANELS:
            yield "panel %s has no title or no type that is known" % panel.get("id")
        if panel["id"] in ids:
            yield "%s has the id of another panel" % title
        ids.add(panel["id"])
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield "%s reaches over the edge" % title
        for other, taken in places:
            beside = place["x"] >= taken["x"] + taken["w"] or taken["x"] >= place["x"] + place["w"]
            apart = place["y"] >= taken["y"] + taken["h"] or taken["y"] >= place["y"] + place["h"]
            if not (beside or apart):
                yield "%s lies over %s" % (title, other)
        places.append((title, place))
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield "%s has no description" % title
        targets = panel.get("targets", [])
        if not targets:
            yield "%s asks for nothing" % title
        letters = [target["refId"] for target in targets]
        if len(set(letters)) != len(letters):
            yield "%s has two queries of one name" % title
        for each in [panel, *targets]:
            if each.get("datasource", {}).get("uid") != "${datasource}":
                yield "%s does not ask the data source that was chosen" % title
    for title, query in queries(value):
        for used in re.findall(r"\$\{?(\w+)", re.sub(r'"\$1"', "", query)):
            if used not in [*variables, "__rate_interval", "__range"]:
                yield "%s uses the variable %s, which is not there" % (title, used)
        if "$node" not in query:
            yield "%s does not go by the chosen node" % title


def metrics(text):
    return {name for name in METRIC.findall(text)}


def used():
    """Every metric that rules and dashboard name, histograms by their base name, and what the rules record."""
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    expressions += [query for _, query in queries(json.loads((MONITORING / "dashboard.json").read_text()))]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    named = set().union(*(metrics(expression) for expression in expressions))
    return {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in named - recorded - {"up"}}, recorded


def documented():
    """Every metric that has a row in the document."""
    table = DOCUMENT.read_text().partition("## The metrics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def breaks(text, mistake, replacement, daemonset):
    broken = text.replace(mistake, replacement)
    assert broken != text, "the mistake %r changes nothing" % mistake
    return bool(list(custom_resource(broken, daemonset)))


def main():
    found = []
    daemonset = yaml.safe_load((ROOT / "manifests" / "gpu-device-plugin.yaml").read_text())
    texts = {name: (MONITORING / name).read_text() for name in ("podmonitor.yaml", "servicemonitor.yaml", "prometheusrule.yaml")}
    for name, text in texts.items():
        found += ["%s: %s" % (name, wrong) for wrong in custom_resource(text, daemonset)]
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    if yaml.safe_load(texts["prometheusrule.yaml"])["spec"]["groups"] != groups:
        found.append("prometheusrule.yaml and rules.yaml differ: python3 tests/observe/manifests.py --write makes it again")
    found += service(yaml.safe_load((MONITORING / "service.yaml").read_text()), daemonset)
    found += rules(groups, DOCUMENT.read_text(), RUNBOOKS % repository())
    found += moved((MONITORING / "rules.yaml").read_text(), DOCUMENT.read_text())
    found += tested(groups)
    drawn = json.loads((MONITORING / "dashboard.json").read_text())
    found += dashboard(drawn)
    if drawn != board.dashboard():
        found.append("dashboard.json is not what dashboard.py makes: python3 tests/observe/manifests.py --write")
    found += ["%s is not in docs/monitoring.md" % name for name in sorted(used()[0] - documented()) if not name.startswith("process_")]
    for difference in found:
        print("monitoring: " + difference, file=sys.stderr)
    if found:
        sys.exit(1)
    for mistake, replacement in (
        ("jobLabel:", "joblabel:"),
        ("port: http", "port: metrics"),
        ("honorLabels: true", 'honorLabels: "true"'),
        ("targetLabel: node", "target_label: node"),
        ("matchLabels:\n      app.kubernetes.io/name: gpu-device-plugin", "matchLabels:\n      app: gpu-device-plugin"),
    ):
        for name in ("podmonitor.yaml", "servicemonitor.yaml"):
            assert breaks(texts[name], mistake, replacement, daemonset), "%s with %r passed" % (name, replacement)
    print("the monitoring manifests hold together; ten broken ones were rejected")


def write():
    """Makes dashboard.json, and prometheusrule.yaml from rules.yaml."""
    (MONITORING / "dashboard.json").write_text(json.dumps(board.dashboard(), indent=2) + "\n")
    text = (MONITORING / "rules.yaml").read_text()
    body = text[text.index("groups:\n") :]
    head = """\
# The rules of rules.yaml for the Prometheus Operator, made by tests/observe/manifests.py --write.
#
# A Prometheus that selects rules by a label needs that label here (often `release: ...`).
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: gpu-device-plugin
  namespace: kube-system
  labels:
    app.kubernetes.io/name: gpu-device-plugin
spec:
"""
    lines = ("  " + line if line else "" for line in body.splitlines())
    (MONITORING / "prometheusrule.yaml").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    write() if sys.argv[1:] == ["--write"] else main()
