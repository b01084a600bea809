#!/usr/bin/env python3
"""A real Prometheus scrapes a simulated node on which all goes wrong that can, and answers every query there is.

    python3 tests/observe/check_with_prometheus.py

It needs prometheus and promtool (Debian's package prometheus), grpcio, protobuf and PyYAML. What is checked:

- `promtool check metrics` has nothing against what the plugin exposes;
- each metric that rules and dashboard name is exposed, and each that is exposed is in docs/monitoring.md with its type
  and its labels;
- each query of the dashboard and each rule that records has an answer while what it is about is so;
- an alert fires;
- with 1,000 such nodes every query of the dashboard answers with few series, and few are asked when it is opened.
"""

import argparse
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import yaml

import manifests
import simulated
from simulated import ROOT, until

sys.path.insert(0, str(ROOT / "tests" / "interop"))
import check_with_grpcio as interop  # noqa: E402

JOB = "gpu-device-plugin"
# What Grafana puts in place of $__rate_interval: some scrapes, of one second each.
RATE = "10s"
UNHEALTHY, BROKEN, HANGING, PARTITIONED = 1, 2, 3, 4
CONFIG = """\
version: v1
flags: {plugin: {customResources: true}}
health: {pollInterval: 1s, callDeadline: 1s, missedCalls: 1}
"""
# A node that is partitioned in many ways.
SHARED = "version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n"
MIG = "h100x8_mig_mixed"
# A fleet of this size; what a panel may draw, and how many queries Grafana may ask for what is not collapsed.
NODES = 1000
MOST_SERIES = {"stat": 1, "table": 200, "timeseries": 45, "state-timeline": 20}
MOST_QUERIES = 20


def promtool(*arguments, text=None):
    answer = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # It has advice beside errors; there is none to be given.
    assert not answer.stderr.strip(), answer.stderr


def families(text):
    """Each metric that is exposed, with its type and its labels."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {name: set() for name in types}
    for name, inner in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        base = name if name in types else re.sub(r"_(?:bucket|count|sum)$", "", name)
        found = set(re.findall(r'([a-z_]+)="', inner))
        labels[base] |= found - {"le"} if types[base] == "histogram" else found
    return {name: (kind, labels[name]) for name, kind in types.items()}


def documented():
    """Each metric of docs/monitoring.md, with its type and its labels."""
    table = manifests.DOCUMENT.read_text().partition("## The metrics")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    quoted = lambda cell: re.findall(r"`([^`]+)`", cell)
    return {name: (row[2].strip(), set(quoted(row[3]))) for row in rows for name in quoted(row[1])}


def check_names(*texts):
    exposed, told = {}, documented()
    for name, (kind, labels) in (family for text in texts for family in families(text).items()):
        exposed[name] = (kind, exposed.get(name, (kind, set()))[1] | labels)
    named, _ = manifests.used()
    missing = sorted(named - exposed.keys())
    assert not missing, "rules or dashboard name what is not exposed: %s" % missing
    own = {name: of for name, of in exposed.items() if name.startswith("gpu_device_plugin_")}
    stated = {name: of for name, of in told.items() if name.startswith("gpu_device_plugin_")}
    assert own == stated, "docs/monitoring.md differs from what is exposed:\n%s" % "\n".join(
        "%s: exposed %s, documented %s" % (name, own.get(name), stated.get(name))
        for name in sorted(own.keys() | stated.keys())
        if own.get(name) != stated.get(name)
    )


class Dcgm(http.server.BaseHTTPRequestHandler):
    """What dcgm-exporter would say of the same GPUs."""

    uuids = []

    def do_GET(self):
        lines = []
        for metric in ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP"):
            lines.append("# TYPE %s gauge" % metric)
            for index, uuid in enumerate(self.uuids):
                lines.append('%s{gpu="%d",UUID="%s",Hostname="sim"} %d' % (metric, index, uuid, index * 10))
        text = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Prometheus:
    """A real one, in a directory that goes with it, on the loopback interface."""

    def __init__(self, directory, targets, interval="1s"):
        directory.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        shutil.copy(manifests.MONITORING / "rules.yaml", directory / "rules.yaml")
        scrapes = [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [{"targets": [target], "labels": {"node": "sim", "cluster": "test"}}],
            }
            for job, target in targets.items()
        ]
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrapes,
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
        promtool("check", "config", directory / "prometheus.yaml")
        command = ["prometheus", "--config.file=%s" % (directory / "prometheus.yaml")]
        command += ["--storage.tsdb.path=%s" % (directory / "data"), "--web.listen-address=" + self.address]
        self.log = (directory / "log").open("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        until("Prometheus is ready", self.ready)
        return self

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=simulated.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if kind is not None:
            self.log.seek(0)
            print("What Prometheus said:\n" + self.log.read())

    def ready(self):
        assert self.process.poll() is None, "prometheus has ended"
        try:
            return simulated.get(self.address, "/-/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path, **parameters):
        code, text = simulated.get(self.address, path + "?" + urllib.parse.urlencode(parameters))
        answer = json.loads(text)
        assert code == 200 and answer["status"] == "success", "%s: %s" % (parameters, text)
        assert not answer.get("warnings"), "%s: %s" % (parameters, text)
        return answer["data"]["result"]

    def query(self, expression):
        """The samples of the answer."""
        # A sample that is no number is nothing that a person can see.
        return [sample for sample in self.ask("/api/v1/query", query=expression) if sample["value"][1] != "NaN"]

    def query_range(self, expression):
        """The series of the last minutes."""
        now = time.time()
        return self.ask("/api/v1/query_range", query=expression, start=now - 300, end=now, step=15)


def filled_in(query, node):
    """A query with what Grafana puts in place of its variables: one node, or the regular expression for all."""
    for variable, value in (("$__rate_interval", RATE), ("$__range", "5m"), ("$cluster", "test" if node else ".*"), ("$node", node or ".*")):
        query = query.replace(variable, value)
    return query


def questions():
    """Every query of the dashboard, and what the rules record, with where it stands."""
    dashboard = json.loads((manifests.MONITORING / "dashboard.json").read_text())
    annotations = [annotation["name"] for annotation in dashboard["annotations"]["list"]]
    for title, query in manifests.queries(dashboard):
        # A start under the same address is not seen here: without the comparison there is a zero.
        query = query.replace(" > 0", "") if title in annotations else query
        yield "dashboard: " + title, filled_in(query, "sim")
        yield "dashboard, all nodes: " + title, filled_in(query, None)
    for group in yaml.safe_load((manifests.MONITORING / "rules.yaml").read_text())["groups"]:
        for rule in (rule for rule in group["rules"] if "record" in rule and "without_healthy" not in rule["record"]):
            yield "record", rule["record"]


class Fleet(http.server.BaseHTTPRequestHandler):
    """Many nodes in the state of one, at one address."""

    text = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, *_):
        pass


def fleet(text):
    """The metrics of one node as those of many, each with GPUs of its own."""
    comments = [line for line in text.splitlines() if line.startswith("# TYPE")]
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    types = {comment.split()[2]: comment for comment in comments}
    by_metric = {}
    for line in samples:
        name = re.match(r"[a-z_]+", line).group()
        by_metric.setdefault(name if name in types else re.sub(r"_(?:bucket|count|sum)$", "", name), []).append(line)
    lines = []
    for name, of_one in by_metric.items():
        lines.append(types[name])
        for node in range(NODES):
            labels = 'node="n%d",instance="n%d",cluster="test"' % (node, node)
            for line in of_one:
                series, value = line.rsplit(" ", 1)
                metric, _, inner = series.partition("{")
                inner = inner.rstrip("}").replace('uuid="GPU-', 'uuid="GPU-%d-' % node)
                lines.append("%s{%s} %s" % (metric, ",".join(filter(None, [inner, labels])), value))
    return ("\n".join(lines) + "\n").encode()


def check_scale(directory, text):
    """Of a fleet, and of one node of it, no panel gets more than it can draw."""
    dashboard = json.loads((manifests.MONITORING / "dashboard.json").read_text())
    visible = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked = sum(len(panel["targets"]) for panel in visible)
    assert asked <= MOST_QUERIES, "%d queries when it is opened" % asked
    Fleet.text = fleet(text)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fleet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    most, slowest = {}, 0
    with Prometheus(directory, {JOB: "127.0.0.1:%d" % server.server_address[1]}, "15s") as prometheus:
        ready = "count(count_over_time(gpu_device_plugin_nvml_up[5m]) >= 2)"
        until("two scrapes", lambda: [one for one in prometheus.query(ready) if one["value"][1] == str(NODES)])
        unbounded = prometheus.query("gpu_device_plugin_device_healthy")
        assert len(unbounded) > max(MOST_SERIES.values()), "the fleet is too small to show that a query is bounded"
        for panel in (panel for panel in manifests.panels(dashboard) if panel["type"] != "row"):
            for node in (None, "n7"):
                begun, series = time.monotonic(), 0
                for target in panel["targets"]:
                    query = filled_in(target["expr"], node)
                    series += len(prometheus.query(query) if target.get("instant") else prometheus.query_range(query))
                slowest = max(slowest, time.monotonic() - begun)
                kind = panel["type"]
                most[kind] = max(most.get(kind, 0), series)
                assert series <= MOST_SERIES[kind], "%s gets %d series of %s" % (panel["title"], series, node or "the fleet")
    server.shutdown()
    print("1,000 nodes: %d queries when it is opened; most series of a panel: %s; slowest panel %.1f s" % (asked, most, slowest))


def all_goes_wrong(node, config):
    """Whatever the plugin can tell of, happens."""
    # Kubelet and pods.
    node.command("allocate 2")
    node.said(r"(pod-0 is admitted)")
    node.command("restart-kubelet")
    node.said(r"(registered again)")
    # GPUs.
    node.command("xid %d 79" % UNHEALTHY)
    node.until_healthy(UNHEALTHY, False)
    until("the pods are known", lambda: node.status()["holdersKnown"])

    def break_them(state):
        gpus = state["gpus"]
        gpus[BROKEN]["recovery_action"] = 1
        rows = gpus[BROKEN].setdefault("remapped_rows", {})
        rows |= {"pending": True, "failure": True}
        gpus[BROKEN]["rules"] = [{"call": "nvmlDeviceGetMemoryInfo", "answer": 999}]
        gpus[HANGING]["rules"] = [{"call": "nvmlDeviceGetMemoryInfo", "hang": True}]
        # With nothing on it, and offered whole.
        gpus[PARTITIONED]["mig"] = {"enabled": True, "devices": []}

    node.edit(break_them)
    for gpu in (BROKEN, HANGING):
        node.until_healthy(gpu, False)
    until("a call hangs", lambda: node.status()["nvml"]["unansweredCalls"] > 0)
    until("a finding", lambda: node.status()["findings"])
    # The configuration: one that is applied and one that is not.
    config.write_text(CONFIG + "devices: '!7'\n")
    until("the configuration is applied", lambda: node.status()["configuration"]["reloadsApplied"] > 0)
    config.write_text(CONFIG + "sharing: yes\n")
    until("the configuration is refused", lambda: node.status()["configuration"]["reloadsRefused"] > 0)


class Kubelet(threading.Thread):
    """One with ideas of its own: it asks for devices all the time, for those that there are and for others."""

    def __init__(self, node):
        super().__init__(daemon=True)
        (socket_path,) = (node.root / "kubelet").glob("nvidia-gpu-*.sock")
        self.uuid = node.gpu(0)["uuid"]
        self.plugin = interop.Plugin(socket_path)
        self.over = threading.Event()
        self.error = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.plugin.channel.close()
        if self.error:
            raise self.error

    def run(self):
        try:
            while not self.over.wait(0.2):
                self.plugin.allocate([self.uuid])
                self.plugin.preferred(["GPU-none"], [], 1)
                try:
                    self.plugin.allocate(["GPU-none"])
                    raise AssertionError("a device that there is not was allocated")
                except interop.grpc.RpcError:
                    pass
        except BaseException as error:
            self.error = error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    args = parser.parse_args()
    promtool("check", "rules", manifests.MONITORING / "rules.yaml")
    with tempfile.TemporaryDirectory(prefix="go", dir="/tmp") as directory:
        directory = Path(directory)
        config = directory / "config.yaml"
        config.write_text(CONFIG)
        dcgm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dcgm)
        threading.Thread(target=dcgm.serve_forever, daemon=True).start()
        with simulated.Node(args, "--mig-strategy", "mixed", profile=MIG) as node:
            partitioned = node.get("/metrics")[1]
            promtool("check", "metrics", text=partitioned)
        shared = directory / "shared.yaml"
        shared.write_text(SHARED)
        with simulated.Node(args, "--config-file", shared, "--mps-root", "/run/nvidia/mps") as node:
            by_mps = node.get("/metrics")[1]
            promtool("check", "metrics", text=by_mps)
        with simulated.Node(args, "--config-file", config, "--expected-gpus", "9") as node:
            Dcgm.uuids = [gpu["uuid"] for gpu in node.status()["gpus"]]
            promtool("check", "metrics", text=node.get("/metrics")[1])
            targets = {JOB: node.address, "dcgm-exporter": "127.0.0.1:%d" % dcgm.server_address[1]}
            with Prometheus(directory / "one", targets) as prometheus:
                until("it is scraped", lambda: prometheus.query('up{job="%s"} == 1' % JOB))
                all_goes_wrong(node, config)
                asked = list(questions())
                with Kubelet(node):
                    for place, query in asked:
                        until("an answer to %s: %s" % (place, query), lambda: prometheus.query(query))
                text = node.get("/metrics")[1]
                promtool("check", "metrics", text=text)
                check_names(text, partitioned, by_mps)
                firing = 'ALERTS{alertname="%s",alertstate="firing",node="sim"}'
                until("an alert", lambda: prometheus.query(firing % "GpuRowRemapFailed"))
                assert not prometheus.query(firing % "GpuNvmlDown")
        dcgm.shutdown()
        check_scale(directory / "fleet", text)
    print("Prometheus has an answer to each of %d queries; promtool has nothing against the metrics" % len(asked))


if __name__ == "__main__":
    main()
